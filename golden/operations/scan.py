"""The selective scan in integers: recurrence, read-out and skip of Mamba-1 (Gu and Dao 2023).

``h = decay h + delta B u`` and ``y = sum_n C h + D u``, decay from :mod:`exponent`. The state has
one exponent a channel; every rounding is half to even. :func:`scan_step` is the definition; the
compiled :func:`selective_scan` executes the same integers over whole sequences and is tested
equal to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from golden.fixed_point import Integers, requantize
from golden.operations.exponent import decay, exponent_argument
from golden.piecewise import (
    EXPONENT_BASE_FRACTION,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    EXPONENT_SEGMENTS_LOG2,
    EXPONENT_SLOPE_FRACTION,
    LinearTable,
)


@dataclass(frozen=True, kw_only=True)
class ScanConstants:
    """What the scan of one layer needs besides its inputs.

    Parameters
    ----------
    rate : ``-A log2(e)``, unsigned (e, n)
    skip : D in the scale of C times h over u (e,)
    argument_shift : bits dropped from ``delta rate`` (may be negative)
    update_shift : bits dropped from ``delta u B`` to align with ``decay h`` (e,)
    output_shift : bits dropped from the read-out sum (e,)
    decay_bits, state_bits, update_bits, output_bits : widths, see :class:`Scheme`
    table : of ``2**-x``
    """

    rate: Integers
    skip: Integers
    argument_shift: int
    update_shift: Integers
    output_shift: Integers
    decay_bits: int
    state_bits: int
    update_bits: int
    output_bits: int
    table: LinearTable


def scan_step(
    state: Integers, delta: Integers, u: Integers, b: Integers, c: Integers, own: ScanConstants
) -> tuple[Integers, Integers]:
    """Return ``(y, new state)`` for one token.

    Shapes: state (..., e, n), delta and u (..., e), b and c (..., n), y (..., e).
    """
    argument = exponent_argument(delta[..., :, None], own.rate, own.argument_shift)  # e n
    factor = decay(argument, own.table, own.decay_bits)  # e n
    update = requantize(
        (delta * u)[..., :, None] * b[..., None, :], own.update_shift[:, None], own.update_bits
    )  # e n
    state = requantize(factor * state + update, own.decay_bits, own.state_bits)  # e n
    total = (state * c[..., None, :]).sum(axis=-1) + own.skip * u  # e
    return requantize(total, own.output_shift, own.output_bits), state


@numba.njit(inline="always")
def _shift_half_even(value: int, shift: int) -> int:
    if shift <= 0:
        return value << -shift
    floor = value >> shift
    doubled = (value - (floor << shift)) << 1
    unit = 1 << shift
    if doubled > unit or (doubled == unit and floor & 1):
        floor += 1
    return floor


@numba.njit(inline="always")
def _clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


_OFFSET_BITS = EXPONENT_FRACTION - EXPONENT_SEGMENTS_LOG2
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_FRACTION_MASK = (1 << EXPONENT_FRACTION) - 1
_BASE_SHIFT = EXPONENT_SLOPE_FRACTION - EXPONENT_BASE_FRACTION
_ARGUMENT_LIMIT = (1 << EXPONENT_BITS) - 1


@numba.njit(parallel=True, cache=True)
def _scan_kernel(
    state, delta, u, b, c, rate, skip, base, slope, shifts, update_shift, output_shift, y
):  # type: ignore[no-untyped-def]
    argument_shift, decay_bits, state_bits, update_bits, output_bits = shifts
    state_limit = (1 << (state_bits - 1)) - 1
    update_limit = (1 << (update_bits - 1)) - 1
    output_limit = (1 << (output_bits - 1)) - 1
    batch, length, channels = delta.shape
    states = rate.shape[1]
    for flat in numba.prange(batch * channels):
        i, e = flat // channels, flat % channels
        for t in range(length):
            step = delta[i, t, e]
            value = u[i, t, e]
            drive = step * value
            total = skip[e] * value
            for n in range(states):
                argument = _clamp(
                    _shift_half_even(step * rate[e, n], argument_shift), 0, _ARGUMENT_LIMIT
                )
                fraction = argument & _FRACTION_MASK
                segment = fraction >> _OFFSET_BITS
                mantissa = (base[segment] << _BASE_SHIFT) - slope[segment] * (
                    fraction & _OFFSET_MASK
                )
                factor = _shift_half_even(
                    mantissa,
                    (argument >> EXPONENT_FRACTION) + EXPONENT_SLOPE_FRACTION - decay_bits,
                )
                update = _clamp(
                    _shift_half_even(drive * b[i, t, n], update_shift[e]),
                    -update_limit - 1,
                    update_limit,
                )
                new = _clamp(
                    _shift_half_even(factor * state[i, e, n] + update, decay_bits),
                    -state_limit - 1,
                    state_limit,
                )
                state[i, e, n] = new
                total += new * c[i, t, n]
            y[i, t, e] = _clamp(
                _shift_half_even(total, output_shift[e]), -output_limit - 1, output_limit
            )


def selective_scan(
    state: Integers, delta: Integers, u: Integers, b: Integers, c: Integers, own: ScanConstants
) -> tuple[Integers, Integers]:
    """Return ``(y, last state)`` of a sequence; equal to :func:`scan_step` applied token by token.

    Shapes: state (b, e, n), delta and u (b, l, e), b and c (b, l, n), y (b, l, e).
    """
    state = state.copy()
    y = np.empty_like(delta)
    shifts = (
        own.argument_shift,
        own.decay_bits,
        own.state_bits,
        own.update_bits,
        own.output_bits,
    )
    table = own.table
    _scan_kernel(
        state,
        *(np.ascontiguousarray(values) for values in (delta, u, b, c)),
        own.rate,
        own.skip,
        table.base,
        table.slope,
        shifts,
        own.update_shift,
        own.output_shift,
        y,
    )
    return y, state
