"""Scales of groups of columns: weights on their way from the memory to the lanes of the array."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.layer import Linear
from golden.scheme import GROUP_SHIFT_BITS
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields
from hw.pipeline import delayed

__all__ = ["GroupScales", "scale_words"]


def scale_words(linear: Linear, lanes: int, group: int) -> list[int]:
    """Return the shifts of a matrix: word ``g G + c`` is that of row group g and column group c.

    Zeros for a matrix of one group.
    """
    rows, columns = linear.weight.shape
    words = []
    for first in range(0, rows, lanes):
        for column in range(-(-columns // group)):
            fields = [0] * lanes
            if linear.group_shift is not None:
                own = linear.group_shift[first : first + lanes, column].tolist()
                fields[: len(own)] = own
            words.append(pack_fields(fields, GROUP_SHIFT_BITS))
    return words


class GroupScales(wiring.Component):
    """Brings weights to the unit of their row: ``scaled[p] = weights[p] << shift[p]``.

    One word of shifts, a lane each, serves a group of columns. The address counts as that of the
    weights does, but only where a group of columns or of rows ends, so that shifts and weights of
    an element come out of their memories together: ``weights`` is presented ``latency`` cycles
    after ``element_valid``, and ``scaled`` follows it without a register.

    Latency: ``latency`` cycles from an element's address to its shifts. Throughput: one element a
    cycle.

    Parameters
    ----------
    lanes : int
        P, weights a word.
    weight_bits : int
        Signed width of a stored weight.
    column_bits : int
        Width of ``column``.
    group : int
        Columns that share a shift, a power of two.
    words : list[int]
        Shifts of all matrices, see :func:`scale_words`.
    latency : int
        That of the weights' memory.
    plan : MemoryPlan
        Where the shifts live.

    Members
    -------
    start : In(1)
        An instruction of the array begins.
    base : In(n)
        Its first word, from ``start`` until the cycle after.
    element_valid, column, last : In(1), In(column_bits), In(1)
        An element is addressed, its column, whether it is the last of its rows.
    weights : In(P weight_bits)
        Stored weights, lane 0 lowest.
    scaled : Out(P (weight_bits + 3))
        The same in the unit of their rows.
    """

    def __init__(
        self,
        *,
        lanes: int,
        weight_bits: int,
        column_bits: int,
        group: int,
        words: list[int],
        latency: int,
        plan: MemoryPlan,
    ) -> None:
        self._lanes, self._weight_bits, self._group = lanes, weight_bits, group
        self._scaled_bits = weight_bits + (1 << GROUP_SHIFT_BITS) - 1
        self._memory = ParameterMemory(
            name="weight_scales",
            width=lanes * GROUP_SHIFT_BITS,
            words=words,
            plan=plan,
            latency=latency,
        )
        super().__init__(
            {
                "start": In(1),
                "base": In(len(words).bit_length()),
                "element_valid": In(1),
                "column": In(column_bits),
                "last": In(1),
                "weights": In(lanes * weight_bits),
                "scaled": Out(lanes * self._scaled_bits),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """Build the address, the memory and a shifter a lane."""
        m = Module()
        m.submodules.memory = memory = self._memory
        started = delayed(m, self.start, 1, name="started")
        within = self._group.bit_length() - 1
        ends: Value = self.last
        if len(self.column) >= within:
            ends = self.last | self.column[:within].all()
        with m.If(started):
            m.d.sync += memory.address.eq(self.base)
        with m.Elif(self.element_valid & ends):
            m.d.sync += memory.address.eq(memory.address + 1)
        scaled = []
        for lane in range(self._lanes):
            weight = self.weights.word_select(lane, self._weight_bits).as_signed()
            own = Signal(signed(self._scaled_bits), name=f"scaled_{lane}")
            m.d.comb += own.eq(weight << memory.data.word_select(lane, GROUP_SHIFT_BITS))
            scaled.append(own)
        m.d.comb += self.scaled.eq(Cat(*scaled))
        return m
