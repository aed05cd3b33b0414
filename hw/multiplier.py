"""What multiplies: the device's hardware multipliers, logic, or a mix of both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed

from hw.primitives import Primitives, fits, native_product

__all__ = [
    "PIPELINED_PRODUCT",
    "SYNTHESIZED",
    "WIDE_PRODUCT",
    "Arithmetic",
    "Multipliers",
    "ProductPair",
    "packed_products",
    "pipelined_product",
    "registered_product",
    "wide_product",
]

PIPELINED_PRODUCT = 2
"""Latency of :func:`pipelined_product`, whatever multiplies."""

WIDE_PRODUCT = 3
"""Latency of :func:`wide_product`, whatever multiplies."""

NARROW_BITS = {1: 4, PIPELINED_PRODUCT: 8, WIDE_PRODUCT: 8}
"""With a mix, a factor of so few bits makes a product of so many cycles cheap and quick enough
in logic."""


PACKED_BITS = 4
"""Widest factors of which a hardware multiplier takes two."""

FACTOR_BITS = 18
"""Bits of a factor of the hardware multiplier."""


CHOICE_BITS = 2
"""Widest factor, that of ternary weights, which no hardware multiplier is spent on."""


class Multipliers(StrEnum):
    """How products are built; value and cycle are the same for all.

    ``dsp`` leaves the product to synthesis, which takes a hardware multiplier for each, or for
    two products of narrow weights with the same element; ``lut`` adds partial products in logic;
    ``mix`` does so where that is cheap and quick: for factors of at most :data:`NARROW_BITS` bits;
    ``packed`` is that mix, but where two products can share a hardware multiplier they do.
    """

    DSP = "dsp"
    LUT = "lut"
    MIX = "mix"
    PACKED = "packed"

    @classmethod
    def usual(cls, *, frames: bool) -> Multipliers:
        """Return what a design gets unless asked otherwise: of a frame network, of any other."""
        return cls.MIX if frames else cls.DSP

    def in_logic(self, factor_bits: int, cycles: int) -> bool:
        """Return whether a product of ``cycles`` with so narrow a factor is made of logic.

        Of two bits it always is: that is a choice and an addition.
        """
        if factor_bits <= CHOICE_BITS:
            return True
        if self in (Multipliers.MIX, Multipliers.PACKED):
            return factor_bits <= NARROW_BITS[cycles]
        return self is Multipliers.LUT

    def packs(self, weight_bits: int, input_bits: int, cycles: int) -> bool:
        """Return whether two weights share the hardware multiplier of their common element."""
        narrowest = min(weight_bits, input_bits)
        fits = weight_bits <= PACKED_BITS and input_bits + 2 * weight_bits < FACTOR_BITS
        if self is Multipliers.PACKED:
            return fits and narrowest > CHOICE_BITS
        return fits and not self.in_logic(narrowest, cycles)


@dataclass(frozen=True)
class Arithmetic:
    """How the products of a design are built; value and cycle are the same for all.

    Parameters
    ----------
    multipliers : what multiplies
    primitives : of a device, for the hardware multipliers' products of one or two cycles; any but
        none is for generated Verilog only
    """

    multipliers: Multipliers = Multipliers.DSP
    primitives: Primitives = Primitives.NONE

    def native(self, *factors: Value) -> bool:
        """Return whether a hardware multiplier for the factors is a primitive by name."""
        return self.primitives is not Primitives.NONE and fits(*factors)


SYNTHESIZED = Arithmetic()
"""Products are left to synthesis."""


def _partial_products(first: Value, second: Value) -> list[Value]:
    """Return the terms of ``first * second``, pairs of the bits of ``second`` added.

    The top bit of a signed factor counts negative. A pair costs one adder of the width of
    ``first`` and two bits; the pairs are then added by the caller.
    """
    terms: list[Value] = []
    is_signed = second.shape().signed
    for low in range(0, len(second), 2):
        total: Value | None = None
        for position in range(low, min(low + 2, len(second))):
            masked = Mux(second[position], first, 0) << (position - low)
            negative = is_signed and position == len(second) - 1
            if total is None:
                total = -masked if negative else masked
            else:
                total = total - masked if negative else total + masked
        assert total is not None  # the range above is never empty
        terms.append(total << low)
    return terms


def _sum(terms: list[Value]) -> Value:
    """Return the sum of the terms, neighbours first so that the adders stay narrow."""
    while len(terms) > 1:
        terms = [sum(terms[i + 1 : i + 2], terms[i]) for i in range(0, len(terms), 2)]
    return terms[0]


def _ordered(first: Value, second: Value) -> tuple[Value, Value]:
    """Return the factors, the narrower one last: its bits select the partial products."""
    first, second = Value.cast(first), Value.cast(second)
    return (second, first) if len(second) > len(first) else (first, second)


def _product_register(m: Module, first: Value, second: Value, total: Value, name: str) -> Signal:
    is_signed = first.shape().signed or second.shape().signed
    width = len(first) + len(second)
    product = Signal(Shape(width, signed=is_signed), name=name, reset_less=True)
    # The terms are signed in places where the product is not: two bits more hold them all.
    exact = Signal(signed(width + 2), name=f"{name}_sum")
    m.d.comb += exact.eq(total)
    m.d.sync += product.eq(exact)
    return product


def registered_product(
    m: Module, first: Value, second: Value, arithmetic: Arithmetic, *, name: str
) -> Signal:
    """Return a register that holds ``first * second`` of the cycle before.

    Parameters
    ----------
    first, second : factors, signed or not
    arithmetic : how it is built
    name : of the register
    """
    first, second = _ordered(first, second)
    if arithmetic.multipliers.in_logic(len(second), 1):
        total = _sum(_partial_products(first, second))
    elif arithmetic.native(first, second):
        return native_product(m, first, second, cycles=1, name=name)
    else:
        total = first * second
    return _product_register(m, first, second, total, name)


def pipelined_product(
    m: Module, first: Value, second: Value, arithmetic: Arithmetic, *, name: str
) -> Signal:
    """Return a register that holds ``first * second`` of two cycles before.

    Logic keeps the sums of neighbouring partial products in between, a hardware multiplier its
    factors, so that these registers can be placed beside it, or lie in it.

    Parameters
    ----------
    first, second : factors, signed or not
    arithmetic : how it is built
    name : of the register
    """
    first, second = _ordered(first, second)
    in_logic = arithmetic.multipliers.in_logic(len(second), PIPELINED_PRODUCT)
    if not in_logic and arithmetic.native(first, second):
        return native_product(m, first, second, cycles=PIPELINED_PRODUCT, name=name)
    values = _partial_products(first, second) if in_logic else [first, second]
    registers = [
        _registered(m, value, f"{name}_part_{position}") for position, value in enumerate(values)
    ]
    total = _sum(list(registers)) if in_logic else registers[0] * registers[1]
    return _product_register(m, first, second, total, name)


def wide_product(
    m: Module, first: Value, second: Value, arithmetic: Arithmetic, *, name: str
) -> Signal:
    """Return a register that holds ``first * second`` of three cycles before.

    Beyond :data:`FACTOR_BITS` a factor is cut in two: the hardware multiplier takes the lower
    part, logic the few bits of the upper one, and their sum has a cycle of its own. So has, in
    logic, the last sum of partial products.

    Parameters
    ----------
    first, second : signed factors, the first the wider one and signed if beyond 18 bits
    arithmetic : how it is built
    name : of the register
    """
    first, second = _ordered(first, second)
    cut = FACTOR_BITS - 1
    if arithmetic.multipliers.in_logic(len(second), WIDE_PRODUCT):
        terms = [
            _registered(m, term, f"{name}_part_{position}")
            for position, term in enumerate(_partial_products(first, second))
        ]
        halves = [
            _registered(m, sum(terms[i + 1 : i + 2], terms[i]), f"{name}_half_{i}")
            for i in range(0, len(terms), 2)
        ]
    elif len(first) > FACTOR_BITS:
        lower = Cat(first[:cut], Const(0, 1)).as_signed()
        upper = _registered(m, first[cut:].as_signed(), f"{name}_upper")
        factor = _registered(m, second, f"{name}_factor")
        # Its lower part is what the hardware multiplier is for, however narrow the other is.
        hardware = Arithmetic(Multipliers.DSP, arithmetic.primitives)
        high = _sum(_partial_products(factor, upper))
        halves = [
            pipelined_product(m, lower, second, hardware, name=f"{name}_half_0"),
            _registered(m, high, f"{name}_half_1") << cut,
        ]
    else:
        halves = [pipelined_product(m, first, second, arithmetic, name=f"{name}_early")]
    return _product_register(m, first, second, _sum(list(halves)), name)


def _registered(m: Module, value: Value, name: str) -> Signal:
    register = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += register.eq(value)
    return register


@dataclass(frozen=True)
class ProductPair:
    """Two products of one hardware multiplier, in registers.

    Parameters
    ----------
    low : product of the first weight
    high, carry : the product of the second weight is the sum of both, which an adder behind them
        takes at once as its carry
    """

    low: Value
    high: Value
    carry: Value


def packed_products(
    m: Module,
    x: Value,
    weights: tuple[Value, Value],
    arithmetic: Arithmetic,
    *,
    pipelined: bool,
    name: str,
) -> ProductPair:
    """Return the products of ``x`` with two signed weights, one or two cycles later.

    One product is formed, ``x (w1 + w2 2**p)``, with p the width of ``x w1``, so that the low p
    bits are ``x w1`` for every input. If that is negative it has borrowed one from the bits
    above: its sign is the carry to give back. p is 12 for 8-bit elements and 4-bit weights; in 11
    bits -128 times -8 would not fit. ``w1 + w2 2**p`` is ``w1`` extended to p bits, below ``w2``
    less the same borrow.

    Parameters
    ----------
    x : signed element
    weights : two signed weights of one width
    arithmetic : says whether the multiplier is a primitive
    pipelined : keep the factors in registers, as :func:`pipelined_product` does
    name : of the registers
    """
    first, second = weights
    low_bits = len(x) + len(first)
    upper = Signal(signed(len(second) + 1), name=f"{name}_upper")
    m.d.comb += upper.eq(second - first[-1])
    packed: Value = Cat(first, first[-1].replicate(len(x)), upper).as_signed()
    cycles = PIPELINED_PRODUCT if pipelined else 1
    if arithmetic.native(packed, x):
        product = native_product(m, packed, x, cycles=cycles, name=name)
    else:
        if pipelined:
            factor = Signal(packed.shape(), name=f"{name}_weights", reset_less=True)
            element = Signal(x.shape(), name=f"{name}_element", reset_less=True)
            m.d.sync += [factor.eq(packed), element.eq(x)]
            packed, x = factor, element
        product = Signal(signed(len(packed) + len(x)), name=name, reset_less=True)
        m.d.sync += product.eq(packed * x)
    low = product[:low_bits].as_signed()
    high = product[low_bits : 2 * low_bits].as_signed()
    return ProductPair(low, high, product[low_bits - 1])
