"""Residuals of the tokens under way, the frame's mean, and the RMSNorm of what was updated."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from golden.operations.normalization import (
    NORMALIZED_BITS,
    NORMALIZED_FRACTION,
    epsilon_integer,
)
from golden.program import Program
from hw.clamp import clamped, clamped_if
from hw.multiplier import PIPELINED_PRODUCT, pipelined_product, registered_product
from hw.normalization import norm_weight_words
from hw.parameter_memory import MemoryPlan, ParameterMemory
from hw.pipeline import PlannedRequantizer, delayed, index_bits, select_constant
from hw.reciprocal_root import ReciprocalRoot
from hw.requantizer import ShiftRequantizer
from hw.shift_plan import ShiftPlan
from hw.vector_ring import VectorRing

__all__ = ["StreamingNorm"]


class StreamingNorm(wiring.Component):
    """Update a token's residual, sum the last block's over the frame, and stream the norms.

    A *pass* is D elements in the order of the index, at most one a cycle with any gaps: of a
    *load* (a new token's embedding) or of an *add* (a block's output to that token's residual).
    Each pass but the last block's is normalised for the block that follows. The last block's
    residuals are summed over the frame, ``pooled = requantize(sum, log2 T)``, and the pass of the
    frame's last token is normalised with the final weights. In a network whose head reads all
    tokens there is no such sum: each pass of the last block is normalised with the final weights.
    Equal to the golden executor.

    Counting from the cycle of element D - 1, ``norm[i]`` appears after ``latency + i`` cycles.

    Latency: ``latency``: residual (3), pool (3, if there is one), sum, root, scaling. Throughput:
    one element a cycle; passes of both kinds in any order, back to back.

    Parameters
    ----------
    program : Program
        A frame network.
    slots : int
        Tokens under way.
    plan : MemoryPlan
        Where weights and table live, and what multiplies.

    Members
    -------
    load_valid, load_index, load_value, load_slot : In
        Element of a new token, and where its residual is kept.
    add_valid, add_index, add_value, add_slot : In
        What a block adds; never in a cycle with a load.
    add_layer : In(index_bits(L))
        The block.
    add_first, add_last : In(1)
        The token is the frame's first, or last.
    residual_valid, residual_value : Out
        Probe: the residual as written, ``residual_latency`` cycles after its load or add.
    pooled_valid, pooled_value : Out
        Probe: the frame's mean, ``pool_latency`` cycles after the last token's last add; silent in
        a network without.
    norm_valid, norm_index, norm_value : Out
        Normalised element for the next block.
    final_valid : Out(1)
        In place of ``norm_valid``: the element belongs to the head.
    """

    residual_latency = 3
    pool_latency = 6
    """Old sum and residual, their sum, and the requantizer."""

    def __init__(self, *, program: Program, slots: int, plan: MemoryPlan) -> None:
        shape, scheme = program.shape, program.scheme
        assert shape.frame is not None  # the streaming plan refuses others
        self._size, self._bits, self._slots = shape.d_model, scheme.residual_bits, slots
        # Of an element for the head, and of one for a block.
        self._widths = (scheme.activation_bits, scheme.projection_input_bits)
        self._layers, self._multipliers = shape.n_layer, plan.multipliers
        self._pools, self._pool_shift = shape.frame.hidden is not None, shape.frame.tokens_log2
        self._epsilon = epsilon_integer(self._size, program.residual_fraction)
        largest = (self._size << (2 * (self._bits - 1))) + self._epsilon
        self._root = ReciprocalRoot(
            total_bits=largest.bit_length(), table=program.tables.reciprocal, plan=plan
        )
        self._weights = ParameterMemory(
            name="norm_weight",
            width=scheme.norm_weight_bits,
            words=norm_weight_words(program),
            plan=plan,
        )
        shifts = [*(layer.norm for layer in program.shifts), program.final_norm_shift]
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
            output_width=max(self._widths),
        )
        element, index = signed(self._bits), index_bits(self._size)
        members: dict[str, In | Out] = {}
        for name in ("load", "add"):
            members |= {
                f"{name}_valid": In(1),
                f"{name}_index": In(index),
                f"{name}_value": In(element),
                f"{name}_slot": In(index_bits(slots)),
            }
        super().__init__(
            {
                **members,
                "add_layer": In(index_bits(shape.n_layer)),
                "add_first": In(1),
                "add_last": In(1),
                "residual_valid": Out(1),
                "residual_value": Out(element),
                "pooled_valid": Out(1),
                "pooled_value": Out(element),
                "norm_valid": Out(1),
                "norm_index": Out(index),
                "norm_value": Out(signed(max(self._widths))),
                "final_valid": Out(1),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from the last element of a pass to its first normalised element."""
        scaling = 1 + self._normalize.latency + 1 + self._narrow.latency
        return self._settled + _SUM_CYCLES + self._root.latency + scaling

    @property
    def _settled(self) -> int:
        """Cycles from a load or an add to what is normalised: the residual, or the mean."""
        return self.pool_latency if self._pools else self.residual_latency

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        valid, index, updated, final = self._update(m)
        # The set of weights travels with the element; sets count from 0 for a load.
        weight_set = Signal(index_bits(self._layers + 1))
        m.d.comb += weight_set.eq(Mux(self.load_valid, 0, self.add_layer + 1))
        wait = self._settled - self.residual_latency
        chosen, value = valid, updated
        if self._pools:
            pooled = self._pool(m, valid, index, updated, final)
            last = delayed(m, self.add_last, self.residual_latency, name="add_last")
            is_final = delayed(m, final, wait, name="is_final")
            chosen = delayed(m, valid & (~final | last), wait, name="chosen")
            value = Mux(is_final, pooled, delayed(m, updated, wait, name="plain"))
            m.d.comb += [
                self.pooled_valid.eq(chosen & is_final),
                self.pooled_value.eq(pooled),
            ]
        self._normalise(
            m,
            valid=chosen,
            index=delayed(m, index, wait, name="norm_position"),
            value=value,
            weight_set=delayed(m, weight_set, self._settled, name="weight_set"),
        )
        return m

    def _update(self, m: Module) -> tuple[Value, Value, Signal, Value]:
        """Write the residual; return it with its flags, ``residual_latency`` cycles later."""
        rows = 1 << index_bits(self._size)
        m.submodules.residual = words = memory.Memory(
            shape=signed(self._bits), depth=rows * self._slots, init=[]
        )
        read, write = words.read_port(), words.write_port()
        valid = self.load_valid | self.add_valid
        index = Mux(self.load_valid, self.load_index, self.add_index)
        slot = Mux(self.load_valid, self.load_slot, self.add_slot)
        value = Mux(self.load_valid, self.load_value, self.add_value)
        final = self.add_valid & (self.add_layer == self._layers - 1)
        stored = Signal(signed(self._bits), reset_less=True)
        total = Signal(signed(self._bits + 1))
        value = delayed(m, value, 2, name="value")
        loaded = delayed(m, self.load_valid, 2, name="loaded")
        m.d.sync += [stored.eq(read.data), self.residual_value.eq(clamped(total, self._bits))]
        # Padded to a power of two, so that the address is the two side by side.
        address = Cat(index, slot)[: len(read.addr)]
        m.d.comb += [
            read.addr.eq(address),
            total.eq(Mux(loaded, 0, stored) + value),
            self.residual_valid.eq(delayed(m, valid, self.residual_latency, name="valid")),
            write.addr.eq(delayed(m, address, self.residual_latency, name="address")),
            write.data.eq(self.residual_value),
            write.en.eq(self.residual_valid),
        ]
        return (
            self.residual_valid,
            delayed(m, index, self.residual_latency, name="index"),
            self.residual_value,
            delayed(m, final, self.residual_latency, name="final"),
        )

    def _pool(self, m: Module, valid: Value, index: Value, updated: Signal, final: Value) -> Value:
        """Sum the last block's residuals over the frame; return the mean, three cycles later."""
        bits = self._bits + self._pool_shift
        m.submodules.pool = words = memory.Memory(shape=signed(bits), depth=self._size, init=[])
        read, write = words.read_port(), words.write_port()
        m.submodules.mean = mean = ShiftRequantizer(
            input_width=bits, output_width=self._bits, max_shift=max(1, self._pool_shift)
        )
        early = delayed(m, self.add_index, self.residual_latency - 2, name="pool_index")
        first = delayed(m, self.add_first, self.residual_latency, name="add_first")
        old = Signal(signed(bits), reset_less=True)
        total = Signal(signed(bits), reset_less=True)
        m.d.sync += [old.eq(read.data), total.eq(Mux(first, 0, old) + updated)]
        m.d.comb += [
            read.addr.eq(early),
            write.addr.eq(delayed(m, index, 1, name="pool_address")),
            write.data.eq(total),
            write.en.eq(delayed(m, valid & final, 1, name="pool_write")),
            mean.i.eq(total),
            mean.shift.eq(self._pool_shift),
        ]
        return mean.o

    def _normalise(
        self, m: Module, *, valid: Value, index: Value, value: Value, weight_set: Value
    ) -> None:
        """Sum the squares of a pass, and scale its elements by the root and the weights."""
        m.submodules.reciprocal_root = root = self._root
        square = pipelined_product(m, value, value, self._multipliers, name="square")[
            : 2 * self._bits - 1
        ]
        total = Signal(len(root.total))
        opening = delayed(m, valid & (index == 0), PIPELINED_PRODUCT, name="opening")
        squared = delayed(m, valid, PIPELINED_PRODUCT, name="squared")
        with m.If(squared):
            m.d.sync += total.eq(Mux(opening, self._epsilon, total) + square)
        closing = valid & (index == self._size - 1)
        complete = delayed(m, closing, _SUM_CYCLES, name="complete")
        m.d.comb += [root.total.eq(total), root.valid.eq(complete)]
        pass_set = Signal.like(weight_set, name="pass_set")
        with m.If(closing):
            m.d.sync += pass_set.eq(weight_set)
        self._scale(m, valid, index, value, closing, pass_set)

    def _scale(
        self,
        m: Module,
        valid: Value,
        index: Value,
        value: Value,
        closing: Value,
        pass_set: Signal,
    ) -> None:
        """Stream the elements of the pass that was closed through the two products."""
        # Ring and register take two cycles, so that element 0 meets the root.
        begin_cycle = _SUM_CYCLES + self._root.latency - 2
        m.submodules.elements = elements = VectorRing(
            depth=self._size, width=self._bits, slots=2 + begin_cycle // self._size
        )
        m.submodules.normalize = normalize = self._normalize
        m.submodules.narrow = narrow = self._narrow
        m.submodules.weights = weights = self._weights
        begin = delayed(m, closing, begin_cycle - 1, name="begin")
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
        product = registered_product(m, stored, self._root.root, self._multipliers, name="product")
        weighted = registered_product(
            m, normalize.o, weights.data.as_signed(), self._multipliers, name="weighted"
        )
        shift = self._address_weights(m, pass_set, position, begin_cycle)
        m.d.comb += [
            normalize.i.eq(product),
            # The root's exponent may be replaced while the last product is on its way.
            normalize.shift.eq(delayed(m, self._root.exponent, 1, name="exponent")),
            narrow.i.eq(weighted),
            narrow.shift.eq(shift),
        ]
        wait = self.latency - self._settled - begin_cycle
        streaming = delayed(m, reading, wait, name="streaming")
        final = delayed(m, pass_set == self._layers, begin_cycle - 1 + wait, name="final_pass")
        m.d.comb += [
            self.norm_valid.eq(streaming & ~final),
            self.final_valid.eq(streaming & final),
            self.norm_index.eq(delayed(m, position, wait, name="norm_index")),
            self.norm_value.eq(clamped_if(final, narrow.o, *self._widths)),
        ]

    def _address_weights(
        self, m: Module, pass_set: Signal, position: Signal, begin_cycle: int
    ) -> Value:
        """Address the weight of the element whose product is under way; return its shift."""
        # Product, requantizer, then weight: two cycles of ring before, two of the memory less.
        to_weight = 2 + 1 + self._normalize.latency
        wait = to_weight - ParameterMemory.latency - 1
        bases = [number * self._size for number in range(len(self._shifts))]
        current = delayed(m, pass_set, begin_cycle - 1, name="current_set")
        late_set = delayed(m, current, wait, name="late_set")
        late_position = delayed(m, position, wait, name="late_position")
        address = Signal(len(self._weights.address), reset_less=True)
        m.d.sync += address.eq(select_constant(late_set, bases, len(address)) + late_position)
        m.d.comb += self._weights.address.eq(address)
        stored = select_constant(
            delayed(m, late_set, 1 + ParameterMemory.latency, name="shift_set"),
            self._shifts,
            self._shift_bits,
        )
        return delayed(m, stored, 1, name="shift")


_SUM_CYCLES = PIPELINED_PRODUCT + 1
"""From a pass's last element to its complete sum: square, sum."""
