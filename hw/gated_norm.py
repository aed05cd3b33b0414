"""Mamba-2's gated RMSNorm: one reciprocal root a group of channels, streamed behind the scan."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.operations.normalization import (
    NORMALIZED_BITS,
    NORMALIZED_FRACTION,
    epsilon_integer,
)
from golden.program import Program
from hw.multiplier import PIPELINED_PRODUCT, pipelined_product, registered_product
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields
from hw.pipeline import PlannedRequantizer, delayed, index_bits, select_constant
from hw.reciprocal_root import ReciprocalRoot
from hw.requantizer import ShiftRequantizer
from hw.shift_plan import ShiftPlan
from hw.vector_ring import VectorRing

__all__ = ["GatedNorm"]

_SUM_CYCLES = PIPELINED_PRODUCT + 1
"""From a group's last element to its complete sum: square, sum."""
_READ_CYCLES = 2
"""From the read of the ring to the element in its register."""


class GatedNorm(wiring.Component):
    """Normalise the gated values of a block, group by group, as they leave the scan.

    ``normed[e] = requantize(requantize(v[e] root, exponent, 18) weight[e], shift)`` with
    ``root 2**-(17 + exponent) = 1/sqrt(epsilon + sum(v**2))`` over the ``N = E / G`` channels of a
    group. Equal to the golden executor's ``_gated_norm``. The E elements of a block come in order,
    at most one a cycle with any gaps, and block follows block.

    Latency: counting from the cycle of a group's last element, its element i leaves after
    ``latency + i`` cycles: 18, sum (3), root, scaling. Throughput: one element a cycle.

    Parameters
    ----------
    program : Program
        A network with heads: widths, weights, shifts and table.
    plan : MemoryPlan
        Where weights (``gate_norm_weight``, a word a (layer, e)) and table
        (``gate_reciprocal_root``) live, and what multiplies.

    Members
    -------
    layer : In(index_bits(L))
        Block, stable from its first element in to its last element out.
    i_valid, i : In(1), In(signed(residual_bits))
        Next element.
    normed_valid, normed_index, normed_value : Out
        Normalised element; signed(gated_bits of the scheme).
    """

    def __init__(self, *, program: Program, plan: MemoryPlan) -> None:
        shape, scheme = program.shape, program.scheme
        self._shape, self._bits = shape, program.gated_bits
        self._size = shape.d_inner // shape.groups
        self._multipliers = plan.multipliers
        selections = [layer.head_selection for layer in program.scan_layers]
        self._epsilons = [epsilon_integer(self._size, own.product) for own in selections]
        largest = (self._size << (2 * (self._bits - 1))) + max(self._epsilons)
        self._root = ReciprocalRoot(
            total_bits=max(4, largest.bit_length()),
            table=program.tables.reciprocal,
            plan=plan,
            name="gate_reciprocal_root",
        )
        self._weights = ParameterMemory(
            name="gate_norm_weight",
            width=scheme.norm_weight_bits,
            words=[
                pack_fields([weight], scheme.norm_weight_bits)
                for own in selections
                for weight in own.gate_norm_weight
            ],
            plan=plan,
        )
        shifts = [0 if layer.normed is None else layer.normed for layer in program.scan_shifts]
        shift_plan = ShiftPlan.covering([shifts])
        self._shifts, self._shift_bits = shift_plan.stored(shifts), shift_plan.bits
        self._normalize = ShiftRequantizer(
            # The root is below 2**17, so that the product is one bit narrower than its factors.
            input_width=self._bits + NORMALIZED_FRACTION,
            output_width=NORMALIZED_BITS,
            max_shift=self._root.max_exponent,
        )
        self._narrow = PlannedRequantizer(
            plan=shift_plan,
            input_width=NORMALIZED_BITS + scheme.norm_weight_bits,
            output_width=scheme.gated_bits,
        )
        super().__init__(
            {
                "layer": In(index_bits(shape.n_layer)),
                "i_valid": In(1),
                "i": In(signed(self._bits)),
                "normed_valid": Out(1),
                "normed_index": Out(index_bits(shape.d_inner)),
                "normed_value": Out(signed(scheme.gated_bits)),
            }
        )

    @property
    def _begin_cycle(self) -> int:
        """Cycles from a group's last element to the first read, so that it meets the root."""
        return _SUM_CYCLES + self._root.latency - _READ_CYCLES

    @property
    def latency(self) -> int:
        """Cycles from a group's last element to its first normalised one."""
        scaling = 1 + self._normalize.latency + 1 + self._narrow.latency
        return self._begin_cycle + _READ_CYCLES + scaling

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        position, closing = self._count(m)
        self._accumulate(m, position, closing)
        reading = self._read(m, closing)
        m.submodules.elements = elements = VectorRing(
            depth=self._size, width=self._bits, slots=2 + self._begin_cycle // self._size
        )
        stored = Signal(signed(self._bits), reset_less=True)
        m.d.sync += stored.eq(elements.read_value)
        m.d.comb += [
            elements.valid.eq(self.i_valid),
            elements.index.eq(position),
            elements.value.eq(self.i),
            elements.read.eq(reading),
        ]
        self._scale(m, stored, reading)
        wait = self.latency - self._begin_cycle
        m.d.comb += self.normed_valid.eq(delayed(m, reading, wait, name="streaming"))
        with m.If(self.normed_valid):
            last = self.normed_index == self._shape.d_inner - 1
            m.d.sync += self.normed_index.eq(Mux(last, 0, self.normed_index + 1))
        return m

    def _count(self, m: Module) -> tuple[Signal, Value]:
        """Return the element's place in its group, and whether it ends the group."""
        position = Signal(index_bits(self._size))
        last = position == self._size - 1
        with m.If(self.i_valid):
            m.d.sync += position.eq(Mux(last, 0, position + 1))
        return position, self.i_valid & last

    def _accumulate(self, m: Module, position: Signal, closing: Value) -> None:
        """Sum the squares of a group and hand the complete sum to the root."""
        m.submodules.reciprocal_root = root = self._root
        square = pipelined_product(m, self.i, self.i, self._multipliers, name="square")
        total = Signal(len(root.total), reset_less=True)
        opening = delayed(m, position == 0, PIPELINED_PRODUCT, name="opening")
        epsilon = select_constant(self.layer, self._epsilons, max(self._epsilons).bit_length())
        with m.If(delayed(m, self.i_valid, PIPELINED_PRODUCT, name="squared")):
            m.d.sync += total.eq(Mux(opening, epsilon, total) + square[: 2 * self._bits - 1])
        m.d.comb += [
            root.total.eq(total),
            root.valid.eq(delayed(m, closing, _SUM_CYCLES, name="complete")),
        ]

    def _read(self, m: Module, closing: Value) -> Signal:
        """Return the flag that reads a group's elements, one a cycle."""
        begin = delayed(m, closing, self._begin_cycle - 1, name="begin")
        reading = Signal()
        position = Signal(index_bits(self._size), name="read_position")
        with m.If(begin):
            m.d.sync += [reading.eq(1), position.eq(0)]
        with m.Elif(position == self._size - 1):
            m.d.sync += reading.eq(0)
        with m.Else():
            m.d.sync += position.eq(position + 1)
        return reading

    def _scale(self, m: Module, stored: Value, reading: Value) -> None:
        """Multiply with the root, then with the weight."""
        m.submodules.normalize = normalize = self._normalize
        m.submodules.narrow = narrow = self._narrow
        m.submodules.weights = weights = self._weights
        product = registered_product(m, stored, self._root.root, self._multipliers, name="product")
        weighted = registered_product(
            m, normalize.o, weights.data.as_signed(), self._multipliers, name="weighted"
        )
        # The address is registered and the memory takes two cycles; the weight then meets the
        # normalised element.
        wait = _READ_CYCLES + 1 + normalize.latency - weights.latency - 1
        channels, layers = self._shape.d_inner, self._shape.n_layer
        channel = Signal(index_bits(channels))
        address = Signal(len(weights.address))
        bases = [layer * channels for layer in range(layers)]
        m.d.sync += address.eq(select_constant(self.layer, bases, len(address)) + channel)
        with m.If(delayed(m, reading, wait, name="weight_read")):
            m.d.sync += channel.eq(Mux(channel == channels - 1, 0, channel + 1))
        m.d.comb += [
            weights.address.eq(address),
            normalize.i.eq(product),
            # The root's exponent may be replaced while the last product is on its way.
            normalize.shift.eq(delayed(m, self._root.exponent, 1, name="exponent")),
            narrow.i.eq(weighted),
            narrow.shift.eq(select_constant(self.layer, self._shifts, self._shift_bits)),
            self.normed_value.eq(narrow.o),
        ]
