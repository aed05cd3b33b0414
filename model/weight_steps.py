"""Which steps of a row of weights are worth trying: exponents of rows or of groups of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from golden.fixed_point import Integers, fraction_bits_for
from golden.scheme import GROUP_SHIFT_BITS

__all__ = ["row_steps"]

Array = npt.NDArray[Any]

_TRIED = 3
"""Steps of a row that are tried with compensation: the best ones without."""
_FINER = (1 << GROUP_SHIFT_BITS) - 1
"""Bits by which a group of columns may be finer than the coarsest of its row."""
_FRACTION_LIMITS = (-6, 18)
"""Row exponents outside would leave the hardware's requantizing shifts."""


def _parts(values: Array, group: int) -> Array:
    """Return values (..., columns) as (..., groups, group), filled up with zeros."""
    missing = -values.shape[-1] % group
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    return padded.reshape(*values.shape[:-1], -1, group)


def row_steps(
    weight: Array, group: int, limits: tuple[int, int], diagonal: Array, factors: Array
) -> tuple[Integers, Array]:
    """Return exponents (rows, tries, groups) and factors (rows, tries) of every row's best steps.

    They are those of least error without compensation, weighted by the ``diagonal`` of H. No group
    is finer than the row's coarsest by more than the hardware can shift.

    Parameters
    ----------
    weight : (rows, columns)
    group : columns that share an exponent
    limits : least and largest integer
    diagonal : (columns,)
    factors : what a row may be multiplied by, (rows, any number), NaN where a row has fewer
    """
    bits = limits[1].bit_length() + 1
    parts, felt = _parts(weight, group), _parts(diagonal, group)  # rows groups group
    peak = np.abs(parts).max(axis=2)
    first = fraction_bits_for(peak, bits)  # rows groups
    # A group of zeros goes with the finest, so that it decides nothing.
    finest = np.where(peak > 0, first, np.iinfo(np.int64).min).max(axis=1, keepdims=True)
    first = np.where(peak > 0, first, np.maximum(finest, first))
    fractions, tried, errors = [], [], []
    for factor in factors.T:
        for extra in range(3 if bits <= 5 else 2):
            fraction = np.clip(first + extra, *_FRACTION_LIMITS)
            coarsest = fraction.min(axis=1, keepdims=True)
            fraction = np.minimum(fraction, coarsest + _FINER)
            scale = (np.ldexp(1.0, fraction) * factor[:, None])[..., None]
            rounded = np.clip(np.rint(parts * scale), *limits) / scale
            # An error that is not a number is sorted behind all others.
            errors.append((np.square(rounded - parts) * felt).sum(axis=(1, 2)))
            fractions.append(fraction)
            tried.append(factor)
    best = np.argsort(np.stack(errors, axis=1), axis=1, kind="stable")[:, :_TRIED]
    return (
        np.take_along_axis(np.stack(fractions, axis=1), best[..., None], axis=1),
        np.take_along_axis(np.stack(tried, axis=1), best, axis=1),
    )
