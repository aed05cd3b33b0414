"""SiLU and softplus as ``relu(x)`` plus or minus a tabulated even correction."""

from __future__ import annotations

import numpy as np

from golden.fixed_point import IntegerLike, Integers
from golden.piecewise import (
    ACTIVATION_DOMAIN_LOG2,
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
    ACTIVATION_SEGMENTS_LOG2,
    LinearTable,
)

_OFFSET_BITS = ACTIVATION_DOMAIN_LOG2 + ACTIVATION_INPUT_FRACTION - ACTIVATION_SEGMENTS_LOG2


def even_correction(x: Integers, table: LinearTable) -> Integers:
    """Return the even correction at ``|x|`` with 23 fraction bits; zero from 16 on."""
    magnitude = np.abs(x)
    segment = magnitude >> _OFFSET_BITS
    inside = segment < len(table.base)
    segment = np.where(inside, segment, 0)
    offset = magnitude & ((1 << _OFFSET_BITS) - 1)
    return np.where(inside, table.base[segment] + table.slope[segment] * offset, 0)


def _rectified(x: Integers) -> Integers:
    return np.maximum(x, 0) << (ACTIVATION_OUTPUT_FRACTION - ACTIVATION_INPUT_FRACTION)


def silu(x: IntegerLike, table: LinearTable) -> Integers:
    """Return ``x sigmoid(x)`` for inputs with 12 fraction bits, with 23 fraction bits."""
    data = np.asarray(x, dtype=np.int64)
    return _rectified(data) - even_correction(data, table)


def softplus(x: IntegerLike, table: LinearTable) -> Integers:
    """Return ``log(1 + exp(x))`` for inputs with 12 fraction bits, with 23 fraction bits."""
    data = np.asarray(x, dtype=np.int64)
    return _rectified(data) + even_correction(data, table)
