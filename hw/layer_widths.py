"""Hybrid schemes: what some blocks' matrices read uses less than the width it is stored in."""

from __future__ import annotations

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.program import Program
from hw.clamp import clamped_among
from hw.pipeline import index_bits, select_constant

__all__ = ["LayerWidths"]


class LayerWidths(wiring.Component):
    """Saturates what out_proj, and an MLP's last matrix, read to the width of their block.

    ``o = saturate(i)`` to ``program.projection_bits(layer)`` bits. The unit in front has rounded
    the value and saturated it to the scheme's width; ranges are nested, so that this equals
    requantizing it to the narrower width at once. Without blocks of their own width ``o`` is ``i``.

    Latency: 0. Throughput: one element a cycle.

    Parameters
    ----------
    program : Program
        Source of the widths.

    Members
    -------
    layer : In(index_bits(L))
        Block of the element that is at ``i``.
    i, o : In, Out(signed(projection_input_bits))
        Element as it comes and as it is stored.
    """

    def __init__(self, *, program: Program) -> None:
        layers = range(program.shape.n_layer)
        widths = [program.projection_bits(layer) for layer in layers]
        self._widths = sorted(set(widths))
        self._choices = [self._widths.index(bits) for bits in widths]
        element = signed(program.scheme.projection_input_bits)
        super().__init__(
            {"layer": In(index_bits(len(layers))), "i": In(element), "o": Out(element)}
        )

    def elaborate(self, _platform: object) -> Module:
        """Choose among the widths that occur."""
        m = Module()
        choice = select_constant(self.layer, self._choices, index_bits(len(self._widths)))
        m.d.comb += self.o.eq(clamped_among(choice, self.i, self._widths))
        return m
