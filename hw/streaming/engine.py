"""The streaming engine: every unit of a frame network, wired in a pipe."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.errors import InputError
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import FeatureEmbedding, Program
from hw.activation_stage import ActivationStage
from hw.convolution import CausalConvolution
from hw.hadamard import HadamardRotation
from hw.parameter_memory import MemoryPlan
from hw.scan_engine import ScanEngine
from hw.streaming.beat_sequencer import BeatSequencer, BlockEvent
from hw.streaming.burst import Burst
from hw.streaming.feature_input import FeatureInput, feature_layout
from hw.streaming.matrix_stage import MatrixStage
from hw.streaming.plan import (
    FRONT_START,
    StreamingLanes,
    StreamingPlan,
)
from hw.streaming.pooled_head import PooledHead, output_layout
from hw.streaming.residual_norm import StreamingNorm

__all__ = ["StreamingEngine", "streaming_probe_widths"]


def connect(
    m: Module, target: wiring.Component, to: str, source: wiring.Component, prefix: str
) -> None:
    """Wire valid, index and value of one unit to another's."""
    m.d.comb += [
        getattr(target, f"{to}_{part}").eq(getattr(source, f"{prefix}_{part}"))
        for part in ("valid", "index", "value")
    ]


INPUT_SLOTS = 3
"""Tokens of input: one read, one waiting, one being written."""


def streaming_probe_widths(program: Program, lanes: StreamingLanes) -> dict[str, tuple[int, bool]]:
    """Return width and signedness of every probe point, in the order of the network."""
    scheme, bits = program.scheme, program.scheme.activation_bits
    rotated = {} if scheme.rotation_bits is None else {"rotated": (bits, True)}
    return {
        "residual": (scheme.residual_bits, True),
        "norm": (bits, True),
        "x": (bits, True),
        "convolution": (ACTIVATION_INPUT_BITS, True),
        "u": (bits, True),
        "scan_u": (scheme.scan_storage_bits, scheme.dual_scale is None),
        "projected": (bits, True),
        "gate": (scheme.gate_bits, True),
        "delta": (scheme.delta_bits, False),
        "state": (lanes.scan * scheme.state_bits, False),
        "scan_output": (scheme.scan_output_bits, True),
        "gated": (scheme.gated_bits, True),
        **rotated,
        "pooled": (scheme.residual_bits, True),
        "final_norm": (bits, True),
        "hidden": (bits, True),
        "logits": (scheme.logit_bits, True),
    }


