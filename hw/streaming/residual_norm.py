"""Residuals of the tokens under way, the frame's mean, and the RMSNorm of what was updated."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from golden.operations.normalization import (
    epsilon_integer,
)
from golden.program import Program
from hw.clamp import clamped, clamped_if
from hw.norm_scaling import NormScaling, StreamedNorm
from hw.normalization import norm_weight_words
from hw.parameter_memory import MemoryPlan
from hw.pipeline import delayed, index_bits, select_constant
from hw.requantizer import ShiftRequantizer
from hw.vector_buffer import NO_COLLISION

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
        self._layers = shape.n_layer
        self._pools, self._pool_shift = shape.frame.hidden is not None, shape.frame.tokens_log2
        self._epsilon = epsilon_integer(self._size, program.residual_fraction)
        self._scaling = NormScaling(
            size=self._size,
            bits=self._bits,
            epsilons=[self._epsilon],
            table=program.tables.reciprocal,
            words=norm_weight_words(program),
            weight_bits=scheme.norm_weight_bits,
            shifts=[*(layer.norm for layer in program.shifts), program.final_norm_shift],
            output_bits=max(self._widths),
            plan=plan,
        )
        self._streamed = StreamedNorm(self._scaling, size=self._size, bits=self._bits, plan=plan)
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
        return self._settled + self._streamed.latency

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
            shape=signed(self._bits), depth=rows * self._slots, init=[], attrs=NO_COLLISION
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
        m.submodules.pool = words = memory.Memory(
            shape=signed(bits), depth=self._size, init=[], attrs=NO_COLLISION
        )
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
        streamed, narrow = self._streamed, self._scaling.narrow
        closing = streamed.accumulate(
            m, valid=valid, index=index, value=value, epsilon=self._epsilon
        )
        pass_set = Signal.like(weight_set, name="pass_set")
        with m.If(closing):
            m.d.sync += pass_set.eq(weight_set)
        sent = streamed.stream(m, valid=valid, index=index, value=value, closing=closing)
        streamed.requantize(m, sent, self._address_weights(m, pass_set, sent.position))
        begin_cycle = streamed.begin_cycle
        wait = streamed.latency - begin_cycle
        streaming = delayed(m, sent.reading, wait, name="streaming")
        final = delayed(m, pass_set == self._layers, begin_cycle - 1 + wait, name="final_pass")
        m.d.comb += [
            self.norm_valid.eq(streaming & ~final),
            self.final_valid.eq(streaming & final),
            self.norm_index.eq(delayed(m, sent.position, wait, name="norm_index")),
            self.norm_value.eq(clamped_if(final, narrow.o, *self._widths)),
        ]

    def _address_weights(self, m: Module, pass_set: Signal, position: Signal) -> Value:
        """Address the weight of the element whose product is under way; return its shift."""
        scaling, weights, wait = self._scaling, self._scaling.weights, self._streamed.weight_cycles
        bases = [number * self._size for number in range(len(scaling.shifts))]
        current = delayed(m, pass_set, self._streamed.begin_cycle - 1, name="current_set")
        late_set = delayed(m, current, wait, name="late_set")
        late_position = delayed(m, position, wait, name="late_position")
        address = Signal(len(weights.address), reset_less=True)
        m.d.sync += address.eq(select_constant(late_set, bases, len(address)) + late_position)
        m.d.comb += weights.address.eq(address)
        stored = select_constant(
            delayed(m, late_set, 1 + weights.latency, name="shift_set"),
            scaling.shifts,
            scaling.shift_bits,
        )
        return delayed(m, stored, 1, name="shift")
