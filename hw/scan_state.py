"""The scan's state memory, shared by the lanes and the port that saves and restores it."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.parameter_memory import columns
from hw.pipeline import delayed, index_bits
from hw.vector_buffer import NO_COLLISION

__all__ = ["ScanState"]


class ScanState(wiring.Component):
    """Hold every state word; one read and one write a cycle, zero at power-up.

    Latency: ``3`` cycles from an address to ``read_data``: memory, its register, and the choice
    among the banks, which are those of a :class:`~hw.parameter_memory.ParameterMemory`. A write
    in cycle w is seen by an address that is shown in any cycle after ``w + write_latency``: what
    is written waits in registers for the way to the blocks. Throughput: one read and one write a
    cycle.

    Parameters
    ----------
    words : int
        Depth, of all contexts together.
    width : int
        Bits a word.

    Members
    -------
    busy : In(1)
        The lanes own the memory; if low, the access port does.
    fresh : In(1)
        What is read shows as zero: no clearing pass is needed to begin a sequence. In step with
        the memory's data, one cycle behind the address.
    read_address : In(index_bits(words))
        Address of the lanes' read.
    write_valid, write_address, write_data : In
        The lanes' write.
    access_address, access_write, access_write_data : In
        The access port; its one address serves reading and writing.
    read_data : Out(unsigned(width))
        Word for either.
    """

    latency = 3
    write_latency = 1

    def __init__(self, *, words: int, width: int) -> None:
        self._words, self._width = words, width
        address = index_bits(words)
        super().__init__(
            {
                "busy": In(1),
                "fresh": In(1),
                "read_address": In(address),
                "write_valid": In(1),
                "write_address": In(address),
                "write_data": In(unsigned(width)),
                "access_address": In(address),
                "access_write": In(1),
                "access_write_data": In(unsigned(width)),
                "read_data": Out(unsigned(width)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """Choose the memory's user, and the bank of each column of bits that has the word."""
        m = Module()
        read = Signal.like(self.read_address)
        write = Signal.like(self.write_address, reset_less=True)
        write_data = Signal.like(self.write_data, reset_less=True)
        place = Mux(self.busy, self.write_address, self.access_address)
        valid = Mux(self.busy, self.write_valid, self.access_write)
        m.d.comb += read.eq(Mux(self.busy, self.read_address, self.access_address))
        m.d.sync += [
            write.eq(place),
            write_data.eq(Mux(self.busy, self.write_data, self.access_write_data)),
        ]
        late_fresh = delayed(m, self.fresh, 1, name="fresh")
        parts: list[Value] = []
        low = 0
        for width, depths in columns(self._words, self._width):
            outputs = []
            place_bits = (depths[0] - 1).bit_length()
            for number, depth in enumerate(depths):
                words = memory.Memory(
                    shape=unsigned(width), depth=depth, init=[], attrs=NO_COLLISION
                )
                m.submodules[f"words_{low}_{number}"] = words
                read_port, write_port = words.read_port(), words.write_port()
                register = Signal(width, name=f"word_{low}_{number}", reset_less=True)
                enable = Signal(name=f"write_{low}_{number}")
                chosen = place[place_bits:] == number if len(depths) > 1 else 1
                m.d.sync += [register.eq(read_port.data), enable.eq(valid & chosen)]
                m.d.comb += [
                    read_port.addr.eq(read),
                    write_port.addr.eq(write),
                    write_port.data.eq(write_data[low : low + width]),
                    write_port.en.eq(enable),
                ]
                outputs.append(register)
            if len(outputs) > 1:
                bank = delayed(m, read[place_bits:], self.latency - 1, name=f"bank_{low}")
                parts.append(Array(outputs)[bank])
            else:
                parts.append(outputs[0])
            low += width
        word = Signal.like(self.read_data, name="word", reset_less=True)
        m.d.sync += word.eq(Mux(late_fresh, 0, Cat(*parts)))
        m.d.comb += self.read_data.eq(word)
        return m
