"""The scan's state memory, shared by the lanes and the port that saves and restores it."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.pipeline import index_bits

__all__ = ["ScanState"]


class ScanState(wiring.Component):
    """Hold every state word; one read and one write a cycle, zero at power-up.

    Latency: ``2`` cycles from an address to ``read_data``, memory and output register. A write
    in cycle w is seen by an address that is shown in any cycle after w. Throughput: one read and
    one write a cycle.

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

    latency = 2

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
        """Build the memory, the choice of its user and the masking register."""
        m = Module()
        m.submodules.words = words = memory.Memory(
            shape=unsigned(self._width), depth=self._words, init=[]
        )
        read_port, write_port = words.read_port(), words.write_port()
        register = Signal(self._width, reset_less=True)
        m.d.sync += register.eq(Mux(self.fresh, 0, read_port.data))
        m.d.comb += [
            read_port.addr.eq(Mux(self.busy, self.read_address, self.access_address)),
            write_port.addr.eq(Mux(self.busy, self.write_address, self.access_address)),
            write_port.data.eq(Mux(self.busy, self.write_data, self.access_write_data)),
            write_port.en.eq(Mux(self.busy, self.write_valid, self.access_write)),
            self.read_data.eq(register),
        ]
        return m
