"""The residual stream's memory and the RMSNorm that reads it."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.fixed_point import Integers
from golden.operations.normalization import (
    epsilon_integer,
)
from golden.program import Program
from hw.clamp import clamped_among
from hw.norm_scaling import NormScaling
from hw.parameter_memory import MemoryPlan, pack_fields
from hw.pipeline import delayed, index_bits, select_constant
from hw.vector_buffer import NO_COLLISION

__all__ = ["ResidualNorm", "norm_weight_words", "norms_in_order"]


class ResidualNorm(wiring.Component):
    """Holds the residual ``r[0..D-1]``, updates it and streams its RMSNorm after every update.

    ``r[i] = value`` (load) or ``r[i] = saturate(r[i] + value)`` (add), and after element D - 1
    ``norm[i] = requantize(requantize(r[i] root, exponent, 18) weight[set, i], shift[set])`` with
    ``root 2**-(17 + exponent) = 1/sqrt(epsilon + sum(r**2))``: equal to
    :func:`golden.operations.normalization.rms_norm`.

    A *pass* is D loads or D adds, in the order of the index, at most one a cycle with any gaps.
    The old value of an element is read before the element arrives, hence the order. The unit
    counts the passes: a load pass is normalised with weight set 0, the k-th add pass after it with
    set k, the last being the final norm's. With MLPs a block has two sets, its mixer's first.

    Counting from the cycle in which element D - 1 is valid, ``norm[i]`` appears after
    ``latency + i`` cycles, and the next pass may begin after ``duration`` cycles.

    Latency: ``10 + root.latency`` cycles, 18: residual (2), square, sum, root, product,
    requantizer (2), weight, requantizer (2). Throughput: one element a cycle, one pass every
    ``D - 1 + duration`` cycles.

    Parameters
    ----------
    program : Program
        Source of sizes, widths, weights, shifts and table.
    plan : MemoryPlan
        Where weights and table live.

    Members
    -------
    load_valid, load_index, load_value : In(1), In(range(D)), In(signed(residual_bits))
        Element of a new token, residual integers.
    add_valid, add_index, add_value : In(1), In(range(D)), In(signed(residual_bits))
        What a layer adds, residual integers. Never in a cycle or a pass with a load.
    residual_valid, residual_value : Out(1), Out(signed(residual_bits))
        Probe: element as written, ``residual_latency`` cycles after its load or add.
    norm_valid, norm_index, norm_value : Out(1), Out(range(D)), Out(signed(width))
        Normalised element, as wide as the wider of what blocks and head read.

    Raises
    ------
    ValueError
        If the sum of squares may be wider than 62 bits or the table of ``1/sqrt`` is not usable.
    """

    residual_latency = 2

    def __init__(self, *, program: Program, plan: MemoryPlan) -> None:
        shape, scheme = program.shape, program.scheme
        self._size, self._bits = shape.d_model, scheme.residual_bits
        widths = [bits for _, _, bits in norms_in_order(program)]
        self._widths = sorted(set(widths))
        self._choices = [self._widths.index(bits) for bits in widths]
        self._epsilon = epsilon_integer(self._size, program.residual_fraction)
        self._scaling = NormScaling(
            size=self._size,
            bits=self._bits,
            epsilons=[self._epsilon],
            table=program.tables.reciprocal,
            words=norm_weight_words(program),
            weight_bits=scheme.norm_weight_bits,
            shifts=[shift for _, shift, _ in norms_in_order(program)],
            output_bits=max(self._widths),
            plan=plan,
        )
        self._root, self._weights = self._scaling.root, self._scaling.weights
        element = signed(self._bits)
        super().__init__(
            {
                "load_valid": In(1),
                "load_index": In(range(self._size)),
                "load_value": In(element),
                "add_valid": In(1),
                "add_index": In(range(self._size)),
                "add_value": In(element),
                "residual_valid": Out(1),
                "residual_value": Out(element),
                "norm_valid": Out(1),
                "norm_index": Out(range(self._size)),
                "norm_value": Out(signed(max(self._widths))),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from the last element of a pass to its first normalised element."""
        return self._sum_latency + self._root.latency + self._scaling.latency

    @property
    def duration(self) -> int:
        """Least cycles from the last element of a pass to the first element of the next.

        The stream reads ``r[i]`` from the memory in cycle ``duration - 1 - D + i``, and in cycle
        ``duration`` the memory shows ``r[0]`` again, which an add needs. A later first element
        is always right; normalised elements of the earlier pass may still be on their way.
        """
        return self._sum_latency + self._root.latency - 1 + self._size

    @property
    def _sum_latency(self) -> int:
        """Cycles from the last element to the complete sum of squares."""
        return self.residual_latency + 2

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        valid = self.load_valid | self.add_valid
        reading = Signal()
        last, position_last, stored = self._update(m, valid, reading)
        self._accumulate(m, valid, last)
        # One cycle before the first element is in the memory's register.
        begin = delayed(m, last, self._sum_latency + self._root.latency - 2, name="begin")
        load_pass = Signal()
        with m.If(valid):
            m.d.sync += load_pass.eq(self.load_valid)
        with m.If(begin):
            m.d.sync += reading.eq(1)
        with m.Elif(position_last):
            m.d.sync += reading.eq(0)
        weight_delay = 2 + self._scaling.normalize.latency - self._weights.latency
        weight_read = delayed(m, reading, weight_delay, name="weight_read")
        shift, choice = self._select_weights(m, begin & load_pass, begin, weight_read)
        self._scale(m, stored, shift, choice)
        norm_valid = delayed(m, reading, self.latency - self.duration + self._size, name="norm")
        m.d.comb += self.norm_valid.eq(norm_valid)
        with m.If(norm_valid):
            m.d.sync += self.norm_index.eq(
                Mux(self.norm_index == self._size - 1, 0, self.norm_index + 1)
            )
        return m

    def _update(self, m: Module, valid: Value, reading: Signal) -> tuple[Value, Value, Value]:
        """Write the residual.

        Returns the flag of the pass's last element, the flag of the last address, and the
        registered word of the memory. One position serves updates and stream: the memory shows
        the word at it, and each of the two moves it on, around from the last to the first.
        """
        # A write comes two elements behind the read, which wraps around to it in tiny memories.
        attributes = NO_COLLISION if self._size > 3 else {}
        m.submodules.residual = memory = Memory(
            shape=signed(self._bits), depth=self._size, init=[], attrs=attributes
        )
        read, write = memory.read_port(), memory.write_port()
        position = Signal(range(self._size))
        position_last = position == self._size - 1
        with m.If(valid | reading):
            m.d.comb += read.addr.eq(Mux(position_last, 0, position + 1))
        with m.Else():
            m.d.comb += read.addr.eq(position)
        m.d.sync += position.eq(read.addr)
        stored = Signal(signed(self._bits), reset_less=True)
        value = Signal(signed(self._bits), reset_less=True)
        loaded = Signal()
        index = Mux(self.load_valid, self.load_index, self.add_index)
        total = Signal(signed(self._bits + 1))
        m.d.sync += [
            stored.eq(read.data),
            value.eq(Mux(self.load_valid, self.load_value, self.add_value)),
            loaded.eq(self.load_valid),
            self.residual_value.eq(_saturated(total)),
        ]
        m.d.comb += [
            total.eq(Mux(loaded, 0, stored) + value),
            self.residual_valid.eq(delayed(m, valid, self.residual_latency, name="residual")),
            write.addr.eq(delayed(m, index, self.residual_latency, name="write_index")),
            write.data.eq(self.residual_value),
            write.en.eq(self.residual_valid),
        ]
        return valid & position_last, position_last, stored

    def _accumulate(self, m: Module, valid: Value, last: Value) -> None:
        """Sum the squares of what is written and hand the complete sum to the root."""
        m.submodules.reciprocal_root = root = self._root
        square = Signal(2 * self._bits - 1, reset_less=True)
        total = Signal(len(root.total), init=self._epsilon)
        complete = delayed(m, last, self._sum_latency, name="complete")
        squared = delayed(m, valid, self.residual_latency + 1, name="squared")
        m.d.sync += square.eq(self.residual_value * self.residual_value)
        with m.If(complete):
            m.d.sync += total.eq(self._epsilon)
        with m.Elif(squared):
            m.d.sync += total.eq(total + square)
        m.d.comb += [root.total.eq(total), root.valid.eq(complete)]

    def _select_weights(
        self, m: Module, first: Value, begin: Value, read: Value
    ) -> tuple[Value, Value]:
        """Address the weights, one set after the other.

        Returns the set's stored shift, and which of the widths its elements have.
        """
        m.submodules.weights = weights = self._weights
        shifts, shift_bits = self._scaling.shifts, self._scaling.shift_bits
        weight_set = Signal(range(len(shifts)))
        shift = Signal(shift_bits)
        choice = Signal(index_bits(len(self._widths)))
        m.d.sync += [
            shift.eq(select_constant(weight_set, shifts, shift_bits)),
            choice.eq(select_constant(weight_set, self._choices, len(choice))),
        ]
        # Sets follow each other in the memory, so that the address only ever counts.
        with m.If(first):
            m.d.sync += [weight_set.eq(0), weights.address.eq(0)]
        with m.Elif(begin):
            m.d.sync += weight_set.eq(weight_set + 1)
        with m.Elif(read):
            m.d.sync += weights.address.eq(weights.address + 1)
        return shift, choice

    def _scale(self, m: Module, stored: Value, shift: Value, choice: Value) -> None:
        """Multiply with the root, then with the weight; ``choice`` is in step with ``shift``."""
        m.submodules.normalize = normalize = self._scaling.normalize
        m.submodules.narrow = narrow = self._scaling.narrow
        product = Signal(normalize.i.shape(), reset_less=True)
        weighted = Signal(narrow.i.shape(), reset_less=True)
        m.d.sync += [
            product.eq(stored * self._root.root),
            weighted.eq(normalize.o * self._weights.data.as_signed()),
        ]
        m.d.comb += [
            normalize.i.eq(product),
            normalize.shift.eq(self._root.exponent),
            narrow.i.eq(weighted),
            narrow.shift.eq(shift),
            self.norm_value.eq(
                clamped_among(
                    delayed(m, choice, narrow.latency, name="width"), narrow.o, self._widths
                )
            ),
        ]


def _saturated(total: Signal) -> Value:
    """Return a sum without its top bit, clamped to what then fits."""
    bits = len(total) - 1
    overflow = total[-1] != total[-2]
    limit = Mux(total[-1], -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return Mux(overflow, limit, total[:bits].as_signed())


def norms_in_order(program: Program) -> list[tuple[Integers, int, int]]:
    """Return weights, shift and output width of every norm of a token, the final one last."""
    norms: list[tuple[Integers, int, int]] = []
    for index, (layer, shifts) in enumerate(zip(program.layers, program.shifts, strict=True)):
        bits = program.projection_bits(index)
        norms.append((layer.norm_weight, shifts.norm, bits))
        if program.mlps is not None:
            norms.append((program.mlps[index].norm_weight, program.mlp_shifts[index].norm, bits))
    bits = program.scheme.activation_bits
    return [*norms, (program.final_norm_weight, program.final_norm_shift, bits)]


def norm_weight_words(program: Program) -> list[int]:
    """Return the weights of all norms in the order of their use."""
    bits = program.scheme.norm_weight_bits
    return [
        pack_fields([weight], bits)
        for weights, _, _ in norms_in_order(program)
        for weight in weights
    ]
