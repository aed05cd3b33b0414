"""From the stream of features to windows of projected rows, whose patches are tokens."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.configuration import FrameShape
from golden.program import Program
from hw.parameter_memory import MemoryPlan
from hw.pipeline import index_bits
from hw.streaming.feature_input import FeatureInput, feature_layout
from hw.streaming.matrix_stage import MatrixStage

__all__ = ["RowInput"]

_SLOTS = 3
"""Rows of features: one read, one waiting, one being written."""


class RowInput(wiring.Component):
    """Projects each row of a frame as it arrives, and offers the frame's tokens when it is whole.

    Pads and aligns frames as :class:`FeatureInput`. A row's product begins when its features are
    there, the array is free and its window has room. All tokens of a frame are offered at once,
    ``pace`` cycles after those of the frame before at the earliest, so that they enter without
    gaps and frames follow each other evenly.

    Latency: counting from the cycle of ``row_taken``, ``stages["rows"].row_cycles`` to the values.
    Throughput: a row in the longer of F cycles and the array's duration.

    Parameters
    ----------
    program : a network with patches
    lanes : of the array
    windows : frames of projected rows that the tokens' ring holds
    pace : least cycles from a frame's first token to the next one's
    contexts : C, streams whose frames may follow each other
    plan : where parameters live, and what multiplies

    Members
    -------
    features : in, stream of :func:`feature_layout`
    begins : out, with several contexts only: a frame's first feature is taken
    o_valid, o_index, o_value : out, element of a projected row, to the tokens' ring
    row_taken : out, the product of a row begins
    offered : out, a token is there
    taken : in, it enters the engine
    freed : in, a token that entered has been read
    unaligned : out, stays high after a frame without ``last`` at its end, or of two contexts
    """

    def __init__(
        self,
        *,
        program: Program,
        lanes: int,
        windows: int,
        pace: int,
        plan: MemoryPlan,
        contexts: int = 1,
    ) -> None:
        frame, scheme = program.shape.frame, program.scheme
        assert frame is not None  # the streaming plan refuses others
        assert frame.patch is not None
        linear = program.row_projection.linear
        assert linear.bias is not None  # guaranteed by golden.validation
        self._frame, self._width, self._pace = frame, frame.patch.width, pace
        self._room, self._contexts = windows * frame.rows, contexts
        rows = FrameShape(features=frame.features, tokens=frame.rows)
        self._input = FeatureInput(
            frame=rows, bits=scheme.feature_bits, slots=_SLOTS, contexts=contexts
        )
        self._array = MatrixStage(
            name="rows",
            weights=[linear.weight],
            shifts=[program.row_shift],
            biases=[linear.bias],
            weight_bits=scheme.embedding_bits,
            input_bits=scheme.feature_bits,
            output_bits=scheme.feature_bits,
            lanes=lanes,
            order=_SLOTS,
            plan=plan,
        )
        super().__init__(
            {
                "features": In(stream.Signature(feature_layout(scheme.feature_bits, contexts))),
                **({"begins": Out(1)} if contexts > 1 else {}),
                "o_valid": Out(1),
                "o_index": Out(index_bits(self._width)),
                "o_value": Out(signed(scheme.feature_bits)),
                "row_taken": Out(1),
                "offered": Out(1),
                "taken": In(1),
                "freed": In(1),
                "unaligned": Out(1),
            }
        )

    @property
    def frames(self) -> int:
        """Most frames that have begun and whose last token has not entered."""
        return self._room // self._frame.rows + self._input.frames

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.input = source = self._input
        m.submodules.array = array = self._array
        wiring.connect(m, wiring.flipped(self.features), source.features)
        m.d.comb += [
            array.i_valid.eq(source.o_valid),
            array.i_index.eq(source.o_index),
            array.i_value.eq(source.o_value),
            array.start.eq(self.row_taken),
            source.taken.eq(self.row_taken),
            self.o_valid.eq(array.o_valid),
            self.o_index.eq(array.o_index),
            self.o_value.eq(array.o_value),
            self.unaligned.eq(source.unaligned),
        ]
        if self._contexts > 1:
            m.d.comb += self.begins.eq(source.begins)
        self._start_rows(m, source, array)
        self._offer(m, array)
        return m

    def _start_rows(self, m: Module, source: FeatureInput, array: MatrixStage) -> None:
        """Begin the next row's product when its features, the array and room are there."""
        duration = array.timing.duration
        left, reading = Signal(range(duration + 1)), Signal()
        reserved = Signal(range(self._room + 1))
        token = Signal(index_bits(self._frame.tokens))
        last = token == self._frame.tokens - 1
        room = Signal(init=1)
        following = Signal.like(reserved)
        with m.If(self.freed):
            m.d.sync += token.eq(Mux(last, 0, token + 1))
        m.d.comb += [
            self.row_taken.eq(source.offered & room & (left == 0)),
            following.eq(reserved + self.row_taken - Mux(self.freed & last, self._frame.rows, 0)),
            # The array reads an element a cycle from the one after the start.
            source.freed.eq(reading & (left == 0)),
        ]
        m.d.sync += [reserved.eq(following), room.eq(following != self._room)]
        with m.If(self.row_taken):
            m.d.sync += [left.eq(duration - 1), reading.eq(1)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Else():
            m.d.sync += reading.eq(0)

    def _offer(self, m: Module, array: MatrixStage) -> None:
        """Offer the tokens of a frame when its last row is complete and the pace allows."""
        rows, tokens = self._frame.rows, self._frame.tokens
        row, token = Signal(index_bits(rows)), Signal(index_bits(tokens))
        whole = Signal(range(self._room // rows + 1))
        pause, open_ = Signal(range(self._pace)), Signal(init=1)
        complete = array.o_valid & (array.o_index == self._width - 1)
        frame_complete = complete & (row == rows - 1)
        first, last = token == 0, token == tokens - 1
        entered = self.taken & first
        with m.If(complete):
            m.d.sync += row.eq(Mux(row == rows - 1, 0, row + 1))
        with m.If(self.taken):
            m.d.sync += token.eq(Mux(last, 0, token + 1))
        m.d.sync += whole.eq(whole + frame_complete - (self.taken & last))
        with m.If(entered):
            m.d.sync += [pause.eq(self._pace - 2), open_.eq(0)]
        with m.Elif(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        with m.Else():
            m.d.sync += open_.eq(1)
        m.d.comb += self.offered.eq((whole != 0) & (open_ | ~first))
