"""The loop nest of the multiply-accumulate array: groups of rows, elements of a vector."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

OPERANDS = ("weight_base", "last_column", "last_group", "last_position", "last_row", "row_base")
"""Operands of an instruction; the ``last_`` ones are counts less one."""

DIGITS = "last_digit"
"""Operand of arrays whose elements may come in several digits: their number less one."""

STEERING = ("source", "bank", "destination")
"""Operands that are passed on in step with the elements (source, bank) or rows (destination)."""


LEAST_INTERVAL = 8
"""Least cycles a group: the operands of its rows wait ``row_latency`` cycles to be counted out."""


class ArrayController(wiring.Component):
    """Runs one instruction of the array: G groups of K elements from one source vector.

    Counting from the cycle s of ``start``, element k of group g is addressed in cycle
    ``s + 1 + g I + k`` with I cycles a group, and row ``g P + i`` is announced in cycle
    ``s + g I + K + row_latency + i``. Throughput: one element a cycle; the next instruction may
    start in cycle ``s + G I``.

    Parameters
    ----------
    lanes : P
    limits : largest value of every operand, and of ``weight_address`` and ``row_address``; with
        :data:`DIGITS` an element is addressed for each of its digits, the counts are of digits
    row_latency : cycles from a group's last element to its first row, 2 to 8

    Members
    -------
    start : in, with the operands
    element : out, the element addressed
    first_digit : out, whether it is for the element's first digit, where there are digits
    element_valid, first, last : out, whether there was one a cycle ago, its place in the group
    weight_address : out, that of its weights, also a cycle behind
    source, bank : out, the instruction's, in step with ``element``
    row_valid, row, row_address : out, index of the drained row and its place in the row memory
    destination : out, the instruction's, in step with ``row``
    """

    def __init__(self, *, lanes: int, limits: Mapping[str, int], row_latency: int) -> None:
        if not 2 <= row_latency <= LEAST_INTERVAL:
            raise ValueError(f"row_latency {row_latency} is outside 2..{LEAST_INTERVAL}")
        self._lanes, self._row_latency = lanes, row_latency
        self._widths = {name: max(1, limit.bit_length()) for name, limit in limits.items()}
        super().__init__(
            {
                "start": In(1),
                **{name: In(self._widths[name]) for name in self.operands},
                **{f"{name}_operand": In(self._widths[name]) for name in STEERING},
                **({"first_digit": Out(1)} if DIGITS in self._widths else {}),
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

    @property
    def operands(self) -> tuple[str, ...]:
        """Names of the operands of an instruction."""
        return (*OPERANDS, DIGITS) if DIGITS in self._widths else OPERANDS

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        # The microcode replaces its operands in the very cycle of the last element, so the loop
        # works on copies.
        copied = ("weight_base", "last_column", "last_group")
        own = {name: Signal(self._widths[name], name=f"own_{name}") for name in copied}
        busy, position = Signal(), Signal(self._widths["last_position"])
        group, first_group = Signal(self._widths["last_group"]), Signal()
        # Registered, since they steer much: all that follows is a cycle behind the element.
        penultimate = Signal.like(position)
        inside, restarts, final_group = Signal(), Signal(), Signal()
        last = Signal()
        m.d.comb += last.eq(position == own["last_column"])
        m.d.sync += [
            self.element_valid.eq(busy & inside),
            self.first.eq(position == 0),
            self.last.eq(busy & last),
            first_group.eq(group == 0),
            # Known a cycle ahead, as a group has several.
            restarts.eq(busy & (position == penultimate)),
            final_group.eq(group == own["last_group"]),
        ]
        with m.If(busy):
            with m.If(restarts):
                m.d.sync += [position.eq(0), group.eq(group + 1), inside.eq(1)]
                with m.If(final_group):
                    m.d.sync += busy.eq(0)
            with m.Else():
                m.d.sync += position.eq(position + 1)
                with m.If(last):
                    m.d.sync += inside.eq(0)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), position.eq(0), group.eq(0), inside.eq(1)]
            m.d.sync += [copy.eq(getattr(self, name)) for name, copy in own.items()]
            m.d.sync += penultimate.eq(self.last_position - 1)
            m.d.sync += [self.source.eq(self.source_operand), self.bank.eq(self.bank_operand)]
        started = Signal()
        m.d.sync += started.eq(self.start)
        with m.If(started):
            m.d.sync += self.weight_address.eq(own["weight_base"])
        with m.Elif(self.element_valid):
            m.d.sync += self.weight_address.eq(self.weight_address + 1)
        self._address_elements(m, position, self.start | restarts)
        self._announce_rows(m, started, self.last, self.last & first_group)
        return m

    def _address_elements(self, m: Module, position: Signal, restarts: Value) -> None:
        """Address an element at every position, or as often as it has digits."""
        if DIGITS not in self._widths:
            m.d.comb += self.element.eq(position)
            return
        last_digit, digit = Signal(self._widths[DIGITS]), Signal(self._widths[DIGITS])
        element = Signal.like(self.element, name="own_element")
        m.d.comb += [self.element.eq(element), self.first_digit.eq(digit == 0)]
        with m.If(digit == last_digit):
            m.d.sync += [digit.eq(0), element.eq(element + 1)]
        with m.Else():
            m.d.sync += digit.eq(digit + 1)
        with m.If(restarts):
            m.d.sync += [digit.eq(0), element.eq(0)]
        with m.If(self.start):
            m.d.sync += last_digit.eq(getattr(self, DIGITS))

    def _announce_rows(self, m: Module, started: Value, group_done: Value, begins: Value) -> None:
        """Count the rows of a finished group out, ``row_latency`` cycles after its last element.

        ``begins`` is high with ``group_done`` in the first group, whose operands then wait until
        the rows before are counted out.
        """
        done = Signal(self._row_latency - 2)
        renew = Signal(self._row_latency - 2)
        m.d.sync += [done.eq(Cat(group_done, done)), renew.eq(Cat(begins, renew))]
        operands = {
            "last_row": self.last_row,
            "row_base": self.row_base,
            "destination": self.destination_operand,
        }
        # The instruction's, replaced as late as its last element is announced.
        own = {name: Signal.like(value, name=f"own_{name}") for name, value in operands.items()}
        waiting = {name: Signal.like(own[name], name=f"next_{name}") for name in own}
        with m.If(started):
            m.d.sync += [own[name].eq(value) for name, value in operands.items()]
        with m.If(begins):
            m.d.sync += [waiting[name].eq(own[name]) for name in own]
        next_row, next_base = waiting["last_row"], waiting["row_base"]
        next_destination = waiting["destination"]
        lane, last_row = Signal(range(max(2, self._lanes))), Signal.like(next_row)
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
