"""The streaming engine: every unit of a frame network, wired in a pipe."""

from __future__ import annotations

from functools import partial
from typing import Any

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.errors import InputError
from golden.program import FeatureEmbedding, Program
from hw.activation_stage import ActivationStage
from hw.average_unit import AverageUnit
from hw.contexts import check_contexts, context_inputs, queued
from hw.convolution import CausalConvolution
from hw.engine import SETTLE_MARGIN
from hw.hadamard import HadamardRotation
from hw.parameter_memory import MemoryPlan
from hw.pipeline import connect_vector
from hw.scan_engine import ScanEngine
from hw.state_access import access_ports, connect_access
from hw.streaming.arrays import build_arrays, enters_whole, input_slots
from hw.streaming.beat_sequencer import BeatSequencer, block_events
from hw.streaming.burst import Burst
from hw.streaming.centred_convolution import CentredConvolution
from hw.streaming.feature_input import FeatureInput, feature_layout
from hw.streaming.frame_head import FrameHead, output_layout
from hw.streaming.frame_sequences import POLICY, FrameSequences
from hw.streaming.matrix_stage import MatrixStage
from hw.streaming.plan import WINDOWS, StreamingPlan
from hw.streaming.probes import connect_probes, streaming_probe_widths
from hw.streaming.residual_norm import StreamingNorm
from hw.streaming.row_input import RowInput

__all__ = ["StreamingEngine"]


