"""A small dual-port memory between two units of the static schedule."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

DISTRIBUTED_DEPTH = 256
"""A vector of at most so many elements would leave a block memory nearly empty."""


NO_COLLISION: dict[str, Any] = {"no_rw_check": 1}
"""Attribute of a memory of which no word is read in the cycle in which it is written, or none that
is used: synthesis need not compare the addresses."""


def vector_memory(depth: int) -> dict[str, Any]:
    """Return the attributes of a memory for so many elements: distributed memory for few."""
    return {"ram_style": "distributed"} if depth <= DISTRIBUTED_DEPTH else NO_COLLISION


class VectorBuffer(wiring.Component):
    """Holds a vector that one unit writes element by element and another reads.

    Latency: 2 cycles from ``read_index`` to ``read_value``. A write whose ``valid`` is high in
    cycle w is seen by a read whose index is presented in any cycle after w.

    Parameters
    ----------
    depth : elements
    width : bits an element

    Members
    -------
    valid, index, value : in, the write
    read_index : in
    read_value : out, unsigned bits of the element

    Raises
    ------
    ValueError
        If depth or width is below 1.
    """

    latency = 2

    def __init__(self, *, depth: int, width: int) -> None:
        if depth < 1 or width < 1:
            raise ValueError(f"a buffer of {depth} x {width} bits is empty; both must be positive")
        self._depth, self._width = depth, width
        super().__init__(
            {
                "valid": In(1),
                "index": In(range(depth)),
                "value": In(width),
                "read_index": In(range(depth)),
                "read_value": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.words = words = memory.Memory(
            shape=self._width, depth=self._depth, init=[], attrs=vector_memory(self._depth)
        )
        write, read = words.write_port(), words.read_port(domain="sync")
        register = Signal(self._width, reset_less=True)
        m.d.comb += [
            write.en.eq(self.valid),
            write.addr.eq(self.index),
            write.data.eq(self.value),
            read.addr.eq(self.read_index),
            self.read_value.eq(register),
        ]
        m.d.sync += register.eq(read.data)
        return m
