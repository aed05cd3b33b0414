"""What every RMSNorm shares: root of a sum of squares, two products, two requantizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from amaranth.hdl import Module, Mux, Signal, Value, signed

from golden.operations.normalization import NORMALIZED_BITS, NORMALIZED_FRACTION
from golden.piecewise import LinearTable
from hw.multiplier import PIPELINED_PRODUCT, pipelined_product, registered_product
from hw.parameter_memory import MemoryPlan, ParameterMemory
from hw.pipeline import PlannedRequantizer, delayed, index_bits
from hw.reciprocal_root import ReciprocalRoot
from hw.requantizer import ShiftRequantizer
from hw.shift_plan import ShiftPlan
from hw.vector_ring import VectorRing

__all__ = ["NormScaling", "StreamedNorm"]


class NormScaling:
    """The units of ``requantize(requantize(v root, exponent, 18) weight, shift)``, unconnected.

    Parameters
    ----------
    size : elements that are normalised together
    bits : signed width of an element
    epsilons : what is added to the sums of squares
    table : of the reciprocal root
    words, weight_bits : weights in the order of their memory, and their width
    shifts : of every set of weights
    output_bits : signed width of a normalised element
    plan : where weights and table live
    prefix : of their names
    """

    def __init__(
        self,
        *,
        size: int,
        bits: int,
        epsilons: Sequence[int],
        table: LinearTable,
        words: Sequence[int],
        weight_bits: int,
        shifts: Sequence[int],
        output_bits: int,
        plan: MemoryPlan,
        prefix: str = "",
    ) -> None:
        largest = (size << (2 * (bits - 1))) + max(epsilons)
        self.root = ReciprocalRoot(
            total_bits=max(4, largest.bit_length()),
            table=table,
            plan=plan,
            name=f"{prefix}reciprocal_root",
        )
        self.weights = ParameterMemory(
            name=f"{prefix}norm_weight", width=weight_bits, words=words, plan=plan
        )
        shift_plan = ShiftPlan.covering([shifts])
        self.shifts, self.shift_bits = shift_plan.stored(shifts), shift_plan.bits
        self.normalize = ShiftRequantizer(
            # The root is below 2**17, so that the product is one bit narrower than its factors.
            input_width=bits + NORMALIZED_FRACTION,
            output_width=NORMALIZED_BITS,
            max_shift=self.root.max_exponent,
        )
        self.narrow = PlannedRequantizer(
            plan=shift_plan,
            input_width=NORMALIZED_BITS + weight_bits,
            output_width=output_bits,
        )

    @property
    def latency(self) -> int:
        """Cycles from an element that meets the root to its normalised value."""
        return 1 + self.normalize.latency + 1 + self.narrow.latency


class Streamed(NamedTuple):
    """A pass on its way: its read and the element's place, and both products behind."""

    reading: Signal
    position: Signal
    product: Signal
    weighted: Signal


class StreamedNorm:
    """Sums the squares of a pass while it arrives, keeps it in a ring and streams it scaled.

    Adds to the module of the unit that it is part of; passes may follow each other at once.

    Latency: ``latency + i`` cycles from a pass's last element to its element i. Throughput: one
    element a cycle.

    Parameters
    ----------
    scaling : units, as :class:`NormScaling` makes them
    size, bits : of a pass, as there
    plan : what multiplies
    """

    sum_cycles = PIPELINED_PRODUCT + 1
    """From a pass's last element to its complete sum: square, sum."""
    read_cycles = 2
    """From the read of the ring to the element in its register."""

    def __init__(self, scaling: NormScaling, *, size: int, bits: int, plan: MemoryPlan) -> None:
        self._scaling, self._size, self._bits = scaling, size, bits
        self._arithmetic = plan.arithmetic

    @property
    def begin_cycle(self) -> int:
        """Cycles from a pass's last element to the first read, so that it meets the root."""
        return self.sum_cycles + self._scaling.root.latency - self.read_cycles

    @property
    def latency(self) -> int:
        """Cycles from the last element of a pass to its first normalised one."""
        return self.begin_cycle + self.read_cycles + self._scaling.latency

    def accumulate(
        self, m: Module, *, valid: Value, index: Value, value: Value, epsilon: Value | int
    ) -> Value:
        """Sum the squares and hand the complete sum to the root; return the last element's flag."""
        m.submodules.reciprocal_root = root = self._scaling.root
        square = pipelined_product(m, value, value, self._arithmetic, name="square")[
            : 2 * self._bits - 1
        ]
        total = Signal(len(root.total))
        opening = delayed(m, valid & (index == 0), PIPELINED_PRODUCT, name="opening")
        squared = delayed(m, valid, PIPELINED_PRODUCT, name="squared")
        with m.If(squared):
            m.d.sync += total.eq(Mux(opening, epsilon, total) + square)
        closing = valid & (index == self._size - 1)
        complete = delayed(m, closing, self.sum_cycles, name="complete")
        m.d.comb += [root.total.eq(total), root.valid.eq(complete)]
        return closing

    def stream(
        self, m: Module, *, valid: Value, index: Value, value: Value, closing: Value
    ) -> Streamed:
        """Keep the elements and multiply them with the root, then with the weight."""
        scaling = self._scaling
        m.submodules.elements = elements = VectorRing(
            depth=self._size, width=self._bits, slots=2 + self.begin_cycle // self._size
        )
        m.submodules.normalize = normalize = scaling.normalize
        m.submodules.narrow = scaling.narrow
        m.submodules.weights = weights = scaling.weights
        begin = delayed(m, closing, self.begin_cycle - 1, name="begin")
        reading, position = Signal(), Signal(index_bits(self._size))
        with m.If(begin):
            m.d.sync += [reading.eq(1), position.eq(0)]
        with m.Elif(position == self._size - 1):
            m.d.sync += reading.eq(0)
        with m.Else():
            m.d.sync += position.eq(position + 1)
        stored = Signal(signed(self._bits), reset_less=True)
        m.d.sync += stored.eq(elements.read_value)
        m.d.comb += [
            elements.valid.eq(valid),
            elements.index.eq(index),
            elements.value.eq(value),
            elements.read.eq(reading),
        ]
        product = registered_product(m, stored, scaling.root.root, self._arithmetic, name="product")
        weighted = registered_product(
            m, normalize.o, weights.data.as_signed(), self._arithmetic, name="weighted"
        )
        return Streamed(reading, position, product, weighted)

    def requantize(self, m: Module, streamed: Streamed, shift: Value) -> None:
        """Send the products through their requantizers, the last with the shift of its weights."""
        scaling = self._scaling
        m.d.comb += [
            scaling.normalize.i.eq(streamed.product),
            # The root's exponent may be replaced while the last product is on its way.
            scaling.normalize.shift.eq(delayed(m, scaling.root.exponent, 1, name="exponent")),
            scaling.narrow.i.eq(streamed.weighted),
            scaling.narrow.shift.eq(shift),
        ]

    @property
    def weight_cycles(self) -> int:
        """Cycles from an element's read to its weight's address before a register.

        Register and memory take one and two; the weight then meets the normalised element.
        """
        scaling = self._scaling
        return self.read_cycles + 1 + scaling.normalize.latency - scaling.weights.latency - 1
