"""Makes one gapless burst of the rows that leave an array in groups."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.pipeline import delayed, index_bits
from hw.vector_ring import VectorRing

__all__ = ["Burst"]


class Burst(wiring.Component):
    """Collects vectors and sends each, when told, one element a cycle.

    Latency: 1 cycle from ``start`` to element 0. Throughput: one vector every ``size`` cycles.

    Parameters
    ----------
    size : elements a vector
    width : signed bits an element
    slots : vectors it holds

    Members
    -------
    i_valid, i_index, i_value : in; element k must come before cycle k after ``start``
    start : in, send the next vector
    o_valid, o_index, o_value : out
    """

    latency = 1

    def __init__(self, *, size: int, width: int, slots: int) -> None:
        self._size = size
        self._ring = VectorRing(depth=size, width=width, slots=slots)
        super().__init__(
            {
                "i_valid": In(1),
                "i_index": In(index_bits(size)),
                "i_value": In(signed(width)),
                "start": In(1),
                "o_valid": Out(1),
                "o_index": Out(index_bits(size)),
                "o_value": Out(signed(width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.ring = ring = self._ring
        busy, index = Signal(), Signal(index_bits(self._size))
        reading = self.start | busy
        last = index == self._size - 1
        with m.If(reading):
            m.d.sync += [busy.eq(~last), index.eq(Mux(last, 0, index + 1))]
        m.d.comb += [
            ring.valid.eq(self.i_valid),
            ring.index.eq(self.i_index),
            ring.value.eq(self.i_value),
            ring.read.eq(reading),
            self.o_valid.eq(delayed(m, reading, self.latency, name="o_valid")),
            self.o_index.eq(delayed(m, index, self.latency, name="o_index")),
            self.o_value.eq(ring.read_value),
        ]
        return m
