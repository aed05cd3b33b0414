"""The decay ``exp(delta A)`` as ``2**-(delta A')``, with ``A' = -A log2(e)`` folded in."""

from __future__ import annotations

import numpy as np

from golden.fixed_point import IntegerLike, Integers, requantize, round_half_even_shift
from golden.piecewise import (
    EXPONENT_BASE_FRACTION,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    EXPONENT_SEGMENTS_LOG2,
    EXPONENT_SLOPE_FRACTION,
    LinearTable,
)

_OFFSET_BITS = EXPONENT_FRACTION - EXPONENT_SEGMENTS_LOG2


def exponent_argument(delta: IntegerLike, rate: IntegerLike, shift: IntegerLike) -> Integers:
    """Return ``delta A'`` rounded to 12 fraction bits and saturated just below 16."""
    product = np.asarray(delta, dtype=np.int64) * np.asarray(rate, dtype=np.int64)
    return requantize(product, shift, EXPONENT_BITS, signed=False)


def decay(argument: IntegerLike, table: LinearTable, decay_bits: int) -> Integers:
    """Return ``2**-argument`` with ``decay_bits`` fraction bits, in ``0..2**decay_bits``.

    One rounding: the mantissa keeps all 24 fraction bits until the shift by the integer part.
    """
    data = np.asarray(argument, dtype=np.int64)
    whole = data >> EXPONENT_FRACTION
    fraction = data & ((1 << EXPONENT_FRACTION) - 1)
    segment = fraction >> _OFFSET_BITS
    offset = fraction & ((1 << _OFFSET_BITS) - 1)
    base = table.base[segment] << (EXPONENT_SLOPE_FRACTION - EXPONENT_BASE_FRACTION)
    mantissa = base - table.slope[segment] * offset
    return round_half_even_shift(mantissa, whole + EXPONENT_SLOPE_FRACTION - decay_bits)
