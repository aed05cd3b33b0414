"""RMSNorm in integers: exact sum of squares, normalised reciprocal square root, two products.

``y = r / sqrt(sum(r**2) + D eps) * (sqrt(D) w)``: the mean's division by D and its square root
are folded into the weight when quantizing (Zhang and Sennrich 2019; ``eps`` as in Mamba, 1e-5).
"""

from __future__ import annotations

import numpy as np

from golden.fixed_point import IntegerLike, Integers, requantize, round_half_even_shift
from golden.piecewise import (
    MANTISSA_BITS,
    RECIPROCAL_BASE_FRACTION,
    RECIPROCAL_FRACTION,
    RECIPROCAL_SEGMENTS_LOG2,
    RECIPROCAL_SLOPE_FRACTION,
    LinearTable,
)

NORMALIZED_BITS = 18
"""Width of ``r / sqrt(sum(r**2))``, which lies in [-1, 1] with 17 fraction bits."""
NORMALIZED_FRACTION = 17
NORM_EPSILON = 1e-5


def epsilon_integer(d_model: int, residual_fraction: int) -> int:
    """Return ``D eps`` in the scale of the integer sum of squares, at least 1."""
    return max(1, round(d_model * NORM_EPSILON * 4.0**residual_fraction))


def reciprocal_root(total: IntegerLike, table: LinearTable) -> tuple[Integers, Integers]:
    """Return ``(root, half_exponent)`` with ``1/sqrt(total) = root * 2**-(17 + half_exponent)``.

    ``total`` is positive. Its mantissa, in [1, 4), is rounded to 16 fraction bits and saturated.
    """
    data = np.asarray(total, dtype=np.int64)
    leading = np.frexp(data.astype(np.float64))[1].astype(np.int64) - 1
    # float64 rounds integers above 2**53 and may carry into the next power of two.
    leading -= (np.int64(1) << np.minimum(leading, 62)) > data
    half_exponent = leading >> 1
    shift = 2 * half_exponent - (MANTISSA_BITS - 2)
    mantissa = requantize(data, shift, MANTISSA_BITS, signed=False)
    upper = mantissa >> (MANTISSA_BITS - 1)
    octave_offset = np.where(upper == 1, mantissa, mantissa << 1) & ((1 << (MANTISSA_BITS - 1)) - 1)
    offset_bits = MANTISSA_BITS - 1 - RECIPROCAL_SEGMENTS_LOG2
    segment = (upper << RECIPROCAL_SEGMENTS_LOG2) + (octave_offset >> offset_bits)
    # Offsets count units of 2**-16 in both octaves, so the lower one drops the doubling.
    offset = (octave_offset & ((1 << offset_bits) - 1)) >> (1 - upper)
    base = table.base[segment] << (RECIPROCAL_SLOPE_FRACTION - RECIPROCAL_BASE_FRACTION)
    root = base - table.slope[segment] * offset
    return round_half_even_shift(root, RECIPROCAL_SLOPE_FRACTION - RECIPROCAL_FRACTION), (
        half_exponent
    )


def rms_norm(
    residual: IntegerLike,
    weight: Integers,
    *,
    epsilon: int,
    shift: int,
    bits: int,
    table: LinearTable,
) -> Integers:
    """Return the normalised residual as ``bits`` wide integers.

    Parameters
    ----------
    residual : (..., d)
    weight : ``sqrt(D) w`` in integers, (d,)
    epsilon : see :func:`epsilon_integer`
    shift : bits dropped after the weight: 17 + weight fraction - output fraction
    """
    data = np.asarray(residual, dtype=np.int64)
    total = (data * data).sum(axis=-1, keepdims=True) + epsilon
    root, half_exponent = reciprocal_root(total, table)
    normalized = requantize(data * root, half_exponent, NORMALIZED_BITS)
    return requantize(normalized * weight, shift, bits)
