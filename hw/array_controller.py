"""The loop nest of the multiply-accumulate array: groups of rows, elements of a vector."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

OPERANDS = ("weight_base", "last_column", "last_group", "last_position", "last_row", "row_base")
"""Operands of an instruction; the ``last_`` ones are counts less one."""

STEERING = ("source", "bank", "destination")
"""Operands that are passed on in step with the elements (source, bank) or rows (destination)."""


class ArrayController(wiring.Component):
    """Runs one instruction of the array: G groups of K elements from one source vector.

    Counting from the cycle s of ``start``, element k of group g is addressed in cycle
    ``s + 1 + g I + k`` with I cycles a group, and row ``g P + i`` is announced in cycle
    ``s + g I + K + row_latency + i``. Throughput: one element a cycle; the next instruction may
    start in cycle ``s + G I``.

    Parameters
    ----------
    lanes : P
    limits : largest value of every operand, and of ``weight_address`` and ``row_address``

    Members
    -------
    start : in, with the operands
    element, element_valid, first, last : out, the element addressed and its place in the group
    weight_address : out, counts up one for each element
    source, bank : out, the instruction's, in step with ``element``
    row_valid, row, row_address : out, index of the drained row and its place in the row memory
    destination : out, the instruction's, in step with ``row``
    """

    row_latency = 4

    def __init__(self, *, lanes: int, limits: Mapping[str, int]) -> None:
        self._lanes = lanes
        self._widths = {name: max(1, limit.bit_length()) for name, limit in limits.items()}
        super().__init__(
            {
                "start": In(1),
                **{name: In(self._widths[name]) for name in OPERANDS},
                **{f"{name}_operand": In(self._widths[name]) for name in STEERING},
                "element": Out(self._widths["last_column"]),
                "element_valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "weight_address": Out(self._widths["weight_address"]),
                "row_valid": Out(1),
                "row": Out(self._widths["last_row"]),
                "row_address": Out(self._widths["row_address"]),
                **{name: Out(self._widths[name]) for name in STEERING},
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        # The microcode replaces its operands in the very cycle of the last element, so the loop
        # works on copies.
        own = {
            name: Signal(self._widths[name], name=f"own_{name}")
            for name in ("last_column", "last_group", "last_position", "last_row", "row_base")
        }
        own_destination = Signal(self._widths["destination"])
        busy, position = Signal(), Signal(self._widths["last_position"])
        group, inside = Signal(self._widths["last_group"]), Signal()
        m.d.comb += [
            inside.eq(position <= own["last_column"]),
            self.element.eq(position),
            self.element_valid.eq(busy & inside),
            self.first.eq(position == 0),
            self.last.eq(position == own["last_column"]),
        ]
        with m.If(busy):
            with m.If(inside):
                m.d.sync += self.weight_address.eq(self.weight_address + 1)
            with m.If(position == own["last_position"]):
                m.d.sync += [position.eq(0), group.eq(group + 1)]
                with m.If(group == own["last_group"]):
                    m.d.sync += busy.eq(0)
            with m.Else():
                m.d.sync += position.eq(position + 1)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), position.eq(0), group.eq(0)]
            m.d.sync += self.weight_address.eq(self.weight_base)
            m.d.sync += [copy.eq(getattr(self, name)) for name, copy in own.items()]
            m.d.sync += [
                self.source.eq(self.source_operand),
                self.bank.eq(self.bank_operand),
                own_destination.eq(self.destination_operand),
            ]
        own["destination"] = own_destination
        self._announce_rows(m, own, self.element_valid & self.last, group == 0)
        return m

    def _announce_rows(
        self, m: Module, own: dict[str, Signal], group_done: Value, first_group: Value
    ) -> None:
        """Count the rows of a finished group out, ``row_latency`` cycles after its last element."""
        done = Signal(self.row_latency - 1)
        renew = Signal(self.row_latency - 1)
        next_row, next_base = Signal.like(own["last_row"]), Signal.like(own["row_base"])
        m.d.sync += [done.eq(Cat(group_done, done)), renew.eq(Cat(group_done & first_group, renew))]
        next_destination = Signal.like(own["destination"])
        with m.If(group_done & first_group):
            m.d.sync += [
                next_row.eq(own["last_row"]),
                next_base.eq(own["row_base"]),
                next_destination.eq(own["destination"]),
            ]
        lane, last_row = Signal(range(max(2, self._lanes))), Signal.like(own["last_row"])
        advance = [self.row.eq(self.row + 1), self.row_address.eq(self.row_address + 1)]
        with m.If(done[-1]):
            m.d.sync += [self.row_valid.eq(1), lane.eq(0)]
            with m.If(renew[-1]):
                m.d.sync += [self.row.eq(0), self.row_address.eq(next_base)]
                m.d.sync += [last_row.eq(next_row), self.destination.eq(next_destination)]
            with m.Else():
                m.d.sync += advance
        with m.Elif(self.row_valid):
            with m.If((lane == self._lanes - 1) | (self.row == last_row)):
                m.d.sync += self.row_valid.eq(0)
            with m.Else():
                m.d.sync += [lane.eq(lane + 1), *advance]
