"""Every product of small factors, of every kind: the exact value in the register."""

from itertools import product

import pytest
from amaranth.hdl import Module, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.multiplier import PIPELINED_PRODUCT, Multipliers, registered_product
from sim.components.pipes import run_pipe

SHAPES = [Shape(1), Shape(3), Shape(4), Shape(2, signed=True), Shape(5, signed=True)]


class Product(wiring.Component):
    """``o = a * b`` a cycle later."""

    def __init__(self, first, second, kind):
        self._kind = kind
        width, is_signed = first.width + second.width, first.signed or second.signed
        super().__init__(
            {"a": In(first), "b": In(second), "o": Out(Shape(width, signed=is_signed))}
        )

    def elaborate(self, platform):
        del platform
        m = Module()
        m.d.comb += self.o.eq(registered_product(m, self.a, self.b, self._kind, name="product"))
        return m


def values(shape):
    """Return all values of a shape."""
    low = -(1 << (shape.width - 1)) if shape.signed else 0
    return range(low, low + (1 << shape.width))


@pytest.mark.parametrize("kind", Multipliers)
@pytest.mark.parametrize(("first", "second"), list(product(SHAPES, SHAPES)))
def test_product_is_exact_one_cycle_later(first, second, kind):
    unit = Product(first, second, kind)
    pairs = list(product(values(first), values(second)))
    found = run_pipe(Simulator(unit), unit, 1, a=[a for a, _ in pairs], b=[b for _, b in pairs])
    assert found == [a * b for a, b in pairs]


def test_mix_takes_logic_for_the_narrow_products_only():
    assert Multipliers.MIX.in_logic(4, 1)
    assert not Multipliers.MIX.in_logic(5, 1)
    assert Multipliers.MIX.in_logic(8, PIPELINED_PRODUCT)
    assert not Multipliers.MIX.in_logic(9, PIPELINED_PRODUCT)
    assert Multipliers.LUT.in_logic(18, 1)
    assert not Multipliers.DSP.in_logic(1, PIPELINED_PRODUCT)
