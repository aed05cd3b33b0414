"""Compiled loops between products: integers carried in floating point, every step exact.

All values are integers (or integers times a power of two) below ``2**53``, so float64 adds and
multiplies without rounding, and ``rint`` after a multiplication by ``2**-shift`` is rounding half
to even by ``shift`` bits. Matrix products arrive as float32 or float64, whichever is exact for
the weights. Inner loops run over channels, one operation each, so that they vectorise.
:mod:`golden.mixer_kernels` has those of convolution, scan and gates.

Symbols: p positions (rows of a batch times tokens), and d, e as in
:class:`golden.configuration.NetworkShape`.
"""

from __future__ import annotations

import numpy as np

from golden.kernel_tools import Array, kernel, narrow, reordered
from golden.operations.normalization import NORMALIZED_BITS
from golden.piecewise import (
    MANTISSA_BITS,
    RECIPROCAL_BASE_FRACTION,
    RECIPROCAL_FRACTION,
    RECIPROCAL_SEGMENTS_LOG2,
    RECIPROCAL_SLOPE_FRACTION,
)

_NORMALIZED_LIMIT = float((1 << (NORMALIZED_BITS - 1)) - 1)
_OCTAVE_BITS = MANTISSA_BITS - 1
_RECIPROCAL_OFFSET_BITS = _OCTAVE_BITS - RECIPROCAL_SEGMENTS_LOG2
_RECIPROCAL_BASE_SHIFT = RECIPROCAL_SLOPE_FRACTION - RECIPROCAL_BASE_FRACTION
_RECIPROCAL_SCALE = 2.0 ** (RECIPROCAL_FRACTION - RECIPROCAL_SLOPE_FRACTION)


@reordered
def _sum_of_squares(row: Array) -> float:
    """Return the exact sum of a row's squares."""
    total = 0.0
    for value in row:
        total += np.float64(value) * np.float64(value)
    return total


@kernel
def reciprocal_root(total: int, base: Array, slope: Array) -> tuple[float, int]:
    """Return what :func:`golden.operations.normalization.reciprocal_root` does for one total."""
    leading = 0
    while total >> (leading + 1):
        leading += 1
    half_exponent = leading >> 1
    # A total below 2**53 is exact in float64, and so is its mantissa before the rounding.
    scaled = np.rint(total * 2.0 ** (MANTISSA_BITS - 2 - 2 * half_exponent))
    mantissa = np.int64(min(scaled, (1 << MANTISSA_BITS) - 1.0))
    upper = mantissa >> _OCTAVE_BITS
    octave_offset = (mantissa if upper else mantissa << 1) & ((1 << _OCTAVE_BITS) - 1)
    segment = (upper << RECIPROCAL_SEGMENTS_LOG2) + (octave_offset >> _RECIPROCAL_OFFSET_BITS)
    offset = (octave_offset & ((1 << _RECIPROCAL_OFFSET_BITS) - 1)) >> (1 - upper)
    root = (base[segment] << _RECIPROCAL_BASE_SHIFT) - slope[segment] * offset
    return np.rint(root * _RECIPROCAL_SCALE), half_exponent


@kernel
def normalize(
    residual: Array,
    weight: Array,
    epsilon: int,
    scale: float,
    limit: float,
    base: Array,
    slope: Array,
    out: Array,
) -> None:
    """Write the RMSNorm of ``residual`` (p, d) to ``out`` (p, d); weight (d,) float64."""
    for p in range(len(residual)):
        total = int(_sum_of_squares(residual[p])) + epsilon
        root, half_exponent = reciprocal_root(total, base, slope)
        factor = root * 2.0**-half_exponent
        for i in range(len(weight)):
            normalized = narrow(residual[p, i] * factor, _NORMALIZED_LIMIT)
            out[p, i] = narrow(normalized * weight[i] * scale, limit)


@kernel
def requantize(total: Array, scale: Array, limit: float) -> None:
    """Round and saturate accumulators (p, rows) in place; scale (rows,)."""
    for p in range(len(total)):
        for i in range(len(scale)):
            total[p, i] = narrow(total[p, i] * scale[i], limit)


@kernel
def add(residual: Array, total: Array, scale: Array, limit: float) -> None:
    """Add requantized accumulators (p, d) to ``residual`` (p, d) in place, saturating."""
    for p in range(len(total)):
        for i in range(len(scale)):
            step = narrow(total[p, i] * scale[i], limit)
            residual[p, i] = min(max(residual[p, i] + step, -limit - 1.0), limit)


@kernel
def rotate(gated: Array, block: Array, scale: Array, limit: float) -> None:
    """Transform and requantize vectors (p, e) in place as :mod:`golden.operations.hadamard` does.

    The block of the transform is (m, m) in float64; scale (e,).
    """
    order, channels = len(block), gated.shape[1]
    row, sums = np.empty(channels), np.empty(order)
    for p in range(len(gated)):
        for e in range(channels):
            row[e] = gated[p, e]
        for first in range(0, channels, order):
            for i in range(order):
                sums[i] = 0.0
                for a in range(order):
                    sums[i] += block[i, a] * row[first + a]
            row[first : first + order] = sums
        distance = order
        while distance < channels:
            for first in range(0, channels, 2 * distance):
                for e in range(first, first + distance):
                    low, high = row[e], row[e + distance]
                    row[e], row[e + distance] = low + high, low - high
            distance *= 2
        for e in range(channels):
            gated[p, e] = narrow(row[e] * scale[e], limit)
