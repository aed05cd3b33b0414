"""The Hadamard transform as a stream: adders, delay lines and one requantizer, no multiplier."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from golden.operations import hadamard
from golden.program import Program
from hw.parameter_memory import MemoryPlan, ParameterMemory
from hw.pipeline import PlannedRequantizer, delayed, index_bits, select_constant
from hw.shift_plan import ShiftPlan

__all__ = ["BlockTransform", "HadamardRotation", "StreamingButterfly"]


class StreamingButterfly(wiring.Component):
    """One doubling of Sylvester's matrix: sums and differences of elements ``distance`` apart.

    Of every ``2 distance`` elements ``a[0..], b[0..]`` it returns ``a + b``, then ``a - b``, in
    natural order. The first half waits in a memory, in which the differences then take its place:
    the single-path delay feedback of streaming Fourier transforms, without their twiddle factors.

    Latency: ``2`` cycles from ``b[j]`` to ``a[j] + b[j]``; the differences follow, one a cycle,
    from ``2 + 1`` cycles after the last sum's ``b`` on. Throughput: one element a cycle, with any
    gaps. The differences leave while the next first half arrives.

    Parameters
    ----------
    distance : int
        Elements from a to b, a power of two times the block's order; at least 1.
    width : int
        Bits of an element.

    Members
    -------
    i_valid, i : In(1), In(signed(width))
        Elements in order.
    o_valid, o : Out(1), Out(signed(width + 1))
        Sums and differences in order.
    """

    latency = 2

    def __init__(self, *, distance: int, width: int) -> None:
        self._distance, self._width = distance, width
        super().__init__(
            {
                "i_valid": In(1),
                "i": In(signed(width)),
                "o_valid": Out(1),
                "o": Out(signed(width + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        position = Signal(range(self._distance))
        second = Signal()
        drained = Signal(range(self._distance))
        draining = Signal()
        last = self.i_valid & (position == self._distance - 1)
        with m.If(self.i_valid):
            m.d.sync += position.eq(Mux(last, 0, position + 1))
        with m.If(last):
            m.d.sync += second.eq(~second)
        # A second half takes at least as long as the drain: b never meets a difference.
        with m.If(last & second):
            m.d.sync += [draining.eq(1), drained.eq(0)]
        with m.Elif(draining & (drained == self._distance - 1)):
            m.d.sync += draining.eq(0)
        with m.Elif(draining):
            m.d.sync += drained.eq(drained + 1)
        element = delayed(m, self.i, 1, name="element")
        arrived = delayed(m, self.i_valid, 1, name="arrived")
        adding = delayed(m, self.i_valid & second, 1, name="adding")
        shown = delayed(m, draining, 1, name="shown")
        word = Signal(signed(self._width + 1))
        stored = self._store(m, position, Mux(draining, drained, position), arrived, word)
        result = Signal.like(self.o, reset_less=True)
        valid = Signal()
        m.d.sync += [
            result.eq(Mux(adding, stored + element, stored)),
            valid.eq(adding | shown),
        ]
        m.d.comb += [
            word.eq(Mux(adding, stored - element, element)),
            self.o.eq(result),
            self.o_valid.eq(valid),
        ]
        return m

    def _store(
        self, m: Module, position: Signal, read: Value, write: Value, word: Signal
    ) -> Signal:
        """Return what ``read`` addressed a cycle ago; ``word`` goes where ``position`` then was."""
        stored = Signal(signed(self._width + 1), name="stored")
        if self._distance == 1:
            with m.If(write):
                m.d.sync += stored.eq(word)
            return stored
        m.submodules.words = words = memory.Memory(
            shape=signed(self._width + 1), depth=self._distance, init=[]
        )
        write_port, read_port = words.write_port(), words.read_port()
        m.d.comb += [
            write_port.addr.eq(delayed(m, position, 1, name="write_address")),
            write_port.data.eq(word),
            write_port.en.eq(write),
            read_port.addr.eq(read),
            stored.eq(read_port.data),
        ]
        return stored


class BlockTransform(wiring.Component):
    """The product with a small matrix of signs: one accumulator a row, drained one a cycle.

    Of every ``m`` elements x it returns ``H x``: every element is added to or subtracted from all
    accumulators, which are copied to a shift register when the block is complete.

    Latency: ``3`` cycles from a block's last element to row 0; row j follows j cycles later.
    Throughput: one element a cycle, with any gaps.

    Parameters
    ----------
    block : int
        Order m of the matrix, see :data:`golden.operations.hadamard.BLOCK_ORDERS`.
    width : int
        Bits of an element.

    Members
    -------
    i_valid, i : In(1), In(signed(width))
        Elements in order.
    o_valid, o : Out(1), Out(signed(width + growth(m)))
        Rows in order.
    """

    latency = 3

    def __init__(self, *, block: int, width: int) -> None:
        self._block = block
        self._sum = signed(width + hadamard.growth(block))
        super().__init__(
            {
                "i_valid": In(1),
                "i": In(signed(width)),
                "o_valid": Out(1),
                "o": Out(self._sum),
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        rows = range(self._block)
        column = Signal(rows)
        minus = Signal(self._block, reset_less=True)
        last = self.i_valid & (column == self._block - 1)
        with m.If(self.i_valid):
            m.d.sync += column.eq(Mux(last, 0, column + 1))
        negative = hadamard.block_matrix(self._block) < 0
        words = [sum(1 << row for row in rows if negative[row, k]) for k in rows]
        m.d.sync += minus.eq(select_constant(column, words, self._block))
        element = delayed(m, self.i, 1, name="element")
        first = delayed(m, self.i_valid & (column == 0), 1, name="first")
        arrived = delayed(m, self.i_valid, 1, name="arrived")
        complete = delayed(m, last, 2, name="complete")
        sums = [Signal(self._sum, name=f"sum_{row}", reset_less=True) for row in rows]
        for row, total in enumerate(sums):
            base = Mux(first, 0, total)
            with m.If(arrived):
                m.d.sync += total.eq(Mux(minus[row], base - element, base + element))
        left = Signal(rows)
        remaining = Signal()
        drained = [Signal(self._sum, name=f"drained_{row}", reset_less=True) for row in rows]
        with m.If(complete):
            m.d.sync += [left.eq(self._block - 1), remaining.eq(1)]
            m.d.sync += [copy.eq(total) for copy, total in zip(drained, sums, strict=True)]
        with m.Else():
            m.d.sync += [copy.eq(after) for copy, after in pairwise(drained)]
            m.d.sync += [left.eq(left - 1), remaining.eq(remaining & (left != 0))]
        m.d.comb += [self.o.eq(drained[0]), self.o_valid.eq(remaining)]
        return m


class HadamardRotation(wiring.Component):
    """Rotate the gated values of each block and requantize them for out_proj.

    ``rotated = requantize(H gated, shifts.rotated)``, equal to
    :func:`golden.operations.hadamard.transform` and the requantization behind it. Sums grow by a
    bit a doubling and by :func:`golden.operations.hadamard.growth` in the block, so nothing is
    rounded before the requantizer. The largest distance comes first, as its delay line is the
    longest and words are narrowest there.

    Elements come in the order of channels; the unit counts them itself. Row 0 of a vector needs all
    of its elements, and the others follow without a gap.

    Latency: ``latency`` cycles from a vector's last element to its row 0; row k leaves k cycles
    later. Throughput: one element a cycle, vectors back to back, with any gaps.

    Parameters
    ----------
    program : Program
        Size, widths and shifts; its scheme rotates.
    plan : MemoryPlan
        Where ``rotation_shifts``, a word a (layer, e), lives.

    Members
    -------
    i_valid, i : In(1), In(signed(rotation_bits))
        Gated values.
    layer : In(index_bits(L))
        Layer of the rows, for E cycles from ``layer_lead`` cycles before row 0 on.
    rotated_valid, rotated_index, rotated_value : Out
        Row of the transform; signed(projection_input_bits).

    Raises
    ------
    InputError
        If the transform has no matrix of order d_inner.
    ValueError
        If the program's scheme does not rotate.
    """

    def __init__(self, *, program: Program, plan: MemoryPlan) -> None:
        scheme, order = program.scheme, program.shape.d_inner
        if scheme.rotation_bits is None:
            raise ValueError(f"scheme {scheme.name} rotates nothing; it needs no rotation unit")
        self._order, self._layers = order, program.shape.n_layer
        block, doublings = hadamard.factors(order)
        width = scheme.rotation_bits
        self._stages: list[BlockTransform | StreamingButterfly] = []
        if block > 1:
            self._stages.append(BlockTransform(block=block, width=width))
            width += hadamard.growth(block)
        for doubling in reversed(range(doublings)):
            self._stages.append(StreamingButterfly(distance=block << doubling, width=width))
            width += 1
        shifts = [layer.rotated for layer in program.shifts if layer.rotated is not None]
        amounts = ShiftPlan.covering(shifts)
        self._shifts = ParameterMemory(
            name="rotation_shifts",
            width=amounts.bits,
            words=[amount for layer in shifts for amount in amounts.stored(layer)],
            plan=plan,
        )
        self._requantizer = PlannedRequantizer(
            plan=amounts, input_width=width, output_width=scheme.projection_input_bits
        )
        super().__init__(
            {
                "i_valid": In(1),
                "i": In(signed(scheme.rotation_bits)),
                "layer": In(index_bits(self._layers)),
                "rotated_valid": Out(1),
                "rotated_index": Out(index_bits(order)),
                "rotated_value": Out(signed(scheme.projection_input_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a vector's last element to its row 0."""
        stages = sum(stage.latency for stage in self._stages)
        return stages + self._shifts.latency + self._requantizer.latency

    @property
    def layer_lead(self) -> int:
        """Cycles from the first use of ``layer`` to row 0."""
        return 1 + self._shifts.latency + self._requantizer.latency

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        valid, value = self.i_valid, self.i
        for number, stage in enumerate(self._stages):
            m.submodules[f"stage_{number}"] = stage
            m.d.comb += [stage.i_valid.eq(valid), stage.i.eq(value)]
            valid, value = stage.o_valid, stage.o
        m.submodules.shifts = shifts = self._shifts
        m.submodules.requantizer = requantizer = self._requantizer
        row = Signal(index_bits(self._order))
        for event, count in ((valid, row), (self.rotated_valid, self.rotated_index)):
            with m.If(event):
                m.d.sync += count.eq(Mux(count == self._order - 1, 0, count + 1))
        bases = [layer * self._order for layer in range(self._layers)]
        base = Signal(range(bases[-1] + 1))
        m.d.sync += base.eq(select_constant(self.layer, bases, len(base)))
        wait = shifts.latency + requantizer.latency
        m.d.comb += [
            shifts.address.eq(base + row),
            requantizer.i.eq(delayed(m, value, shifts.latency, name="late_value")),
            requantizer.shift.eq(shifts.data),
            self.rotated_value.eq(requantizer.o),
            self.rotated_valid.eq(delayed(m, valid, wait, name="valid")),
        ]
        return m
