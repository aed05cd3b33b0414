"""Ways to find the scale of a channel: a constant, a flag, a search over ranges, a table.

All units have one interface and compute one function, :func:`select`: the exponent of the range
that a channel lies in. They differ in what they can express: one scale has one range, two scales
take the range from a flag stored with the value, and the rest have sixteen ranges of channels, as
piecewise scales of four head groups by four dimension groups have. Tables are ports: whoever
stores them pays their bits, which :meth:`Selector.table_bits` counts. The unit's gates are those
of the choice alone, the reading multiplexer included.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

CHANNEL_BITS = 8
"""Channels are 0..255, as many as ``bytelm`` has in a block."""
EXPONENT_BITS = 4
RANGES = 16
RATIO_LOG2 = 2
"""The coarse scale is ``2**2`` fine ones, as in W4A5-SE."""


def select(channel: int, flag: int, bounds: Sequence[int], exponents: Sequence[int]) -> int:
    """Return the exponent of a channel: the golden function of every unit here.

    Parameters
    ----------
    channel : 0..255
    flag : stored with the value; 1 raises the exponent by :data:`RATIO_LOG2`
    bounds : first channels of the second range and of those after it, rising
    exponents : one a range
    """
    reached = sum(channel >= bound for bound in bounds)
    return (exponents[reached] + flag * RATIO_LOG2) % (1 << EXPONENT_BITS)


class Selector(wiring.Component):
    """Interface of every unit.

    Throughput: one channel in ``cycles`` cycles, ``start`` to ``done``, at most.

    Parameters
    ----------
    ranges : exponents in the table
    bounded : whether the ranges are given by their bounds
    flagged : whether a flag comes with the value

    Members
    -------
    start, channel, flag : in, a channel to find
    bounds : in, the table's first channels, of units that search
    exponents : in, the table's exponents
    done, exponent : out, the result, ``cycles`` cycles after the start at the latest
    """

    name: str
    ranges: int = RANGES
    bounded: bool = True
    flagged: bool = False
    cycles: int = 1

    def __init__(self) -> None:
        members: dict[str, In | Out] = {
            "start": In(1),
            "channel": In(CHANNEL_BITS),
            "exponents": In(data.ArrayLayout(EXPONENT_BITS, self.ranges)),
            "done": Out(1),
            "exponent": Out(EXPONENT_BITS),
        }
        if self.bounded:
            members["bounds"] = In(data.ArrayLayout(CHANNEL_BITS, self.ranges - 1))
        if self.flagged:
            members["flag"] = In(1)
        super().__init__(members)

    @classmethod
    def table_bits(cls) -> int:
        """Return the bits that a block of 256 channels stores, flags of the values included."""
        bounds = (cls.ranges - 1) * CHANNEL_BITS if cls.bounded else 0
        flags = (1 << CHANNEL_BITS) if cls.flagged else 0
        return cls.ranges * EXPONENT_BITS + bounds + flags

    def _finish(self, m: Module, exponent: Value) -> None:
        """Register the result one cycle after the start."""
        m.d.sync += [self.done.eq(self.start), self.exponent.eq(exponent)]

    def _in_reach(self) -> Value:
        """Return one bit a bound: whether the channel is at it or above."""
        return Cat(self.channel >= self.bounds[i] for i in range(self.ranges - 1))


class OneScale(Selector):
    """The exponent of the block, for every channel."""

    name, ranges, bounded = "one scale", 1, False

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        self._finish(m, self.exponents[0])
        return m


class TwoScales(Selector):
    """The block's exponent, raised by a constant where the value's flag is set."""

    name, ranges, bounded, flagged = "two scales", 1, False, True

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        fine = self.exponents[0]
        self._finish(m, (fine + Mux(self.flag, RATIO_LOG2, 0))[:EXPONENT_BITS])
        return m


class SequentialSearch(Selector):
    """One comparator walks over the bounds, a range a cycle, until one is not reached."""

    name, cycles = "16-way sequential search", RANGES + 1

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        position, busy = Signal(range(RANGES)), Signal()
        wanted = Signal(CHANNEL_BITS)
        # Above the last bound there is none to compare with: the search ends there.
        bounds = data.ArrayLayout(CHANNEL_BITS, RANGES)
        padded = Signal(bounds)
        m.d.comb += padded.eq(Cat(self.bounds, Const(0, CHANNEL_BITS)))
        stops = (position == RANGES - 1) | (wanted < padded[position])
        m.d.sync += self.done.eq(0)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), position.eq(0), wanted.eq(self.channel)]
        with m.Elif(busy):
            m.d.sync += position.eq(position + 1)
            with m.If(stops):
                m.d.sync += [
                    busy.eq(0),
                    self.done.eq(1),
                    self.exponent.eq(self.exponents[position]),
                ]
        return m


class ParallelSearch(Selector):
    """Fifteen comparators at once; the last bound reached begins the channel's range."""

    name = "16-way parallel search"

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        reached = Signal(RANGES - 1)
        m.d.comb += reached.eq(self._in_reach())
        # Neighbours differ in exactly one place, the channel's range: an AND-OR of exponents.
        starts, ends = Cat(1, reached), Cat(reached, 0)
        exponent: Value = Const(0, EXPONENT_BITS)
        for i in range(RANGES):
            here = starts[i] & ~ends[i]
            exponent |= self.exponents[i] & here.replicate(EXPONENT_BITS)
        self._finish(m, exponent)
        return m


class FlatTable(Selector):
    """An exponent a channel: any assignment, read by index."""

    name, ranges, bounded = "flat LUT", 1 << CHANNEL_BITS, False

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        self._finish(m, self.exponents[self.channel])
        return m


SELECTORS: tuple[type[Selector], ...] = (
    OneScale,
    TwoScales,
    SequentialSearch,
    ParallelSearch,
    FlatTable,
)