class StreamingEngine(wiring.Component):
    """A frame network whose blocks follow each other every beat: features in, outputs out.

    Throughput: one frame every ``plan.frame_interval`` cycles, ``T L beat``. Latency:
    ``plan.latency`` cycles from a frame's first token to its last output. Every probe point p
    shows the i-th value of a token exactly ``plan.probes[p][i]`` cycles after the token's cycle
    0, of a frame ``plan.frame_probes[p][i]`` cycles after its last token's cycle 0, and of a
    projected row ``plan.row_probes[p][i]`` cycles after its own, whatever happens on the streams:
    nothing behind them ever waits.

    Parameters
    ----------
    program : a frame network
    plan : from :func:`hw.streaming.choice.choose_streaming`, for the program's shape and scheme
    realisation : where parameters live, and what multiplies
    persistent : the state can outlive a frame; without it every frame begins with zeros
    contexts : C, streams whose frames may follow each other in any order, each with a state of its
        own; more than one only if ``persistent``

    Members
    -------
    features : in, stream of value, last and, with several contexts, context, F values for each row
        of a frame
    outputs : out, stream of value, last and context, V values a frame
    accepted : out, pulse: the next cycle is a token's cycle 0
    row_accepted : out, pulse: the next cycle is a projected row's cycle 0; silent without patches
    unaligned : out, stays high after a frame without ``last`` at its end
    hold, reset_at_last, reset_request, resume_request, starts_fresh, idle : only if
        ``persistent``: see :class:`hw.streaming.frame_sequences.FrameSequences`
    selected : in, with several contexts only: the one that the requests, ``starts_fresh`` and the
        state access are about
    running, token_valid, scan_access_*, window_access_* : only if ``persistent``: for the control
        registers; state access only while ``idle``
    probe_NAME_valid, probe_NAME_value : out, one pair a probe point

    Raises
    ------
    InputError
        If the network has no frames, a value would be overwritten before it is used, or there are
        contexts but nothing persists.
    """

    def __init__(
        self,
        *,
        program: Program,
        plan: StreamingPlan,
        realisation: MemoryPlan,
        persistent: bool = False,
        contexts: int = 1,
    ) -> None:
        if program.shape.frame is None or not isinstance(program.front, FeatureEmbedding):
            raise InputError(
                "the streaming organisation needs a frame network; "
                "use the shared organisation for a language model"
            )
        if check_contexts(contexts) > 1 and not persistent:
            raise InputError(
                f"contexts = {contexts}, but every frame begins with zeros, so that there is no "
                "state to keep apart; add --persistent or use 1"
            )
        self._program, self._front, self._realisation = program, program.front, realisation
        self.plan, self.contexts = plan, contexts
        self.probe_widths = streaming_probe_widths(program, plan.lanes)
        scheme = program.scheme
        members = {
            "features": In(stream.Signature(feature_layout(scheme.feature_bits, contexts))),
            "outputs": Out(stream.Signature(output_layout(scheme.logit_bits, contexts))),
            "accepted": Out(1),
            "row_accepted": Out(1),
            "unaligned": Out(1),
        }
        for name, (width, is_signed) in self.probe_widths.items():
            members[f"probe_{name}_valid"] = Out(1)
            members[f"probe_{name}_value"] = Out(signed(width) if is_signed else width)
        self._stages = build_arrays(program, plan, realisation)
        self._build_units()
        self._sequences: FrameSequences | None = None
        if persistent:
            members |= self._persist()
        super().__init__(members)

    def _persist(self) -> dict[str, In | Out]:
        """Keep sequences of frames; return the ports of their policy and of the state."""
        ends = [int(p.max()) for p in (self.plan.probes | self.plan.frame_probes).values()]
        self._sequences = FrameSequences(settle=max(ends) + SETTLE_MARGIN, contexts=self.contexts)
        members: dict[str, In | Out] = {name: In(1) for name in POLICY}
        members |= context_inputs(self.contexts, "selected")
        members |= {name: Out(1) for name in ("starts_fresh", "idle", "running", "token_valid")}
        return members | access_ports(self._state_units)

    @property
    def _units(self) -> dict[str, Any]:
        """The units between the arrays by name, those that the network has, but the rotation."""
        names = ("input", "norm", "convolution", "activation", "gate", "scan", "head")
        found = {name: getattr(self, f"_{name}") for name in names}
        return {name: unit for name, unit in found.items() if unit is not None}

    @property
    def _state_units(self) -> dict[str, Any]:
        """The units that have a state, by the name that the registers give it."""
        windows = isinstance(self._convolution, CausalConvolution)
        return {"scan": self._scan} | ({"window": self._convolution} if windows else {})

    @property
    def access_latency(self) -> int:
        """Cycles from an access address to its read data, the slowest of the state memories."""
        return max(unit.access_latency for unit in self._state_units.values())

    def _build_units(self) -> None:
        """Make what stands between the arrays; a mixer's units stand behind the same names."""
        program, plan, realisation = self._program, self.plan, self._realisation
        shape, slots = program.shape, plan.slots
        assert shape.frame is not None
        self._input: RowInput | FeatureInput
        if shape.frame.patch is not None:
            self._input = RowInput(
                program=program,
                lanes=plan.lanes.rows,
                windows=WINDOWS,
                pace=plan.frame_interval,
                plan=realisation,
                contexts=self.contexts,
            )
        else:
            self._input = FeatureInput(
                frame=shape.frame,
                bits=program.scheme.feature_bits,
                slots=input_slots(program),
                whole=enters_whole(program),
                contexts=self.contexts,
            )
        self._norm = StreamingNorm(program=program, slots=slots["residual"], plan=realisation)
        self._activation = ActivationStage(program=program, plan=realisation)
        self._gate = self._convolution = None
        if shape.gated:
            self._gate = ActivationStage(program=program, plan=realisation, prefix="gate_")
        if shape.convolved and shape.average is not None:
            self._convolution = CentredConvolution(program=program, plan=realisation)
        elif shape.convolved:
            self._convolution = CausalConvolution(
                program=program, plan=realisation, contexts=self.contexts
            )
        if shape.average is None:
            kind: Any = partial(ScanEngine, scan_lanes=plan.lanes.scan)
        else:
            kind = AverageUnit
        self._scan = kind(
            program=program, plan=realisation, slots=slots["scan"], contexts=self.contexts
        )
        rotates = program.scheme.rotation_bits is not None
        self._rotation = HadamardRotation(program=program, plan=realisation) if rotates else None
        self._head = FrameHead(
            program=program,
            hidden_lanes=plan.lanes.hidden,
            head_lanes=plan.lanes.head,
            hidden_slots=slots.get("hidden", 1),
            head_slots=slots["head"],
            frames=plan.frames_under_way + 1,
            plan=realisation,
            contexts=self.contexts,
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        for name, stage in self._stages.items():
            m.submodules[f"{name}_array"] = stage
        for name, unit in self._units.items():
            m.submodules[name] = unit
        sequencer = self._sequence(m)
        self._connect_front(m, sequencer)
        self._connect_block(m, sequencer)
        self._connect_norm(m, sequencer)
        units = self._units | {"rotation": self._rotation}
        connect_probes(m, self, self.probe_widths, self._stages, units)
        return m

    def _sequence(self, m: Module) -> BeatSequencer:
        """Add the sequencer, and let the units know their blocks."""
        plan, shape = self.plan, self._program.shape
        assert shape.frame is not None
        m.submodules.sequencer = sequencer = BeatSequencer(
            layers=shape.n_layer,
            tokens=shape.frame.tokens,
            slots=plan.slots["residual"],
            turns=shape.d_conv if enters_whole(self._program) else 1,
            contexts=self.contexts,
            beat=plan.beat,
            hop=plan.hop,
            events=block_events(plan),
        )
        m.d.comb += [
            sequencer.offered.eq(self._input.offered),
            self._input.taken.eq(sequencer.taken),
            self._input.freed.eq(sequencer.freed_start),
            self._head.entered.eq(sequencer.taken & (sequencer.position == 0)),
            self.accepted.eq(sequencer.taken),
            self.row_accepted.eq(self._input.row_taken if isinstance(self._input, RowInput) else 0),
            self.unaligned.eq(self._input.unaligned),
        ]
        self._keep_sequences(m, sequencer, shape.frame.tokens)
        for name, stage in self._stages.items():
            if name == "front":
                continue
            tag = getattr(sequencer, f"{name}_tag")
            m.d.comb += [
                stage.start.eq(getattr(sequencer, f"{name}_start")),
                stage.layer.eq(tag.layer),
                stage.row_set.eq(tag.layer),
            ]
        return sequencer

    def _keep_sequences(self, m: Module, sequencer: BeatSequencer, tokens: int) -> None:
        """Say which frames may enter, and which begin with zeros: all, unless states persist."""
        first, room = sequencer.position == 0, self._head.room
        if (sequences := self._sequences) is None:
            m.d.comb += [sequencer.room.eq(room), sequencer.fresh.eq(first)]
            return
        m.submodules.sequences = sequences
        m.d.comb += [
            sequencer.room.eq(room & sequences.open),
            sequencer.fresh.eq(sequences.fresh),
            sequences.taken.eq(sequencer.taken),
            sequences.first.eq(first),
            sequences.last.eq(sequencer.position == tokens - 1),
            *(getattr(sequences, name).eq(getattr(self, name)) for name in POLICY),
            self.starts_fresh.eq(sequences.starts_fresh),
            self.idle.eq(sequences.idle),
            # What the registers count as a stall is a frame that neither hold nor room lets in.
            self.token_valid.eq(self._input.offered & first),
            self.running.eq(room & sequences.open),
        ]
        if isinstance(self._scan, AverageUnit):
            m.d.comb += self._scan.idle.eq(sequences.idle)
        several = self.contexts > 1
        connect_access(m, self, self._state_units, self.selected if several else None)
        if several:
            self._name_contexts(m, sequencer, sequences)

    def _name_contexts(
        self, m: Module, sequencer: BeatSequencer, sequences: FrameSequences
    ) -> None:
        """Keep the context of each frame that arrives until its last token entered."""
        context = queued(
            m,
            self.features.p.context,
            frames=self._input.frames,
            put=self._input.begins,
            take=sequencer.taken & sequences.last,
        )
        m.d.comb += [
            sequences.selected.eq(self.selected),
            *(unit.context.eq(context) for unit in (sequences, sequencer, self._head)),
        ]

    def _connect_front(self, m: Module, sequencer: BeatSequencer) -> None:
        """From the features to the residual: array, and a ring that makes its rows one burst."""
        wiring.connect(m, wiring.flipped(self.features), self._input.features)
        wiring.connect(m, self._head.outputs, wiring.flipped(self.outputs))
        front, norm = self._stages["front"], self._norm
        connect_vector(m, front, "i", self._input, "o")
        m.d.comb += [
            front.start.eq(sequencer.front_start),
            front.row_set.eq(sequencer.front_tag.position),
            norm.load_slot.eq(sequencer.loaded_tag.slot),
        ]
        self._burst(m, "load", front, sequencer.load_start, self.plan.slots["load"])

    def _burst(self, m: Module, name: str, stage: MatrixStage, start: Signal, slots: int) -> None:
        """Collect a stage's rows and hand them to the norm one after another."""
        burst = Burst(size=self._program.shape.d_model, width=len(stage.o_value), slots=slots)
        m.submodules[f"{name}_burst"] = burst
        connect_vector(m, burst, "i", stage, "o")
        m.d.comb += burst.start.eq(start)
        connect_vector(m, self._norm, name, burst, "o")

    def _connect_block(self, m: Module, sequencer: BeatSequencer) -> None:
        """From the norm through the block to the rows of out_proj."""
        stages, norm, scan, activation = self._stages, self._norm, self._scan, self._activation
        connect_vector(m, stages["x"], "i", norm, "norm")
        if self._convolution is None:
            connect_vector(m, activation, "mixed", stages["x"], "o")
        else:
            self._connect_convolution(m, sequencer, self._convolution)
        connect_vector(m, stages["projected"], "i", activation, "u")
        connect_vector(m, scan, "scan_u", activation, "scan_u")
        if (gate := self._gate) is not None:
            connect_vector(m, stages["z"], "i", norm, "norm")
            connect_vector(m, gate, "z", stages["z"], "o")
            connect_vector(m, scan, "gate", gate, "gate")
            m.d.comb += gate.layer.eq(sequencer.gate_tag.layer)
        m.d.comb += activation.layer.eq(sequencer.u_tag.layer)
        self._connect_mixer(m, sequencer)
        if (rotation := self._rotation) is None:
            connect_vector(m, stages["out"], "i", scan, "gated")
        else:
            m.submodules.rotation = rotation
            m.d.comb += [
                rotation.i_valid.eq(scan.gated_valid),
                rotation.i.eq(scan.gated_value),
                rotation.layer.eq(sequencer.rotation_tag.layer),
            ]
            connect_vector(m, stages["out"], "i", rotation, "rotated")

    def _connect_convolution(
        self,
        m: Module,
        sequencer: BeatSequencer,
        convolution: CausalConvolution | CentredConvolution,
    ) -> None:
        """From the rows of x to SiLU, as they come or in sweeps."""
        connect_vector(m, convolution, "x", self._stages["x"], "o")
        connect_vector(m, self._activation, "mixed", convolution, "mixed")
        tag = sequencer.convolution_tag
        if isinstance(convolution, CausalConvolution):
            self._tell_block(m, convolution, tag)
            return
        swept = sequencer.mix_tag
        m.d.comb += [
            convolution.x_layer.eq(tag.layer),
            convolution.x_turn.eq(tag.turn),
            convolution.start.eq(sequencer.mix_start),
            convolution.layer.eq(swept.layer),
            convolution.turn.eq(swept.turn),
            convolution.position.eq(swept.position),
        ]

    def _connect_mixer(self, m: Module, sequencer: BeatSequencer) -> None:
        """From the rows that were projected from u to scan or average, with their block's tag."""
        rows, scan = self._stages["projected"], self._scan
        if isinstance(scan, ScanEngine):
            connect_vector(m, scan, "projected", rows, "o")
            tag = sequencer.scan_tag
            m.d.comb += scan.start.eq(sequencer.scan_start)
        else:
            connect_vector(m, scan, "argument", rows, "o")
            tag = sequencer.average_tag
        self._tell_block(m, scan, tag)

    def _tell_block(self, m: Module, unit: wiring.Component, tag: data.View) -> None:
        """Tell a unit with a state which block's values come, and whose state it goes on from."""
        m.d.comb += [unit.layer.eq(tag.layer), unit.fresh.eq(tag.fresh)]
        if self.contexts > 1:
            m.d.comb += unit.context.eq(tag.context)

    def _connect_norm(self, m: Module, sequencer: BeatSequencer) -> None:
        """From the rows of out_proj to the residual, and from the frame's mean to the head."""
        norm, tag = self._norm, sequencer.added_tag
        self._burst(m, "add", self._stages["out"], sequencer.add_start, self.plan.slots["add"])
        tokens = self._program.shape.frame
        assert tokens is not None
        m.d.comb += [
            norm.add_slot.eq(tag.slot),
            norm.add_layer.eq(tag.layer),
            norm.add_first.eq(tag.position == 0),
            norm.add_last.eq(tag.position == tokens.tokens - 1),
            self._head.i_valid.eq(norm.final_valid),
            self._head.i_index.eq(norm.norm_index),
            self._head.i_value.eq(norm.norm_value),
        ]
