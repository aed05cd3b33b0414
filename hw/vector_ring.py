"""A buffer of whole vectors between two units that both run through them in order."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.pipeline import index_bits
from hw.vector_buffer import NO_COLLISION, vector_memory

__all__ = ["VectorRing"]


class VectorRing(wiring.Component):
    """Hold up to ``slots`` vectors: each element is read once, in the order of the index.

    Latency: 1 cycle from ``read`` to ``read_value``. A write in cycle w is seen by a read in any
    later cycle. Throughput: one write and one read a cycle.

    With one slot a write goes to its index, in any order; the writer must not come again before
    an element was read. With more, a vector's last index moves the writer on to the next slot.

    Parameters
    ----------
    depth : elements a vector
    width : bits an element
    slots : vectors

    Members
    -------
    valid, index, value : in, the write
    read : in, take the next element
    read_value : out, unsigned bits of the element, held until the next read

    Raises
    ------
    ValueError
        If a size is below 1.
    """

    def __init__(self, *, depth: int, width: int, slots: int = 1) -> None:
        if min(depth, width, slots) < 1:
            raise ValueError(
                f"a ring of {slots} x {depth} x {width} bits is empty; all must be positive"
            )
        self._depth, self._width, self._slots = depth, width, slots
        super().__init__(
            {
                "valid": In(1),
                "index": In(index_bits(depth)),
                "value": In(width),
                "read": In(1),
                "read_value": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        size = self._depth * self._slots
        # Several vectors fill a block memory better than one.
        attributes = vector_memory(size) if self._slots == 1 else NO_COLLISION
        m.submodules.words = words = memory.Memory(
            shape=self._width, depth=size, init=[], attrs=attributes
        )
        write, read = words.write_port(), words.read_port()
        position = Signal(index_bits(size))
        with m.If(self.read):
            m.d.sync += position.eq(Mux(position == size - 1, 0, position + 1))
        m.d.comb += [
            write.addr.eq(self._write_address(m)),
            write.data.eq(self.value),
            write.en.eq(self.valid),
            read.addr.eq(position),
            read.en.eq(self.read),
            self.read_value.eq(read.data),
        ]
        return m

    def _write_address(self, m: Module) -> Signal:
        """Return the slot's first word plus the index."""
        if self._slots == 1:
            return self.index
        last = (self._slots - 1) * self._depth
        base = Signal(range(last + 1))
        address = Signal(index_bits(self._depth * self._slots))
        m.d.comb += address.eq(base + self.index)
        with m.If(self.valid & (self.index == self._depth - 1)):
            m.d.sync += base.eq(Mux(base == last, 0, base + self._depth))
        return address
