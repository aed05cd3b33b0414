"""The choice of power-of-two exponents from observed values.

An exponent follows either from the range that an observer reports (:mod:`model.range_observers`)
or, by default, from the squared error that each candidate exponent leaves on the observed values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from golden.fixed_point import Integers, fraction_bits_for, integer_range, offset_range
from model.range_observers import RangeObserver

__all__ = ["fraction_by_error", "fraction_by_range", "rounding_error", "zero_points"]

Array = npt.NDArray[Any]

_CANDIDATES = 6
"""Exponents tried beyond the one that does not clip: the last clips 63/64 of the range away."""


def zero_points(values: Array, fraction: Any, bits: int) -> Integers:
    """Return the codes that stand for zero, (channels,), so that the least value is just in range.

    ``values`` is (samples, channels); ``fraction`` one exponent, or one a channel.
    """
    least = np.minimum(values.min(axis=0), 0.0)
    codes = np.rint(np.ldexp(-least.astype(np.float64), fraction))
    return np.clip(codes, 0, (1 << bits) - 1).astype(np.int64)


def rounding_error(
    values: Array, fraction: float, bits: int, *, signed: bool = True, offset: bool = False
) -> Array:
    """Return the squared error of a format on ``values`` (samples, ...), summed over samples.

    With ``offset`` the codes are unsigned and have the channels' zero points.
    """
    limits: tuple[Any, Any] = integer_range(bits, signed=signed)
    if offset:
        limits = offset_range(bits, zero_points(values, fraction, bits))
    scale = np.float32(2.0**fraction)
    rounded = np.clip(np.rint(values * scale), *limits) / scale
    error: Array = np.square(rounded - values, dtype=np.float64).sum(axis=0)
    return error


def fraction_by_error(
    values: Array,
    bits: int,
    *,
    signed: bool = True,
    per_channel: bool = False,
    offset: bool = False,
) -> Integers:
    """Return the exponent of least squared error: of a tensor, (), or of each channel, (channels,).

    ``values`` is (samples, channels). Candidates start at the exponent that does not clip;
    ``offset`` is :func:`rounding_error`'s.
    """
    peak = np.abs(values).max(axis=0) if per_channel else np.abs(values).max(keepdims=True)[0]
    # Values of both signs may need a bit more than their peak to fit beside the zero point.
    first = fraction_bits_for(peak, bits if signed and not offset else bits + 1) - offset
    origin = int(first.min())
    errors = []
    for fraction in range(origin, int(first.max()) + _CANDIDATES):
        error = rounding_error(values, fraction, bits, signed=signed, offset=offset)
        errors.append(error if per_channel else error.sum(keepdims=True))
    best = np.argmin(np.stack(errors), axis=0) + origin
    # A channel that is always zero has no best exponent; any other error is positive.
    best = np.where(peak > 0, best, first)
    return best if per_channel else best.reshape(-1)[0]


def fraction_by_range(
    values: Array, bits: int, observer: RangeObserver, *, signed: bool = True
) -> Integers:
    """Return the finest exponent whose format holds the observed percentile.

    ``values`` is (samples, channels), taken in as eight batches.
    """
    for batch in np.array_split(values, min(8, len(values))):
        observer.observe(batch)
    return fraction_bits_for(observer.magnitude or 0.0, bits if signed else bits + 1)
