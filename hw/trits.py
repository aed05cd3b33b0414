"""Balanced ternary digits: how lanes that only add, subtract or skip take wider weights."""

from __future__ import annotations

import numpy as np

from golden.fixed_point import Integers

__all__ = ["balanced_trits"]


def balanced_trits(weight: Integers, count: int) -> Integers:
    """Return the digits -1, 0, 1 of ``weight`` (rows, columns), the lowest first.

    ``weight = sum_t trits[..., t] 3**t`` over ``count`` digits; the result is (rows,
    columns count), the digits of a column beside each other.

    Raises
    ------
    ValueError
        If a weight has more digits.
    """
    rest, digits = np.asarray(weight), []
    for _ in range(count):
        digit = (rest + 1) % 3 - 1
        digits.append(digit)
        rest = (rest - digit) // 3
    if np.any(rest):
        limit = (3**count - 1) // 2
        raise ValueError(f"weights beyond {limit} have more than {count} ternary digits")
    return np.stack(digits, axis=-1).reshape(len(weight), -1)
