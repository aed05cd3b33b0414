"""B and C of every group of heads, and which head and group a channel belongs to."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from golden.configuration import NetworkShape
from hw.pipeline import index_bits, select_constant

__all__ = ["ChannelDivision", "HeadOperands"]


class ChannelDivision(wiring.Component):
    """Count the parts of equal size that the channels in order belong to.

    Latency: 0; ``part`` is that of the channel which is shown. Throughput: one channel a cycle.

    Parameters
    ----------
    parts, size : there are ``parts`` times ``size`` channels

    Members
    -------
    start : in, pulse before the first channel is shown
    advance : in, the channel ends with this cycle
    part : out, number of the part
    """

    def __init__(self, *, parts: int, size: int) -> None:
        self._size = size
        super().__init__({"start": In(1), "advance": In(1), "part": Out(index_bits(parts))})

    def elaborate(self, _platform: object) -> Module:
        """Build the two counters."""
        m = Module()
        part = Signal.like(self.part, name="part_count")
        inside = Signal(index_bits(self._size))
        m.d.comb += self.part.eq(part)
        with m.If(self.start):
            m.d.sync += [part.eq(0), inside.eq(0)]
        with m.Elif(self.advance):
            last = inside == self._size - 1
            m.d.sync += [inside.eq(Mux(last, 0, inside + 1)), part.eq(part + last)]
        return m


class HeadOperands(wiring.Component):
    """Hold B and C of all groups and hand out S of them a step.

    ``b[j] = values[g N + b_step S + j]`` and ``c[j] = values[G N + g N + c_step S + j]`` for the
    group g that ``b_group`` or ``c_group`` names. Up to ``G N`` values each are a memory and not
    registers, written an element at a time, in the order of the index, and read a word.

    Latency: ``1`` cycle from a step to its operands. A value whose ``valid`` is high in cycle w
    is seen by a step that is shown in any cycle after w. Throughput: one step a cycle.

    Parameters
    ----------
    shape : NetworkShape
        N and G.
    bits : int
        Width of an operand.
    scan_lanes : int
        Lanes, S.

    Members
    -------
    valid, value : In(1), In(signed(bits))
        Write of the next element; all of B come before all of C.
    b_group, c_group : In(index_bits(G))
        Group of the step.
    b_step, c_step : In(index_bits(N / S))
        Step whose operands come next.
    b, c : Out(ArrayLayout(signed(bits), scan_lanes))
        Operands of the lanes.
    """

    latency = 1

    def __init__(self, *, shape: NetworkShape, bits: int, scan_lanes: int) -> None:
        self._bits, self._lanes = bits, scan_lanes
        self._steps, self._groups = shape.d_state // scan_lanes, shape.groups
        operands = data.ArrayLayout(signed(bits), scan_lanes)
        group, step = index_bits(shape.groups), index_bits(self._steps)
        super().__init__(
            {
                "valid": In(1),
                "value": In(signed(bits)),
                "b_group": In(group),
                "c_group": In(group),
                "b_step": In(step),
                "c_step": In(step),
                "b": Out(operands),
                "c": Out(operands),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """Build the two memories and the counters of what comes in."""
        m = Module()
        depth = self._groups * self._steps
        lane = Signal(index_bits(self._lanes))
        word = Signal(index_bits(2 * depth))
        last = lane == self._lanes - 1
        with m.If(self.valid):
            m.d.sync += lane.eq(Mux(last, 0, lane + 1))
            with m.If(last):
                m.d.sync += word.eq(Mux(word == 2 * depth - 1, 0, word + 1))
        bases = [group * self._steps for group in range(self._groups)]
        second = word >= depth
        for name, first, inside in (("b", 0, ~second), ("c", depth, second)):
            words = memory.Memory(shape=unsigned(self._lanes * self._bits), depth=depth, init=[])
            m.submodules[f"{name}_words"] = words
            write = words.write_port(granularity=self._bits)
            read = words.read_port()
            group, step = getattr(self, f"{name}_group"), getattr(self, f"{name}_step")
            m.d.comb += [
                write.addr.eq(word - first),
                write.data.eq(self.value.as_unsigned().replicate(self._lanes)),
                write.en.eq((self.valid & inside) << lane),
                read.addr.eq(select_constant(group, bases, len(read.addr)) + step),
                getattr(self, name).eq(read.data),
            ]
        return m
