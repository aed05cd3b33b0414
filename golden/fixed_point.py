"""Rounding, saturation and requantization: the arithmetic every unit of the project agrees on.

An integer ``q`` with ``fraction_bits`` ``f`` stands for the real number ``q * 2**-f``. Bits are
dropped by rounding half to even and widths are narrowed by saturation; nothing else is ever done
to data, here or in the Verilog.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
IntegerLike = npt.ArrayLike


def integer_range(bits: int, *, signed: bool = True) -> tuple[int, int]:
    """Return the smallest and largest integer of a two's-complement or unsigned format.

    Raises
    ------
    ValueError
        If the width is not between 1 and 63 bits.
    """
    if not 1 <= bits <= 63:
        raise ValueError(f"width of {bits} bits is outside 1..63; choose a width in that range")
    if signed:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def offset_range(bits: int, zero: IntegerLike) -> tuple[Integers, Integers]:
    """Return the least and largest integer of unsigned codes less their zero point.

    A code ``c`` of 0..2**bits - 1 stands for the integer ``c - zero``; a zero point of
    ``2**(bits - 1)`` gives the signed format's range.
    """
    low = -np.asarray(zero, dtype=np.int64)
    return low, low + ((1 << bits) - 1)


def saturate(values: IntegerLike, bits: int, *, signed: bool = True) -> Integers:
    """Clamp integers to the range of a ``bits`` wide format."""
    low, high = integer_range(bits, signed=signed)
    return np.clip(np.asarray(values, dtype=np.int64), low, high)


def round_half_even_shift(values: IntegerLike, shift: IntegerLike) -> Integers:
    """Return ``values / 2**shift`` rounded half to even; a negative shift multiplies exactly.

    ``shift`` is a scalar or broadcasts against ``values``. The result of a left shift must fit
    63 bits, which the width proofs of the generator guarantee for every program.
    """
    data = np.asarray(values, dtype=np.int64)
    amount = np.asarray(shift, dtype=np.int64)
    right = np.maximum(amount, 0)
    left = np.maximum(-amount, 0)
    data = data << left
    floor = data >> right
    remainder = data - (floor << right)
    # Compared with one half, doubled so that a shift of zero needs no special case.
    doubled, unit = remainder * 2, np.int64(1) << right
    round_up = (doubled > unit) | ((doubled == unit) & ((floor & 1) == 1) & (right > 0))
    return floor + round_up


def requantize(
    values: IntegerLike, shift: IntegerLike, bits: int, *, signed: bool = True
) -> Integers:
    """Round half to even by ``shift`` bits, then saturate to ``bits``: the only way to narrow."""
    return saturate(round_half_even_shift(values, shift), bits, signed=signed)


def to_fixed_point(
    values: npt.ArrayLike, fraction_bits: IntegerLike, bits: int, *, signed: bool = True
) -> Integers:
    """Quantize real numbers to integers with ``fraction_bits``: half to even, saturating.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    data = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(data)):
        raise ValueError("cannot quantize NaN or infinite values; repair the source tensor")
    low, high = integer_range(bits, signed=signed)
    scaled = np.rint(np.ldexp(data, np.asarray(fraction_bits, dtype=np.int64)))
    return np.clip(scaled, low, high).astype(np.int64)


def to_real(values: IntegerLike, fraction_bits: IntegerLike) -> npt.NDArray[np.float64]:
    """Return the real numbers that integers with ``fraction_bits`` stand for (exact in float64)."""
    data = np.asarray(values, dtype=np.float64)
    return np.ldexp(data, -np.asarray(fraction_bits, dtype=np.int64))


def bits_for(values: IntegerLike, *, signed: bool = True) -> int:
    """Return the narrowest width that holds every one of ``values``."""
    data = np.asarray(values, dtype=np.int64)
    low, high = int(data.min(initial=0)), int(data.max(initial=0))
    if signed:
        return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length()) + 1
    if low < 0:
        raise ValueError(f"value {low} is negative; an unsigned format starts at 0")
    return max(high.bit_length(), 1)


def fraction_bits_for(magnitude: npt.ArrayLike, bits: int) -> Integers:
    """Return the most fraction bits whose signed ``bits`` wide format still holds ``magnitude``.

    Zero magnitudes get the exponent of 1.0, so that an unused channel stays harmless.
    """
    data = np.asarray(magnitude, dtype=np.float64)
    limit = (1 << (bits - 1)) - 1
    safe = np.where(data > 0, data, 1.0)
    # frexp gives the power of two above the ratio; one step back wherever rounding would clip.
    fraction = np.frexp(limit / safe)[1].astype(np.int64)
    too_fine = np.rint(np.ldexp(safe, fraction)) > limit
    return fraction - too_fine
