"""The head of a frame network: hidden layer if there is one, outputs, and the frames' results."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from hw.activation import EvenActivation
from hw.contexts import context_field, context_inputs, queued
from hw.parameter_memory import MemoryPlan
from hw.pipeline import PlannedRequantizer, delayed, index_bits
from hw.shift_plan import ShiftPlan
from hw.stream_buffer import StreamBuffer
from hw.streaming.matrix_stage import MatrixStage

__all__ = ["FrameHead", "output_layout"]


def output_layout(bits: int, contexts: int = 1) -> data.StructLayout:
    """Return the payload of the output stream: value, whether it ends its frame, its context."""
    return data.StructLayout({"value": signed(bits), "last": 1, **context_field(contexts)})


class HiddenLayer(wiring.Component):
    """``SiLU(V norm + c)`` of the normalised mean of a frame.

    Latency: ``activation_latency`` from a row of the array to its value. Throughput: a frame in the
    array's duration.

    Parameters
    ----------
    program : a frame network with a hidden layer
    lanes : of the array
    slots : vectors that its ring holds
    plan : where parameters live, and what multiplies

    Members
    -------
    i_valid, i_index, i_value : in, the normalised mean
    o_valid, o_index, o_value : out
    """

    def __init__(self, *, program: Program, lanes: int, slots: int, plan: MemoryPlan) -> None:
        scheme, pooled = program.scheme, program.pooled_head
        bits = scheme.activation_bits
        assert pooled.hidden.bias is not None  # guaranteed by golden.validation
        self._array = MatrixStage(
            name="hidden",
            weights=[pooled.hidden.weight],
            shifts=[program.hidden_shift],
            biases=[pooled.hidden.bias],
            weight_bits=scheme.head_weight_bits,
            input_bits=bits,
            output_bits=ACTIVATION_INPUT_BITS,
            lanes=lanes,
            order=slots,
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
        rows, columns = pooled.hidden.weight.shape
        super().__init__(
            {
                "i_valid": In(1),
                "i_index": In(index_bits(columns)),
                "i_value": In(signed(bits)),
                "o_valid": Out(1),
                "o_index": Out(index_bits(rows)),
                "o_value": Out(signed(bits)),
            }
        )

    @property
    def activation_latency(self) -> int:
        """Cycles from a row of the array to its value."""
        return self._silu.latency + self._narrow.latency

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.array = array = self._array
        m.submodules.silu = silu = self._silu
        m.submodules.narrow = narrow = self._narrow
        m.d.comb += [
            array.i_valid.eq(self.i_valid),
            array.i_index.eq(self.i_index),
            array.i_value.eq(self.i_value),
            # An element is read the cycle after the one that brings it, at the earliest.
            array.start.eq(self.i_valid & (self.i_index == 0)),
            silu.i.eq(array.o_value),
            narrow.i.eq(silu.o),
            narrow.shift.eq(self._shift),
            self.o_index.eq(delayed(m, array.o_index, self.activation_latency, name="index")),
            self.o_valid.eq(delayed(m, array.o_valid, self.activation_latency, name="valid")),
            self.o_value.eq(narrow.o),
        ]
        return m


class FrameHead(wiring.Component):
    """``outputs = W x + b`` once a frame, into a buffer of whole frames.

    x is a :class:`HiddenLayer` of the normalised mean, or without one the norms of all tokens of
    the frame, one after the other.

    Latency: that of hidden layer and array. Throughput: a frame in the longer of their durations.

    Parameters
    ----------
    program : a frame network
    hidden_lanes, head_lanes : lanes of the two arrays
    hidden_slots, head_slots : vectors that their rings hold
    frames : whose outputs the buffer holds
    contexts : C, streams to which the frames belong
    plan : where parameters live, and what multiplies

    Members
    -------
    i_valid, i_index, i_value : in, the normalised mean of a frame, or a token's norm
    hidden_valid, hidden_value : out, probe: the hidden layer; silent without
    logits_valid, logits_value : out, probe: the outputs
    entered : in, a frame enters the engine
    context : in, with several contexts only: that of the frame that enters
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
        contexts: int = 1,
    ) -> None:
        scheme, shape = program.scheme, program.shape
        bits = scheme.activation_bits
        assert program.head.bias is not None  # guaranteed by golden.validation
        self._rows, self._columns = program.head.weight.shape
        self._size = shape.d_model
        self._logit_bits, self._frames = scheme.logit_bits, frames
        self._contexts = contexts
        self._hidden: HiddenLayer | None = None
        if program.pooled is not None:
            self._hidden = HiddenLayer(
                program=program, lanes=hidden_lanes, slots=hidden_slots, plan=plan
            )
        self._head = MatrixStage(
            name="head",
            weights=[program.head.weight],
            shifts=[program.head_shift],
            biases=[program.head.bias],
            weight_bits=scheme.head_weight_bits,
            input_bits=bits,
            output_bits=scheme.logit_bits,
            lanes=head_lanes,
            order=head_slots,
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
                **context_inputs(contexts, "context"),
                "room": Out(1, init=1),
                "outputs": Out(stream.Signature(output_layout(scheme.logit_bits, contexts))),
            }
        )

    @property
    def activation_latency(self) -> int:
        """Cycles from a hidden row to the head's input, 0 without a hidden layer."""
        return 0 if self._hidden is None else self._hidden.activation_latency

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.head = head = self._head
        if self._hidden is None:
            self._connect_tokens(m)
        else:
            self._connect_hidden(m, self._hidden)
        m.d.comb += [
            self.logits_valid.eq(head.o_valid),
            self.logits_value.eq(head.o_value),
        ]
        self._buffer(m, head)
        return m

    def _connect_hidden(self, m: Module, hidden: HiddenLayer) -> None:
        """From the normalised mean through the hidden layer to the array."""
        m.submodules.hidden, head = hidden, self._head
        m.d.comb += [
            hidden.i_valid.eq(self.i_valid),
            hidden.i_index.eq(self.i_index),
            hidden.i_value.eq(self.i_value),
            self.hidden_valid.eq(hidden.o_valid),
            self.hidden_value.eq(hidden.o_value),
            head.i_valid.eq(hidden.o_valid),
            head.i_index.eq(hidden.o_index),
            head.i_value.eq(hidden.o_value),
            head.start.eq(hidden.o_valid & (hidden.o_index == self._columns - 1)),
        ]

    def _connect_tokens(self, m: Module) -> None:
        """From the norms, counted over the tokens of a frame, to the array."""
        head, place = self._head, Signal(index_bits(self._columns))
        with m.If(self.i_valid):
            m.d.sync += place.eq(Mux(place == self._columns - 1, 0, place + 1))
        m.d.comb += [
            head.i_valid.eq(self.i_valid),
            head.i_index.eq(place),
            head.i_value.eq(self.i_value),
            # The last token's elements are there before those of the others are read.
            head.start.eq(self.i_valid & (place == self._columns - self._size)),
        ]

    def _buffer(self, m: Module, head: MatrixStage) -> None:
        """Queue the outputs; a frame may enter while all frames before it find room.

        So its outputs have their places when they come.
        """
        layout = output_layout(self._logit_bits)
        m.submodules.buffer = buffer = StreamBuffer(
            layout, max(2, self._frames * self._rows), distributed=True, reserved=True
        )
        m.d.comb += [
            buffer.i.p.value.eq(head.o_value),
            buffer.i.p.last.eq(head.o_index == self._rows - 1),
            buffer.i.valid.eq(head.o_valid),
        ]
        under_way = Signal(range(self._frames + 1))
        # Counted, since the memory shows a value too late in the cycle to ask whether it is last.
        value, left = Signal(range(self._rows)), Signal()
        last = value == self._rows - 1
        transfer = self.outputs.valid & self.outputs.ready
        self._send(m, buffer, transfer & last)
        m.d.sync += left.eq(transfer & last)
        with m.If(transfer):
            m.d.sync += value.eq(Mux(last, 0, value + 1))
        following = Signal.like(under_way)
        m.d.comb += following.eq(under_way + self.entered - left)
        m.d.sync += [under_way.eq(following), self.room.eq(following != self._frames)]

    def _send(self, m: Module, buffer: StreamBuffer, leaves: Value) -> None:
        """Connect the stream of outputs; its context is that of the oldest frame, until it left."""
        if self._contexts == 1:
            wiring.connect(m, buffer.o, wiring.flipped(self.outputs))
            return
        context = queued(m, self.context, frames=self._frames, put=self.entered, take=leaves)
        m.d.comb += [
            self.outputs.payload.eq(Cat(buffer.o.payload, context)),
            self.outputs.valid.eq(buffer.o.valid),
            buffer.o.ready.eq(self.outputs.ready),
        ]
