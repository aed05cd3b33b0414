"""The engine: every unit of the network, wired and started by the static schedule."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.program import Program
from hw.activation_stage import ActivationStage
from hw.convolution import CausalConvolution
from hw.embedding import Embedding
from hw.gated_norm import GatedNorm
from hw.gated_product import GatedProduct
from hw.hadamard import HadamardRotation
from hw.head_scan import HeadScanEngine
from hw.lanes import Lanes
from hw.layer_widths import LayerWidths
from hw.microcode import Microcode
from hw.normalization import ResidualNorm
from hw.output_stage import OutputStage, logit_layout
from hw.parameter_memory import MemoryPlan
from hw.pipeline import index_bits
from hw.probes import probe_widths
from hw.projection import Projection
from hw.scan_engine import ScanEngine
from hw.schedule import Latencies, Schedule, build_schedule
from hw.sequencer import Sequencer, token_layout
from hw.state_access import access_ports, connect_access

SETTLE_MARGIN = 16
"""Cycles added to the last probe's, after which a token has left every register."""


class Engine(wiring.Component):
    """A whole quantized Mamba language model: tokens in, arg-max and logits out.

    Throughput: one token every ``schedule.interval`` cycles when tokens are known ahead, one
    every ``schedule.latency`` cycles plus the host's answer when each is the last arg-max.
    Every probe point p shows its i-th value of a token exactly ``schedule.probes[p][i]`` cycles
    after the token's cycle 0, whatever happens on the streams.

    Parameters
    ----------
    program : the network
    lanes : parallelism and contexts
    plan : where parameter memories live

    Members
    -------
    tokens : in, stream of token, last and, with several contexts, context
    results : out, stream of arg-max with the token's last and context, one a token
    logits : out, stream of value, last and context, V a token while ``emit_logits``
    emit_logits, reset_at_last, hold : in, levels
    selected : in, the context that requests, ``starts_fresh`` and the state access are about
    reset_request, resume_request : in, pulses; see :class:`Sequencer`
    idle, starts_fresh, accepted, running, token_valid : out, for the control registers
    scan_access_*, window_access_* : state access, only while ``idle``
    probe_NAME_valid, probe_NAME_value : out, one pair a probe point

    Raises
    ------
    InputError
        If the lanes do not fit the shape or a hazard remains.
    """

    def __init__(self, *, program: Program, lanes: Lanes, plan: MemoryPlan) -> None:
        lanes.check(program.shape)
        self._program, self._lanes = program, lanes
        self._projection = Projection(program=program, lanes=lanes.mac, plan=plan)
        self._embedding = Embedding(program=program, plan=plan)
        self._norm = ResidualNorm(program=program, plan=plan)
        self._convolution = CausalConvolution(program=program, plan=plan, contexts=lanes.contexts)
        self._activation = ActivationStage(program=program, plan=plan)
        heads = program.shape.heads is not None
        self._scan = (HeadScanEngine if heads else ScanEngine)(
            program=program, scan_lanes=lanes.scan, plan=plan, contexts=lanes.contexts
        )
        self._gated_norm = GatedNorm(program=program, plan=plan) if heads else None
        rotates = program.scheme.rotation_bits is not None
        self._rotation = HadamardRotation(program=program, plan=plan) if rotates else None
        self._gate = None if program.mlps is None else GatedProduct(program=program, plan=plan)
        self._widths = LayerWidths(program=program)
        self.latencies = self._latencies()
        self.schedule: Schedule = build_schedule(program.shape, lanes, self.latencies)
        self._scan.check_recurrence(self.schedule.interval)
        self.probe_widths = probe_widths(program, lanes)
        super().__init__(self._members())

    def _latencies(self) -> Latencies:
        scan, gated_norm = self._scan, self._gated_norm
        heads = isinstance(scan, HeadScanEngine)
        return Latencies(
            embedding=self._embedding.latency,
            residual_probe=self._norm.residual_latency,
            norm=self._norm.latency,
            norm_duration=self._norm.duration,
            convolution=self._convolution.latency,
            activation=self._activation.latency,
            scan_code=self._activation.code_latency,
            scan=scan.latency,
            scan_delta=0 if heads else scan.delta_latency,
            scan_output=scan.scan_output_latency,
            scan_state=scan.state_latency,
            dt_offset=scan.head_offset if heads else scan.projected_offset_dt,
            bc_offset=scan.projected_offset_bc,
            scan_u_offset=scan.scan_u_offset,
            gate_offset=scan.gate_offset,
            head_delta=scan.steps.delta_latency if heads else 0,
            head_decay=scan.steps.decay_latency if heads else 0,
            gated_norm=0 if gated_norm is None else gated_norm.latency,
            scan_duration=scan.duration,
            rotation=0 if self._rotation is None else self._rotation.latency,
            gated_product=0 if self._gate is None else self._gate.latency,
            head_digits=self._program.scheme.head_trits if self._program.scheme.ternary else 1,
            recurrence=scan.hazard_depth,
            logits=0,
            token=OutputStage.token_latency,
            row=self._projection.row_latency,
        )

    def _members(self) -> dict[str, In | Out]:
        contexts = self._lanes.contexts
        token = token_layout(self._program.shape.vocabulary, contexts)
        members: dict[str, In | Out] = {
            "tokens": In(stream.Signature(token)),
            "results": Out(stream.Signature(token)),
            "logits": Out(
                stream.Signature(logit_layout(self._program.scheme.logit_bits, contexts))
            ),
            "selected": In(index_bits(contexts)),
        }
        for name in ("emit_logits", "reset_at_last", "hold", "reset_request", "resume_request"):
            members[name] = In(1)
        for name in ("idle", "starts_fresh", "accepted", "running", "token_valid"):
            members[name] = Out(1)
        members |= access_ports(self._state_units)
        for name, (width, is_signed) in self.probe_widths.items():
            members |= {
                f"probe_{name}_valid": Out(1),
                f"probe_{name}_value": Out(signed(width) if is_signed else width),
            }
        return members

    @property
    def contexts(self) -> int:
        """Return how many contexts the engine keeps apart."""
        return self._lanes.contexts

    @property
    def access_latency(self) -> int:
        """Cycles from an access address to its read data, the slower of both state memories."""
        return max(self._scan.access_latency, self._convolution.access_latency)

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.projection = self._projection
        m.submodules.embedding = self._embedding
        m.submodules.norm = self._norm
        m.submodules.convolution = self._convolution
        m.submodules.activation = self._activation
        m.submodules.scan = self._scan
        m.submodules.widths = self._widths
        if self._gated_norm is not None:
            m.submodules.gated_norm = self._gated_norm
        if self._rotation is not None:
            m.submodules.rotation = self._rotation
        if self._gate is not None:
            m.submodules.gate = self._gate
        shape, schedule = self._program.shape, self.schedule
        settle = max(int(cycles.max()) for cycles in schedule.probes.values()) + SETTLE_MARGIN
        m.submodules.sequencer = sequencer = Sequencer(
            vocabulary=shape.vocabulary,
            interval=schedule.interval,
            settle=settle,
            contexts=self._lanes.contexts,
        )
        late = int((schedule.probes["logits"] >= schedule.interval - 4).sum())
        m.submodules.outputs = outputs = OutputStage(
            vocabulary=shape.vocabulary,
            logit_bits=self._program.scheme.logit_bits,
            late_logits=late,
            contexts=self._lanes.contexts,
        )
        self._connect_control(m, sequencer, outputs)
        self._connect_microcode(m, sequencer, outputs)
        self._connect_data(m, outputs)
        self._connect_access(m)
        self._connect_probes(m, outputs)
        return m

    def _connect_control(self, m: Module, sequencer: Sequencer, outputs: OutputStage) -> None:
        wiring.connect(m, wiring.flipped(self.tokens), sequencer.tokens)
        wiring.connect(m, wiring.flipped(self.results), outputs.tokens)
        wiring.connect(m, wiring.flipped(self.logits), outputs.logits)
        for name in ("reset_at_last", "hold", "selected", "reset_request", "resume_request"):
            m.d.comb += getattr(sequencer, name).eq(getattr(self, name))
        m.d.comb += [
            outputs.emit_logits.eq(self.emit_logits),
            sequencer.room.eq(outputs.room),
            self.idle.eq(sequencer.idle),
            self.starts_fresh.eq(sequencer.starts_fresh),
            self.accepted.eq(self.tokens.valid & self.tokens.ready),
            self.running.eq(sequencer.running),
            self.token_valid.eq(self.tokens.valid),
            self._embedding.token.eq(sequencer.token),
            self._convolution.fresh.eq(sequencer.fresh),
            self._convolution.context.eq(sequencer.context),
            self._scan.fresh.eq(sequencer.fresh),
            self._scan.context.eq(sequencer.context),
        ]

    def _connect_microcode(self, m: Module, sequencer: Sequencer, outputs: OutputStage) -> None:
        """Start every unit in the cycles of the schedule, and tell it the layer."""
        microcode = Microcode(m, self.schedule, sequencer)
        microcode.start_array(self._projection)
        microcode.start_embedding(self._embedding)
        # Elements leave before the next block's scan starts, as out_proj lies between them.
        followers = (self._gated_norm, self._rotation, self._widths)
        microcode.start_scan(self._scan, [unit for unit in followers if unit is not None])
        current = microcode.current_layer(self._program.shape.n_layer, outputs)
        m.d.comb += [self._convolution.layer.eq(current), self._activation.layer.eq(current)]
        if isinstance(self._scan, HeadScanEngine):
            m.d.comb += self._scan.dt_layer.eq(current)

    def _connect_data(self, m: Module, outputs: OutputStage) -> None:
        """Wire the values from unit to unit."""
        projection, norm, scan = self._projection, self._norm, self._scan
        convolution, activation, embedding = self._convolution, self._activation, self._embedding
        row = projection.row

        def connect(
            target: wiring.Component, prefix: str, valid: Value, index: Value, value: Value
        ) -> None:
            m.d.comb += [
                getattr(target, f"{prefix}_valid").eq(valid),
                getattr(target, f"{prefix}_index").eq(index),
                getattr(target, f"{prefix}_value").eq(value),
            ]

        connect(norm, "load", embedding.load_valid, embedding.load_index, embedding.load_value)
        connect(norm, "add", projection.out_valid, row, projection.wide)
        connect(projection, "norm", norm.norm_valid, norm.norm_index, norm.norm_value)
        connect(convolution, "x", projection.x_valid, row, projection.narrow)
        connect(
            activation,
            "mixed",
            convolution.mixed_valid,
            convolution.mixed_index,
            convolution.mixed_value,
        )
        z_valid: Value = projection.z_valid
        if self._gate is not None:
            z_valid = projection.z_valid | projection.mlp_z_valid
            m.d.comb += activation.z_of_mlp.eq(projection.mlp_z_valid)
        connect(activation, "z", z_valid, row, projection.wide)
        connect(
            scan,
            "scan_u",
            activation.scan_u_valid,
            activation.scan_u_index,
            activation.scan_u_value,
        )
        connect(scan, "gate", activation.gate_valid, activation.gate_index, activation.gate_value)
        gated = (scan.gated_valid, scan.gated_index, scan.gated_value)
        if isinstance(scan, HeadScanEngine):
            connect(scan, "dt", projection.dt_valid, row, projection.wide)
            of_group = activation.u_valid & (activation.u_index >= self._program.shape.d_inner)
            m.d.comb += [
                scan.projected_valid.eq(of_group),
                scan.projected_value.eq(activation.u_value),
            ]
        else:
            connect(projection, "u", activation.u_valid, activation.u_index, activation.u_value)
            connect(scan, "projected", projection.projected_valid, row, projection.narrow)
        if (norm_unit := self._gated_norm) is not None:
            m.d.comb += [norm_unit.i_valid.eq(scan.gated_valid), norm_unit.i.eq(scan.gated_value)]
            gated = (norm_unit.normed_valid, norm_unit.normed_index, norm_unit.normed_value)
        if (rotation := self._rotation) is not None:
            m.d.comb += [rotation.i_valid.eq(gated[0]), rotation.i.eq(gated[2])]
            gated = (rotation.rotated_valid, rotation.rotated_index, rotation.rotated_value)
        if (gate := self._gate) is not None:
            connect(
                gate,
                "gate",
                activation.mlp_gate_valid,
                activation.gate_index,
                activation.gate_value,
            )
            connect(gate, "up", projection.up_valid, row, projection.up)
            valid, index, value = gated
            gated = (
                valid | gate.gated_valid,
                Mux(gate.gated_valid, gate.gated_index, index),
                Mux(gate.gated_valid, gate.gated_value, value),
            )
        m.d.comb += self._widths.i.eq(gated[2])
        connect(projection, "gated", gated[0], gated[1], self._widths.o)
        m.d.comb += [
            outputs.valid.eq(projection.logits_valid),
            outputs.index.eq(row),
            outputs.value.eq(projection.logit),
        ]

    @property
    def _state_units(self) -> dict[str, wiring.Component]:
        """The units that have a state, by the name that the registers give it."""
        return {"scan": self._scan, "window": self._convolution}

    def _connect_access(self, m: Module) -> None:
        """Open the state memories to the outside."""
        connect_access(m, self, self._state_units, self.selected)

    def _connect_probes(self, m: Module, outputs: OutputStage) -> None:
        """Show every named value of the golden model."""
        projection, norm, scan = self._projection, self._norm, self._scan
        activation, convolution = self._activation, self._convolution
        points = {
            "residual": (norm.residual_valid, norm.residual_value),
            "norm": (norm.norm_valid, norm.norm_value),
            "x": (projection.x_valid, projection.narrow),
            "convolution": (convolution.mixed_valid, convolution.mixed_value),
            "u": (activation.u_valid, activation.u_value),
            "scan_u": (activation.scan_u_valid, activation.scan_u_value),
            "gate": (activation.gate_valid, activation.gate_value),
            "delta": (scan.delta_valid, scan.delta_value),
            "state": (scan.state_valid, scan.state_value),
            "scan_output": (scan.scan_output_valid, scan.scan_output_value),
            "gated": (scan.gated_valid, scan.gated_value),
            "logits": (projection.logits_valid, projection.logit),
            "token": (outputs.token_valid, outputs.token),
        }
        if isinstance(scan, HeadScanEngine):
            points["dt"] = (projection.dt_valid, projection.wide)
            points["decay"] = (scan.decay_valid, scan.decay_value)
        else:
            points["projected"] = (projection.projected_valid, projection.narrow)
        if (gated_norm := self._gated_norm) is not None:
            points["normed"] = (gated_norm.normed_valid, gated_norm.normed_value)
        if (rotation := self._rotation) is not None:
            points["rotated"] = (rotation.rotated_valid, rotation.rotated_value)
        if (gate := self._gate) is not None:
            points |= {
                "mlp_gate": (activation.mlp_gate_valid, activation.gate_value),
                "up": (projection.up_valid, projection.up),
                "mlp_gated": (gate.gated_valid, self._widths.o),
            }
        # What out_proj reads, whichever unit it comes from.
        mixed = next(name for name in ("rotated", "normed", "gated") if name in points)
        points[mixed] = (points[mixed][0], self._widths.o)
        for name, (valid, value) in points.items():
            m.d.comb += [
                getattr(self, f"probe_{name}_valid").eq(valid),
                getattr(self, f"probe_{name}_value").eq(value),
            ]
