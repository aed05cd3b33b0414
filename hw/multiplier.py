"""What multiplies: the device's hardware multipliers, logic, or a mix of both."""

from __future__ import annotations

from enum import StrEnum

from amaranth.hdl import Module, Mux, Shape, Signal, Value, signed

__all__ = ["PIPELINED_PRODUCT", "Multipliers", "pipelined_product", "registered_product"]

PIPELINED_PRODUCT = 2
"""Latency of :func:`pipelined_product`, whatever multiplies."""

NARROW_BITS = {1: 4, PIPELINED_PRODUCT: 8}
"""With a mix, a factor of so few bits makes a product of so many cycles cheap and quick enough
in logic."""


class Multipliers(StrEnum):
    """How products are built; value and cycle are the same for all.

    ``dsp`` leaves the product to synthesis, which takes a hardware multiplier for each; ``lut``
    adds partial products in logic; ``mix`` does so where that is cheap and quick: for factors of
    at most :data:`NARROW_BITS` bits.
    """

    DSP = "dsp"
    LUT = "lut"
    MIX = "mix"

    def in_logic(self, factor_bits: int, cycles: int) -> bool:
        """Return whether a product of ``cycles`` with so narrow a factor is made of logic."""
        if self is Multipliers.MIX:
            return factor_bits <= NARROW_BITS[cycles]
        return self is Multipliers.LUT


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
    m: Module, first: Value, second: Value, kind: Multipliers, *, name: str
) -> Signal:
    """Return a register that holds ``first * second`` of the cycle before.

    Parameters
    ----------
    first, second : factors, signed or not
    kind : what multiplies
    name : of the register
    """
    first, second = _ordered(first, second)
    if kind.in_logic(len(second), 1):
        total = _sum(_partial_products(first, second))
    else:
        total = first * second
    return _product_register(m, first, second, total, name)


def pipelined_product(
    m: Module, first: Value, second: Value, kind: Multipliers, *, name: str
) -> Signal:
    """Return a register that holds ``first * second`` of two cycles before.

    Logic keeps the sums of neighbouring partial products in between, a hardware multiplier its
    factors, so that these registers can be placed beside it.

    Parameters
    ----------
    first, second : factors, signed or not
    kind : what multiplies
    name : of the register
    """
    first, second = _ordered(first, second)
    in_logic = kind.in_logic(len(second), PIPELINED_PRODUCT)
    values = _partial_products(first, second) if in_logic else [first, second]
    registers = []
    for position, value in enumerate(values):
        register = Signal(value.shape(), name=f"{name}_part_{position}", reset_less=True)
        m.d.sync += register.eq(value)
        registers.append(register)
    total = _sum(list(registers)) if in_logic else registers[0] * registers[1]
    return _product_register(m, first, second, total, name)