class StreamingEngine(wiring.Component):
    """A frame network whose blocks follow each other every beat: features in, outputs out.

    Throughput: one frame every ``plan.frame_interval`` cycles, ``T L beat``. Latency:
    ``plan.latency`` cycles from a frame's first token to its last output. Every probe point p
    shows the i-th value of a token exactly ``plan.probes[p][i]`` cycles after the token's cycle
    0, and of a frame ``plan.frame_probes[p][i]`` cycles after its last token's cycle 0, whatever
    happens on the streams: nothing inside ever waits.

    Parameters
    ----------
    program : a frame network
    plan : from :func:`hw.streaming.choice.choose_streaming`, for the program's shape and scheme
    realisation : where parameters live, and what multiplies

    Members
    -------
    features : in, stream of value and last, T F values a frame
    outputs : out, stream of value and last, V values a frame
    accepted : out, pulse: the next cycle is a token's cycle 0
    unaligned : out, stays high after a frame without ``last`` at its end
    probe_NAME_valid, probe_NAME_value : out, one pair a probe point

    Raises
    ------
    InputError
        If the network has no frames, or a value would be overwritten before it is used.
    """

    def __init__(self, *, program: Program, plan: StreamingPlan, realisation: MemoryPlan) -> None:
        if program.shape.frame is None or not isinstance(program.front, FeatureEmbedding):
            raise InputError(
                "the streaming organisation needs a frame network; "
                "use the shared organisation for a language model"
            )
        self._program, self._front, self._realisation = program, program.front, realisation
        self.plan = plan
        self.probe_widths = streaming_probe_widths(program, plan.lanes)
        scheme = program.scheme
        members = {
            "features": In(stream.Signature(feature_layout(scheme.feature_bits))),
            "outputs": Out(stream.Signature(output_layout(scheme.logit_bits))),
            "accepted": Out(1),
            "unaligned": Out(1),
        }
        for name, (width, is_signed) in self.probe_widths.items():
            members[f"probe_{name}_valid"] = Out(1)
            members[f"probe_{name}_value"] = Out(signed(width) if is_signed else width)
        super().__init__(members)
        self._build_arrays()
        self._build_units()

    def _build_arrays(self) -> None:
        """Make the arrays of embedding and block; their weights hold all layers."""
        program, plan, front = self._program, self.plan, self._front
        scheme, e = program.scheme, program.shape.d_inner
        layers, shifts = program.scan_layers, program.scan_shifts
        array = partial(MatrixStage, plan=self._realisation)
        block = partial(array, weight_bits=scheme.weight_bits, input_bits=scheme.activation_bits)
        self._stages = {
            "front": array(
                name="front",
                weights=[front.projection.weight],
                shifts=[program.feature_shift] * len(front.bias),
                biases=list(front.bias),
                weight_bits=scheme.embedding_bits,
                input_bits=scheme.feature_bits,
                output_bits=scheme.residual_bits,
                lanes=plan.lanes.front,
                slots=INPUT_SLOTS,
            ),
            "x": block(
                name="x",
                weights=[layer.in_proj.weight[:e] for layer in layers],
                shifts=[shift.x for shift in shifts],
                output_bits=scheme.activation_bits,
                lanes=plan.lanes.x,
                slots=plan.slots["x"],
            ),
            "z": block(
                name="z",
                weights=[layer.in_proj.weight[e:] for layer in layers],
                shifts=[shift.z for shift in shifts],
                output_bits=ACTIVATION_INPUT_BITS,
                lanes=plan.lanes.z,
                slots=plan.slots["z"],
            ),
            "projected": block(
                name="projected",
                weights=[layer.x_proj.weight for layer in layers],
                shifts=[shift.projected for shift in shifts],
                output_bits=scheme.activation_bits,
                lanes=plan.lanes.projected,
                slots=plan.slots["u"],
            ),
            "out": block(
                name="out",
                weights=[layer.out_proj.weight for layer in layers],
                shifts=[shift.out for shift in shifts],
                output_bits=scheme.residual_bits,
                lanes=plan.lanes.out,
                slots=plan.slots["gated"],
            ),
        }

    def _build_units(self) -> None:
        """Make what stands between the arrays."""
        program, plan, realisation = self._program, self.plan, self._realisation
        lanes, slots = plan.lanes, plan.slots
        assert program.shape.frame is not None
        self._input = FeatureInput(
            frame=program.shape.frame, bits=program.scheme.feature_bits, slots=INPUT_SLOTS
        )
        self._norm = StreamingNorm(program=program, slots=slots["residual"], plan=realisation)
        self._convolution = CausalConvolution(program=program, plan=realisation)
        self._activation = ActivationStage(program=program, plan=realisation)
        self._gate = ActivationStage(program=program, plan=realisation, prefix="gate_")
        self._scan = ScanEngine(
            program=program, scan_lanes=lanes.scan, plan=realisation, slots=slots["scan"]
        )
        rotates = program.scheme.rotation_bits is not None
        self._rotation = HadamardRotation(program=program, plan=realisation) if rotates else None
        self._head = PooledHead(
            program=program,
            hidden_lanes=lanes.hidden,
            head_lanes=lanes.head,
            hidden_slots=slots["hidden"],
            head_slots=slots["head"],
            frames=plan.frames_under_way + 1,
            plan=realisation,
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        for name, stage in self._stages.items():
            m.submodules[f"{name}_array"] = stage
        for name in ("input", "norm", "convolution", "activation", "gate", "scan", "head"):
            m.submodules[name] = getattr(self, f"_{name}")
        sequencer = self._sequence(m)
        self._connect_front(m, sequencer)
        self._connect_block(m, sequencer)
        self._connect_norm(m, sequencer)
        self._connect_probes(m)
        return m

    def _sequence(self, m: Module) -> BeatSequencer:
        """Add the sequencer, and let the units know their blocks."""
        plan, shape = self.plan, self._program.shape
        assert shape.frame is not None
        front = plan.stages["front"]
        cycles = {
            "x": 0,
            **plan.starts,
            **plan.tags,
        }
        events = {name: BlockEvent(plan.origin + cycle) for name, cycle in cycles.items()}
        events |= {
            "front": BlockEvent(FRONT_START, token=True),
            "freed": BlockEvent(FRONT_START + front.duration + 1, token=True),
            "load": BlockEvent(plan.load, token=True),
            "loaded": BlockEvent(plan.load + 1, token=True),
        }
        m.submodules.sequencer = sequencer = BeatSequencer(
            layers=shape.n_layer,
            tokens=shape.frame.tokens,
            slots=plan.slots["residual"],
            beat=plan.beat,
            hop=plan.hop,
            events=events,
        )
        m.d.comb += [
            sequencer.offered.eq(self._input.offered),
            sequencer.room.eq(self._head.room),
            self._input.taken.eq(sequencer.taken),
            self._input.freed.eq(sequencer.freed_start),
            self._head.entered.eq(sequencer.taken & (sequencer.position == 0)),
            self.accepted.eq(sequencer.taken),
            self.unaligned.eq(self._input.unaligned),
        ]
        for name in ("x", "z", "projected", "out"):
            stage, tag = self._stages[name], getattr(sequencer, f"{name}_tag")
            m.d.comb += [
                stage.start.eq(getattr(sequencer, f"{name}_start")),
                stage.layer.eq(tag.layer),
                stage.row_set.eq(tag.layer),
            ]
        return sequencer

    def _connect_front(self, m: Module, sequencer: BeatSequencer) -> None:
        """From the features to the residual: array, and a ring that makes its rows one burst."""
        wiring.connect(m, wiring.flipped(self.features), self._input.features)
        wiring.connect(m, self._head.outputs, wiring.flipped(self.outputs))
        front, norm = self._stages["front"], self._norm
        connect(m, front, "i", self._input, "o")
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
        connect(m, burst, "i", stage, "o")
        m.d.comb += burst.start.eq(start)
        connect(m, self._norm, name, burst, "o")

    def _connect_block(self, m: Module, sequencer: BeatSequencer) -> None:
        """From the norm through the block to the rows of out_proj."""
        stages, norm, scan = self._stages, self._norm, self._scan
        convolution, activation, gate = self._convolution, self._activation, self._gate
        for name in ("x", "z"):
            connect(m, stages[name], "i", norm, "norm")
        connect(m, convolution, "x", stages["x"], "o")
        connect(m, activation, "mixed", convolution, "mixed")
        connect(m, stages["projected"], "i", activation, "u")
        connect(m, scan, "scan_u", activation, "scan_u")
        connect(m, scan, "projected", stages["projected"], "o")
        connect(m, gate, "z", stages["z"], "o")
        connect(m, scan, "gate", gate, "gate")
        if (rotation := self._rotation) is None:
            connect(m, stages["out"], "i", scan, "gated")
        else:
            m.submodules.rotation = rotation
            m.d.comb += [
                rotation.i_valid.eq(scan.gated_valid),
                rotation.i.eq(scan.gated_value),
                rotation.layer.eq(sequencer.rotation_tag.layer),
            ]
            connect(m, stages["out"], "i", rotation, "rotated")
        m.d.comb += [
            convolution.layer.eq(sequencer.convolution_tag.layer),
            convolution.fresh.eq(sequencer.convolution_tag.position == 0),
            activation.layer.eq(sequencer.u_tag.layer),
            gate.layer.eq(sequencer.gate_tag.layer),
            scan.start.eq(sequencer.scan_start),
            scan.layer.eq(sequencer.scan_tag.layer),
            scan.fresh.eq(sequencer.scan_tag.position == 0),
        ]

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

    def _connect_probes(self, m: Module) -> None:
        """Show every named value of the golden model."""
        stages, norm, scan, head = self._stages, self._norm, self._scan, self._head
        points = {
            "residual": (norm.residual_valid, norm.residual_value),
            "norm": (norm.norm_valid, norm.norm_value),
            "x": (stages["x"].o_valid, stages["x"].o_value),
            "convolution": (self._convolution.mixed_valid, self._convolution.mixed_value),
            "u": (self._activation.u_valid, self._activation.u_value),
            "scan_u": (self._activation.scan_u_valid, self._activation.scan_u_value),
            "projected": (stages["projected"].o_valid, stages["projected"].o_value),
            "gate": (self._gate.gate_valid, self._gate.gate_value),
            "delta": (scan.delta_valid, scan.delta_value),
            "state": (scan.state_valid, scan.state_value),
            "scan_output": (scan.scan_output_valid, scan.scan_output_value),
            "gated": (scan.gated_valid, scan.gated_value),
            "pooled": (norm.pooled_valid, norm.pooled_value),
            "final_norm": (norm.final_valid, norm.norm_value),
            "hidden": (head.hidden_valid, head.hidden_value),
            "logits": (head.logits_valid, head.logits_value),
        }
        if (rotation := self._rotation) is not None:
            points["rotated"] = (rotation.rotated_valid, rotation.rotated_value)
        for name, (valid, value) in points.items():
            m.d.comb += [
                getattr(self, f"probe_{name}_valid").eq(valid),
                getattr(self, f"probe_{name}_value").eq(value),
            ]
