"""W4A5-SE: a 4-bit code and a flag that selects one of two power-of-two scales (Q6)."""

from __future__ import annotations

import numpy as np

from golden.fixed_point import IntegerLike, Integers, round_half_even_shift
from golden.scheme import DualScale


def encode(
    values: IntegerLike, shift: IntegerLike, dual_scale: DualScale
) -> tuple[Integers, Integers]:
    """Return ``(code, flag)``: the fine step is ``2**shift`` input units.

    ``flag`` is set where the fine code would exceed its limit; the coarse step is
    ``2**ratio_log2`` fine ones, and both codes are clamped to ``-limit..limit``.
    """
    limit = dual_scale.code_limit
    fine = round_half_even_shift(values, shift)
    coarse = round_half_even_shift(values, np.asarray(shift) + dual_scale.ratio_log2)
    flag = (np.abs(fine) > limit).astype(np.int64)
    return np.clip(np.where(flag == 1, coarse, fine), -limit, limit), flag


def decode(code: IntegerLike, flag: IntegerLike, dual_scale: DualScale) -> Integers:
    """Return the dequantized integer in fine steps: the MUX of H2 shifts by the ratio or not."""
    data = np.asarray(code, dtype=np.int64)
    return np.where(np.asarray(flag) == 1, data << dual_scale.ratio_log2, data)


def pack(code: IntegerLike, flag: IntegerLike, dual_scale: DualScale) -> Integers:
    """Return the stored word: the two's-complement code below, the flag above it."""
    mask = (1 << dual_scale.code_bits) - 1
    return (np.asarray(code, dtype=np.int64) & mask) | (
        np.asarray(flag, dtype=np.int64) << dual_scale.code_bits
    )


def unpack(word: IntegerLike, dual_scale: DualScale) -> tuple[Integers, Integers]:
    """Return ``(code, flag)`` of stored words; the inverse of :func:`pack`."""
    data = np.asarray(word, dtype=np.int64)
    unsigned = data & ((1 << dual_scale.code_bits) - 1)
    code = unsigned - ((unsigned >> (dual_scale.code_bits - 1)) << dual_scale.code_bits)
    return code, data >> dual_scale.code_bits
