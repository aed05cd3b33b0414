"""Saturation of a value that was rounded before, to a narrower signed format."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Mux, Value


def clamped(value: Value, bits: int) -> Value:
    """Return a signed ``value`` saturated to ``bits``, combinational.

    Ranges are nested, so saturating a requantized value again equals requantizing it to the
    narrower width at once.
    """
    if len(value) <= bits:
        return value
    high = (1 << (bits - 1)) - 1
    upper = value[bits - 1 :]
    fits = upper.all() | ~upper.any()
    return Mux(fits, value[:bits].as_signed(), Mux(value[-1], -high - 1, high))


def clamped_among(choice: Value, value: Value, widths: Sequence[int]) -> Value:
    """Return a signed ``value`` saturated to ``widths[choice]``, as wide as the widest of them."""
    result = clamped(value, widths[-1])
    for number, bits in reversed(list(enumerate(widths[:-1]))):
        result = Mux(choice == number, clamped(value, bits), result)
    return result


def clamped_between(value: Value, low: Value, high: Value) -> Value:
    """Return a signed ``value`` saturated to signed limits, combinational."""
    return Mux(value < low, low, Mux(value > high, high, value))


def clamped_if(condition: Value, value: Value, bits: int, other_bits: int) -> Value:
    """Return ``value`` saturated to ``bits`` where ``condition`` holds, else to ``other_bits``.

    As wide as the wider of the two; no multiplexer where they are equal.
    """
    if bits == other_bits:
        return clamped(value, bits)
    return Mux(condition, clamped(value, bits), clamped(value, other_bits))
