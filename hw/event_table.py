"""Microcode: what starts in which cycle of a token, one small store a unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


@dataclass(frozen=True)
class Event:
    """One start of a unit.

    Parameters
    ----------
    time : cycle of the token in which the unit sees its start pulse
    fields : operands, unsigned integers by name
    """

    time: int
    fields: Mapping[str, int]


class EventTable(wiring.Component):
    """Raises ``start`` with an event's operands in the cycle that the schedule gave it.

    The next entry is compared ahead and everything is registered, so the store adds no logic to
    the units it drives. Throughput: one event in :attr:`spacing` cycles.

    Parameters
    ----------
    events : in order of time, the first not before cycle 2
    limits : largest value of each operand, which fixes the operands' widths

    Members
    -------
    running : in, high while ``cycle`` counts
    cycle : in, cycle of the token
    start : out, high for one cycle
    operands : out, one member a field, valid from ``start`` until the next ``start``

    Raises
    ------
    ValueError
        If events are too early, unordered or closer than :attr:`spacing`.
    """

    spacing = 3

    def __init__(self, *, events: Sequence[Event], limits: Mapping[str, int], cycles: int) -> None:
        times = [event.time for event in events]
        if not times or times[0] < 2:
            raise ValueError(f"events start at {times[:1]}; the earliest start is cycle 2")
        for before, after in pairwise(times):
            if after - before < self.spacing:
                raise ValueError(
                    f"events at cycles {before} and {after} are closer than {self.spacing}; "
                    "move one of them"
                )
        self._events = list(events)
        self._widths = {name: max(1, int(limit).bit_length()) for name, limit in limits.items()}
        self._cycle_bits = max(1, cycles.bit_length())
        super().__init__(
            {
                "running": In(1),
                "cycle": In(self._cycle_bits),
                "start": Out(1),
                **{name: Out(width) for name, width in self._widths.items()},
            }
        )

    def _word(self, event: Event) -> int:
        # The comparison runs one cycle ahead of the registered start pulse.
        word, position = event.time - 1, self._cycle_bits
        for name, width in self._widths.items():
            word |= int(event.fields[name]) << position
            position += width
        return word

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        width = self._cycle_bits + sum(self._widths.values())
        words = [self._word(event) for event in self._events]
        m.submodules.store = store = memory.Memory(shape=width, depth=len(words), init=words)
        port = store.read_port(domain="sync")
        pointer = Signal(range(len(words)))
        m.d.comb += port.addr.eq(pointer)
        time = port.data[: self._cycle_bits]
        operands = Cat(*(getattr(self, name) for name in self._widths))
        # After an event the old entry stays readable for two cycles; spacing covers that.
        recent = Signal(2)
        match = self.running & (self.cycle == time) & ~recent.any()
        m.d.sync += [recent.eq(Cat(match, recent[0])), self.start.eq(match)]
        with m.If(match):
            m.d.sync += operands.eq(port.data[self._cycle_bits :])
            with m.If(pointer == len(words) - 1):
                m.d.sync += pointer.eq(0)
            with m.Else():
                m.d.sync += pointer.eq(pointer + 1)
        return m
