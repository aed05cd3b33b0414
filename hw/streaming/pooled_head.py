"""The head of a frame network: hidden layer, SiLU, outputs, and the frames' results."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from hw.activation import EvenActivation
from hw.parameter_memory import MemoryPlan
from hw.pipeline import PlannedRequantizer, delayed, index_bits
from hw.shift_plan import ShiftPlan
from hw.stream_buffer import StreamBuffer
from hw.streaming.matrix_stage import MatrixStage

__all__ = ["PooledHead", "output_layout"]


def output_layout(bits: int) -> data.StructLayout:
    """Return the payload of the output stream: a value and whether it ends its frame."""
    return data.StructLayout({"value": signed(bits), "last": 1})


class PooledHead(wiring.Component):
    """``outputs = W SiLU(V norm + c) + b`` once a frame, into a buffer of whole frames.

    Latency: ``activation_latency`` from a hidden row to the head's input; the stages have their
    own. Throughput: a frame in the longer of both stages' durations.

    Parameters
    ----------
    program : a frame network
    hidden_lanes, head_lanes : lanes of the two arrays
    hidden_slots, head_slots : vectors that their rings hold
    frames : whose outputs the buffer holds
    plan : where parameters live, and what multiplies

    Members
    -------
    i_valid, i_index, i_value : in, the normalised mean of a frame
    hidden_valid, hidden_value : out, probe: SiLU's output
    logits_valid, logits_value : out, probe: the outputs
    entered : in, a frame enters the engine
    room : out, the outputs of another frame will find room
    outputs : out, stream of :func:`output_layout`, V values a frame
    """

    def __init__(
        self,
        *,
        program: Program,
        hidden_lanes: int,
        head_lanes: int,
        hidden_slots: int,
        head_slots: int,
        frames: int,
        plan: MemoryPlan,
    ) -> None:
        scheme, shape = program.scheme, program.shape
        pooled, bits = program.pooled, scheme.activation_bits
        assert pooled is not None  # the streaming plan refuses others
        assert shape.frame is not None
        assert shape.frame.hidden is not None
        assert pooled.hidden.bias is not None  # guaranteed by golden.validation
        assert program.head.bias is not None
        self._rows, self._hidden_rows = shape.vocabulary, shape.frame.hidden
        self._logit_bits, self._frames = scheme.logit_bits, frames
        self._hidden = MatrixStage(
            name="hidden",
            weights=[pooled.hidden.weight],
            shifts=[program.hidden_shift],
            biases=[pooled.hidden.bias],
            weight_bits=scheme.embedding_bits,
            input_bits=bits,
            output_bits=ACTIVATION_INPUT_BITS,
            lanes=hidden_lanes,
            slots=hidden_slots,
            plan=plan,
        )
        self._silu = EvenActivation(
            table=program.tables.silu, subtract=True, plan=plan, name="hidden_silu"
        )
        shift_plan = ShiftPlan.covering([[program.hidden_output_shift]])
        self._shift = shift_plan.stored([program.hidden_output_shift])[0]
        self._narrow = PlannedRequantizer(
            plan=shift_plan, input_width=len(self._silu.o), output_width=bits
        )
        self._head = MatrixStage(
            name="head",
            weights=[program.head.weight],
            shifts=[program.head_shift],
            biases=[program.head.bias],
            weight_bits=scheme.embedding_bits,
            input_bits=bits,
            output_bits=scheme.logit_bits,
            lanes=head_lanes,
            slots=head_slots,
            plan=plan,
        )
        super().__init__(
            {
                "i_valid": In(1),
                "i_index": In(index_bits(shape.d_model)),
                "i_value": In(signed(bits)),
                "hidden_valid": Out(1),
                "hidden_value": Out(signed(bits)),
                "logits_valid": Out(1),
                "logits_value": Out(signed(scheme.logit_bits)),
                "entered": In(1),
                "room": Out(1, init=1),
                "outputs": Out(stream.Signature(output_layout(scheme.logit_bits))),
            }
        )

    @property
    def activation_latency(self) -> int:
        """Cycles from a hidden row to the head's input."""
        return self._silu.latency + self._narrow.latency

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.hidden = hidden = self._hidden
        m.submodules.silu = silu = self._silu
        m.submodules.narrow = narrow = self._narrow
        m.submodules.head = head = self._head
        index = delayed(m, hidden.o_index, self.activation_latency, name="index")
        valid = delayed(m, hidden.o_valid, self.activation_latency, name="valid")
        m.d.comb += [
            hidden.i_valid.eq(self.i_valid),
            hidden.i_index.eq(self.i_index),
            hidden.i_value.eq(self.i_value),
            # An element is read the cycle after the one that brings it, at the earliest.
            hidden.start.eq(self.i_valid & (self.i_index == 0)),
            silu.i.eq(hidden.o_value),
            narrow.i.eq(silu.o),
            narrow.shift.eq(self._shift),
            self.hidden_valid.eq(valid),
            self.hidden_value.eq(narrow.o),
            head.i_valid.eq(valid),
            head.i_index.eq(index),
            head.i_value.eq(narrow.o),
            head.start.eq(valid & (index == self._hidden_rows - 1)),
            self.logits_valid.eq(head.o_valid),
            self.logits_value.eq(head.o_value),
        ]
        self._buffer(m, head)
        return m

    def _buffer(self, m: Module, head: MatrixStage) -> None:
        """Queue the outputs; a frame may enter while all frames before it find room."""
        layout = output_layout(self._logit_bits)
        m.submodules.buffer = buffer = StreamBuffer(
            layout, max(2, self._frames * self._rows), distributed=True
        )
        m.d.comb += [
            buffer.i.p.value.eq(head.o_value),
            buffer.i.p.last.eq(head.o_index == self._rows - 1),
            buffer.i.valid.eq(head.o_valid),
        ]
        wiring.connect(m, buffer.o, wiring.flipped(self.outputs))
        under_way = Signal(range(self._frames + 1))
        # Counted, since the memory shows a value too late in the cycle to ask whether it is last.
        value, left = Signal(range(self._rows)), Signal()
        last = value == self._rows - 1
        transfer = self.outputs.valid & self.outputs.ready
        m.d.sync += left.eq(transfer & last)
        with m.If(transfer):
            m.d.sync += value.eq(Mux(last, 0, value + 1))
        following = Signal.like(under_way)
        m.d.comb += following.eq(under_way + self.entered - left)
        m.d.sync += [under_way.eq(following), self.room.eq(following != self._frames)]
