"""Balanced ternary digits: how lanes that only add, subtract or skip take wider weights."""

from __future__ import annotations

import numpy as np

from golden.fixed_point import Integers
from golden.scheme import HEAD_TRITS

__all__ = ["balanced_trits"]


def balanced_trits(weight: Integers) -> Integers:
    """Return the digits -1, 0, 1 of ``weight`` (rows, columns), the lowest first.

    ``weight = sum_t trits[..., t] 3**t`` over :data:`golden.scheme.HEAD_TRITS` digits; the
    result is (rows, columns trits), the digits of a column beside each other.

    Raises
    ------
    ValueError
        If a weight has more digits.
    """
    rest, digits = np.asarray(weight), []
    for _ in range(HEAD_TRITS):
        digit = (rest + 1) % 3 - 1
        digits.append(digit)
        rest = (rest - digit) // 3
    if np.any(rest):
        limit = (3**HEAD_TRITS - 1) // 2
        raise ValueError(f"weights beyond {limit} have more than {HEAD_TRITS} ternary digits")
    return np.stack(digits, axis=-1).reshape(len(weight), -1)
