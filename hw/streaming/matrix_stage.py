"""One matrix-vector product of the pipe: ring of vectors, weights, array and requantizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from golden.configuration import FrameShape
from golden.fixed_point import Integers, bits_for
from golden.operations.linear import accumulator_bound
from hw.array_matrices import lane_words
from hw.mac_array import MacArray, mac_latency
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields
from hw.pipeline import PlannedRequantizer, delayed, index_bits, magnitude_bits, select_constant
from hw.shift_plan import ShiftPlan
from hw.vector_buffer import NO_COLLISION

__all__ = ["MatrixStage", "StageTiming", "VectorOrder"]


@dataclass(frozen=True, kw_only=True)
class StageTiming:
    """When a stage reads and delivers, from its sizes alone.

    Parameters
    ----------
    rows, columns : of the matrix
    lanes : P, rows computed at once
    biased : a bias is added to the sums
    """

    rows: int
    columns: int
    lanes: int
    biased: bool = False

    @property
    def groups(self) -> int:
        """Return how often the vector is read: ``ceil(rows / P)``."""
        return -(-self.rows // self.lanes)

    @property
    def group_cycles(self) -> int:
        """Return the cycles a group takes: its columns, or its rows that leave one a cycle."""
        return max(self.columns, min(self.lanes, self.rows))

    @property
    def duration(self) -> int:
        """Return the cycles from a start to the earliest next one."""
        return self.groups * self.group_cycles

    @property
    def latency(self) -> int:
        """Return the cycles from a group's first element to its first row, less its columns."""
        operands = 1 + VECTOR_LATENCY + 1
        sums = mac_latency(pipelined=True) - 1
        return operands + sums + self.biased + REQUANTIZER_LATENCY

    @property
    def row_cycles(self) -> Integers:
        """Return the cycle of every row, counted from the start pulse, (rows,)."""
        row = np.arange(self.rows)
        first = self.columns + self.latency
        return first + row // self.lanes * self.group_cycles + row % self.lanes

    @property
    def busy(self) -> float:
        """Return the useful share of the lane-cycles of one run."""
        return self.rows * self.columns / (self.lanes * self.duration)


@dataclass(frozen=True, kw_only=True)
class VectorOrder:
    """Where a stage's vectors lie in its ring.

    Parameters
    ----------
    size : elements that the ring holds
    written : elements of what is written at once, a divisor of ``size``
    bases : place of element 0 of every vector, in the order of use, which then repeats
    """

    size: int
    written: int
    bases: tuple[int, ...]

    @classmethod
    def slots(cls, columns: int, count: int) -> VectorOrder:
        """Return the order of ``count`` vectors that are written and read one after the other."""
        bases = tuple(slot * columns for slot in range(count))
        return cls(size=count * columns, written=columns, bases=bases)

    @classmethod
    def patches(cls, frame: FrameShape, windows: int) -> VectorOrder:
        """Return the order of a frame's overlapping patches of rows, with so many frames kept."""
        assert frame.patch is not None
        width, stride, rows = frame.patch.width, frame.patch.stride, frame.rows
        bases = tuple(
            (window * rows + token * stride) * width
            for window in range(windows)
            for token in range(frame.tokens)
        )
        return cls(size=windows * rows * width, written=width, bases=bases)


VECTOR_LATENCY = 2
"""Address to element and to weights: a memory and a register."""
REQUANTIZER_LATENCY = 2


