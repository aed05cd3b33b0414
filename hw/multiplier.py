"""What multiplies: the device's hardware multipliers, logic, or a mix of both."""

from __future__ import annotations

from enum import StrEnum

from amaranth.hdl import Module, Mux, Shape, Signal, Value, signed

__all__ = ["Multipliers", "registered_product"]

MIX_LIMIT = 96
"""With a mix, products of at most so many partial-product bits are made of logic."""


class Multipliers(StrEnum):
    """How products are built; value and cycle are the same for all.

    ``dsp`` leaves the product to synthesis, which takes a hardware multiplier for each; ``lut``
    adds partial products in logic; ``mix`` does so where that costs least: for products of at
    most :data:`MIX_LIMIT` partial-product bits, a weight of 4 bits times an activation of 8 say.
    """

    DSP = "dsp"
    LUT = "lut"
    MIX = "mix"

    def in_logic(self, first: int, second: int) -> bool:
        """Return whether a product of factors of these widths is made of logic."""
        return self is Multipliers.LUT or (self is Multipliers.MIX and first * second <= MIX_LIMIT)


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
            if total is None:
                negative = is_signed and position == len(second) - 1
                total = -masked if negative else masked
            elif is_signed and position == len(second) - 1:
                total = total - masked
            else:
                total = total + masked
        assert total is not None  # the range above is never empty
        terms.append(total << low)
    return terms


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
    first, second = Value.cast(first), Value.cast(second)
    if len(second) > len(first):
        first, second = second, first
    is_signed = first.shape().signed or second.shape().signed
    width = len(first) + len(second)
    product = Signal(Shape(width, signed=is_signed), name=name, reset_less=True)
    if not kind.in_logic(len(first), len(second)):
        m.d.sync += product.eq(first * second)
        return product
    terms = _partial_products(first, second)
    while len(terms) > 1:
        # Neighbours first, so that the adders stay narrow.
        terms = [sum(terms[i + 1 : i + 2], terms[i]) for i in range(0, len(terms), 2)]
    total = Signal(signed(width + 2), name=f"{name}_sum")
    m.d.comb += total.eq(terms[0])
    m.d.sync += product.eq(total)
    return product
