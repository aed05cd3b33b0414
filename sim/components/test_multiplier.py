"""Every product of small factors, of every kind: the exact value in the register."""

from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.multiplier import (
    PIPELINED_PRODUCT,
    SYNTHESIZED,
    WIDE_PRODUCT,
    Arithmetic,
    Multipliers,
    packed_products,
    registered_product,
    wide_product,
)
from hw.primitives import native_product
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
        m.d.comb += self.o.eq(
            registered_product(m, self.a, self.b, Arithmetic(self._kind), name="product")
        )
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
    assert Multipliers.DSP.in_logic(2, PIPELINED_PRODUCT)
    assert not Multipliers.DSP.in_logic(3, PIPELINED_PRODUCT)


class Pair(wiring.Component):
    """``o`` holds ``x a`` and above it ``x b``, of one hardware multiplier."""

    def __init__(self, input_bits, weight_bits, *, pipelined):
        self._pipelined = pipelined
        self._bits = input_bits + weight_bits
        weight = In(signed(weight_bits))
        super().__init__(
            {"x": In(signed(input_bits)), "a": weight, "b": weight, "o": Out(2 * self._bits)}
        )

    def elaborate(self, platform):
        del platform
        m = Module()
        pair = packed_products(
            m, self.x, (self.a, self.b), SYNTHESIZED, pipelined=self._pipelined, name="products"
        )
        low, high = (Signal(signed(self._bits), name=name) for name in ("low", "high"))
        m.d.comb += [low.eq(pair.low), high.eq(pair.high + pair.carry), self.o.eq(Cat(low, high))]
        return m


@pytest.mark.parametrize(
    ("input_bits", "weight_bits", "pipelined"), [(8, 4, True), (8, 3, False), (5, 4, False)]
)
def test_both_products_of_a_multiplier_are_exact(input_bits, weight_bits, pipelined):
    unit = Pair(input_bits, weight_bits, pipelined=pipelined)
    weight = values(signed(weight_bits))
    factors = list(product(values(signed(input_bits)), weight, weight))
    x, a, b = (list(column) for column in zip(*factors, strict=True))
    latency = PIPELINED_PRODUCT if pipelined else 1
    bits = input_bits + weight_bits
    found = run_pipe(Simulator(unit), unit, latency, x=x, a=a, b=b)
    mask = (1 << bits) - 1
    assert found == [(p * q & mask) | (p * r & mask) << bits for p, q, r in factors]


def test_narrow_weights_share_hardware_multipliers():
    assert Multipliers.DSP.packs(4, 8, PIPELINED_PRODUCT)
    assert Multipliers.DSP.packs(4, 9, 1)
    assert not Multipliers.DSP.packs(4, 10, 1)
    assert not Multipliers.DSP.packs(5, 6, 1)
    assert not Multipliers.MIX.packs(4, 8, PIPELINED_PRODUCT)
    assert not Multipliers.LUT.packs(4, 8, 1)
    assert Multipliers.PACKED.packs(4, 8, PIPELINED_PRODUCT)
    assert not Multipliers.PACKED.packs(5, 6, 1)
    assert not Multipliers.PACKED.packs(2, 8, 1)
    assert Multipliers.PACKED.in_logic(8, PIPELINED_PRODUCT)


@pytest.mark.parametrize("factor", [Signal(18), Signal(signed(19))])
def test_a_primitive_takes_factors_of_18_signed_bits(factor):
    with pytest.raises(ValueError, match=r"does not fit signed\(18\)"):
        native_product(Module(), factor, Signal(signed(8)), cycles=1, name="product")


def test_a_primitive_has_one_or_two_cycles():
    with pytest.raises(ValueError, match="no product of 3 cycles"):
        native_product(Module(), Signal(8), Signal(signed(8)), cycles=3, name="product")


class Wide(wiring.Component):
    """``o = a b`` three cycles later."""

    def __init__(self, first_bits, second_bits, kind):
        self._kind = kind
        super().__init__(
            {
                "a": In(signed(first_bits)),
                "b": In(signed(second_bits)),
                "o": Out(signed(first_bits + second_bits)),
            }
        )

    def elaborate(self, platform):
        del platform
        m = Module()
        m.d.comb += self.o.eq(
            wide_product(m, self.a, self.b, Arithmetic(self._kind), name="product")
        )
        return m


@pytest.mark.parametrize("kind", Multipliers)
@pytest.mark.parametrize(("first_bits", "second_bits"), [(20, 8), (27, 9), (18, 8), (6, 5)])
def test_wide_product_is_exact_three_cycles_later(first_bits, second_bits, kind):
    unit = Wide(first_bits, second_bits, kind)
    generator = np.random.default_rng(first_bits)
    a, b = (
        np.concatenate([corners, generator.integers(-(1 << bits - 1), 1 << bits - 1, 1000)])
        for bits in (first_bits, second_bits)
        for corners in [np.array([-(1 << bits - 1), (1 << bits - 1) - 1, -1, 0, 1])]
    )
    pairs = [(x, y) for x in a[:5].tolist() for y in b[:5].tolist()]
    pairs += list(zip(a.tolist(), b.tolist(), strict=True))
    found = run_pipe(
        Simulator(unit), unit, WIDE_PRODUCT, a=[x for x, _ in pairs], b=[y for _, y in pairs]
    )
    assert found == [x * y for x, y in pairs]