class MatrixStage(wiring.Component):
    """``o[row] = saturate(rne((sum_k W[row, k] i[k] + bias[row]) / 2**shift[row]))``.

    Counting from the cycle s of ``start``, element k of group g is read in cycle
    ``s + 1 + g I + k`` and row ``g P + i`` leaves in cycle ``s + g I + K + latency + i``, with I
    cycles a group; see :class:`StageTiming`. Throughput: one vector every ``G I`` cycles, one
    element and one row a cycle.

    Vectors are written in the order in which they are used, each from index 0 to K - 1; element k
    must be written before cycle ``s + 1 + k``. With a :class:`VectorOrder` they overlap as it says.

    Parameters
    ----------
    name : unique in the design, of the weight memory
    weights : a matrix (rows, columns) for each layer
    shifts : bits dropped a row, (rows,) for each set of row constants
    biases : in the accumulator's scale, (rows,) for each set, or None
    weight_bits, input_bits, output_bits : signed widths
    lanes : P
    order : of the vectors in the ring; a number of slots stands for so many of them
    plan : where parameters live

    Members
    -------
    i_valid, i_index, i_value : in, write of an element
    start : in, pulse that begins the next vector of the ring
    layer : in, of the weights, sampled with ``start``
    row_set : in, of the row constants, sampled with ``start``
    o_valid, o_index, o_value : out
    """

    def __init__(
        self,
        *,
        name: str,
        weights: Sequence[Integers],
        shifts: Sequence[Integers],
        biases: Sequence[Integers] | None = None,
        weight_bits: int,
        input_bits: int,
        output_bits: int,
        lanes: int,
        order: VectorOrder | int,
        plan: MemoryPlan,
    ) -> None:
        rows, columns = weights[0].shape
        self._order = VectorOrder.slots(columns, order) if isinstance(order, int) else order
        self.timing = StageTiming(
            rows=rows,
            columns=columns,
            lanes=lanes,
            biased=biases is not None,
        )
        self._plan = plan
        self._layers, self._row_sets = len(weights), len(shifts)
        self._input_bits, self._weight_bits = input_bits, weight_bits
        bounds = [accumulator_bound(weight, input_bits) for weight in weights]
        self._accumulator_bits = max(magnitude_bits(max(bounds)), weight_bits + input_bits)
        largest = max((int(np.abs(bias).max()) for bias in biases or ()), default=0)
        self._sum_bits = max(magnitude_bits(max(bounds) + largest), self._accumulator_bits)
        words = [word for weight in weights for word in lane_words(weight, lanes, weight_bits)]
        self._weights = ParameterMemory(
            name=f"{name}_weights", width=lanes * weight_bits, words=words, plan=plan
        )
        self._shift_plan = ShiftPlan.covering(shifts)
        self._requantizer = PlannedRequantizer(
            plan=self._shift_plan, input_width=self._sum_bits, output_width=output_bits
        )
        self._build_rows(name, shifts, biases)
        super().__init__(
            {
                "i_valid": In(1),
                "i_index": In(index_bits(self._order.written)),
                "i_value": In(signed(input_bits)),
                "start": In(1),
                "layer": In(index_bits(self._layers)),
                "row_set": In(index_bits(self._row_sets)),
                "o_valid": Out(1),
                "o_index": Out(index_bits(rows)),
                "o_value": Out(signed(output_bits)),
            }
        )

    def _build_rows(
        self, name: str, shifts: Sequence[Integers], biases: Sequence[Integers] | None
    ) -> None:
        """Pack shift, and bias above it, of every row of every set."""
        self._bias_bits = 0 if biases is None else max(bits_for(bias) for bias in biases)
        words = [amount for shift in shifts for amount in self._shift_plan.stored(shift)]
        if biases is not None:
            flat = np.concatenate(list(biases)).tolist()
            words = [
                word | pack_fields([bias], self._bias_bits) << self._shift_plan.bits
                for word, bias in zip(words, flat, strict=True)
            ]
        self._rows = ParameterMemory(
            name=f"{name}_rows",
            width=self._shift_plan.bits + self._bias_bits,
            words=words,
            plan=self._plan,
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        timing = self.timing
        # What a start sets needs no reset: that would only lengthen its path.
        busy = Signal()
        position = Signal(index_bits(timing.group_cycles), reset_less=True)
        group = Signal(index_bits(timing.groups), reset_less=True)
        inside = position < timing.columns
        reading = busy & inside
        with m.If(busy):
            with m.If(position == timing.group_cycles - 1):
                m.d.sync += [position.eq(0), group.eq(group + 1)]
                with m.If(group == timing.groups - 1):
                    m.d.sync += busy.eq(0)
            with m.Else():
                m.d.sync += position.eq(position + 1)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), position.eq(0), group.eq(0)]
        m.submodules.array = array = MacArray(
            lanes=timing.lanes,
            weight_bits=self._weight_bits,
            input_bits=self._input_bits,
            accumulator_bits=self._accumulator_bits,
            arithmetic=self._plan.arithmetic,
            pipelined=True,
        )
        element = self._element(m, position)
        weights = self._weight_word(m, reading)
        x = Signal.like(array.x, name="broadcast", reset_less=True)
        word = Signal.like(array.weights, name="weight_word", reset_less=True)
        m.d.sync += [x.eq(element), word.eq(weights)]
        first = reading & (position == 0)
        last = reading & (position == timing.columns - 1)
        wait = VECTOR_LATENCY + 1
        m.d.comb += [
            array.enable.eq(delayed(m, reading, wait, name="enable")),
            array.first.eq(delayed(m, first, wait, name="first")),
            array.last.eq(delayed(m, last, wait, name="last")),
            array.x.eq(x),
            array.weights.eq(word),
        ]
        self._drain(m, array, last, group == 0)
        return m

    def _element(self, m: Module, position: Signal) -> Value:
        """Return the element at the position, two cycles later; vectors follow in the ring."""
        order = self._order
        m.submodules.vectors = vectors = memory.Memory(
            shape=self._input_bits, depth=order.size, init=[], attrs=NO_COLLISION
        )
        write, read = vectors.write_port(), vectors.read_port()
        write_base, read_base = Signal(range(order.size)), Signal(range(order.size))
        number = Signal(index_bits(len(order.bases)))
        last = order.size - order.written
        with m.If(self.i_valid & (self.i_index == order.written - 1)):
            m.d.sync += write_base.eq(Mux(write_base == last, 0, write_base + order.written))
        with m.If(self.start):
            m.d.sync += [
                read_base.eq(select_constant(number, order.bases, len(read_base))),
                number.eq(Mux(number == len(order.bases) - 1, 0, number + 1)),
            ]
        element = Signal(signed(self._input_bits), reset_less=True)
        m.d.sync += element.eq(read.data)
        m.d.comb += [
            write.addr.eq(write_base + self.i_index),
            write.data.eq(self.i_value),
            write.en.eq(self.i_valid),
            read.addr.eq(read_base + position),
        ]
        return element

    def _weight_word(self, m: Module, reading: Value) -> Value:
        """Return the word of P weights of the element, two cycles after its address."""
        m.submodules.weights = weights = self._weights
        per_layer = self.timing.groups * self.timing.columns
        bases = [layer * per_layer for layer in range(self._layers)]
        address = Signal(len(weights.address), reset_less=True)
        with m.If(self.start):
            m.d.sync += address.eq(select_constant(self.layer, bases, len(address)))
        with m.Elif(reading):
            m.d.sync += address.eq(address + 1)
        m.d.comb += weights.address.eq(address)
        return weights.data

    def _drain(self, m: Module, array: MacArray, last: Value, first_group: Value) -> None:
        """Count the rows of a finished group out, add their bias and requantize them.

        ``last`` is high while a group's last element is addressed. Its rows are counted from two
        cycles before the first is at the array's output, which is what their constants take.
        """
        timing = self.timing
        count = VECTOR_LATENCY + 1 + array.latency - ParameterMemory.latency
        m.submodules.rows = rows = self._rows
        m.submodules.requantizer = requantizer = self._requantizer
        begin = delayed(m, last, count - 1, name="begin")
        renew = delayed(m, last & first_group, count - 1, name="renew")
        valid, row = self._count_rows(m, begin, renew, self._row_base(m, last & first_group))
        total: Value = array.value
        shift = rows.data[: self._shift_plan.bits]
        if timing.biased:
            total = Signal(signed(self._sum_bits), name="total", reset_less=True)
            m.d.sync += total.eq(array.value + rows.data[self._shift_plan.bits :].as_signed())
            shift = delayed(m, shift, 1, name="shift")
        wait = ParameterMemory.latency + timing.biased + requantizer.latency
        m.d.comb += [
            requantizer.i.eq(total),
            requantizer.shift.eq(shift),
            self.o_value.eq(requantizer.o),
            self.o_valid.eq(delayed(m, valid, wait, name="o_valid")),
            self.o_index.eq(delayed(m, row, wait, name="o_index")),
        ]

    def _row_base(self, m: Module, first_last: Value) -> Value:
        """Return the first row constant of the vector whose rows come next.

        The set is sampled with ``start`` and kept when the first group ends, since the next start
        may come before the rows are counted.
        """
        row_set = Signal.like(self.row_set, reset_less=True)
        next_set = Signal.like(self.row_set, reset_less=True)
        with m.If(self.start):
            m.d.sync += row_set.eq(self.row_set)
        with m.If(first_last):
            m.d.sync += next_set.eq(row_set)
        bases = [number * self.timing.rows for number in range(self._row_sets)]
        return select_constant(next_set, bases, len(self._rows.address))

    def _count_rows(
        self, m: Module, begin: Value, renew: Value, base: Value
    ) -> tuple[Signal, Signal]:
        """Return whether a row is counted and which, and address its constants."""
        timing = self.timing
        valid, row = Signal(), Signal(index_bits(timing.rows), reset_less=True)
        lane = Signal(index_bits(timing.lanes), reset_less=True)
        address = Signal(len(self._rows.address), reset_less=True)
        advance = [row.eq(row + 1), address.eq(address + 1)]
        with m.If(begin):
            m.d.sync += [valid.eq(1), lane.eq(0)]
            with m.If(renew):
                m.d.sync += [row.eq(0), address.eq(base)]
            with m.Else():
                m.d.sync += advance
        with m.Elif(valid):
            with m.If((lane == timing.lanes - 1) | (row == timing.rows - 1)):
                m.d.sync += valid.eq(0)
            with m.Else():
                m.d.sync += [lane.eq(lane + 1), *advance]
        m.d.comb += self._rows.address.eq(address)
        return valid, row
