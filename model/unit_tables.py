"""The non-linear units as tables of reals over their whole domain, for simulation.

A unit is a pure function of 18 or 16 input bits, so its table can hold the program's own piecewise
lines, the real function, or lines of another number of segments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from golden.fixed_point import to_real
from golden.operations.activation import silu, softplus
from golden.operations.exponent import decay
from golden.piecewise import (
    ACTIVATION_DOMAIN_LOG2,
    ACTIVATION_INPUT_BITS,
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    EXPONENT_SLOPE_FRACTION,
    silu_correction,
    softplus_correction,
)
from golden.program import Program

__all__ = ["UnitTables", "exponent_lines", "look_up", "silu_lines", "softplus_lines"]

Array = npt.NDArray[Any]

_ORIGIN = 1 << (ACTIVATION_INPUT_BITS - 1)
_SEGMENTS_LOG2 = (0, 12)


@numba.njit(cache=True, nogil=True)
def _gather(table: Array, entry: Array, out: Array) -> None:  # pragma: no cover - compiled code
    for i in range(len(entry)):
        out[i] = table[int(entry[i] * _INPUT_SCALE) + _ORIGIN]


_INPUT_SCALE = float(1 << ACTIVATION_INPUT_FRACTION)


def look_up(table: Array, values: Array) -> Array:
    """Return the function of reals that are inputs of SiLU and softplus, same shape."""
    out = np.empty(values.shape)
    _gather(table, values.reshape(-1), out.reshape(-1))
    return out


def _inputs() -> Array:
    return np.arange(-_ORIGIN, _ORIGIN, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class UnitTables:
    """Real values of the units at every input.

    Members
    -------
    silu, softplus : most negative input first, (2**18,)
    decay : ``2**-x`` before its rounding to the decay's width, argument 0 first, (2**16,); None
        computes the exponential itself, of an argument that is not rounded either
    """

    silu: Array
    softplus: Array
    decay: Array | None

    @classmethod
    def of(cls, program: Program) -> UnitTables:
        """Return the program's own piecewise lines."""
        tables, fraction = program.tables, ACTIVATION_OUTPUT_FRACTION
        # The unit rounds once, from 24 fraction bits shifted by the argument's integer part; 40
        # fraction bits hold that shifted value without a rounding.
        arguments = np.arange(1 << EXPONENT_BITS)
        exact = EXPONENT_SLOPE_FRACTION + (arguments[-1] >> EXPONENT_FRACTION)
        return cls(
            silu=to_real(silu(_inputs(), tables.silu), fraction),
            softplus=to_real(softplus(_inputs(), tables.softplus), fraction),
            decay=to_real(decay(arguments, tables.exponent, int(exact)), int(exact)),
        )


def _lines(function: Callable[[Array], Array], points: Array, top: float, count: int) -> Array:
    """Return ``function`` at ``points`` by ``count`` equal chords on [0, top), each best-shifted.

    A chord moved by half its largest error is the best line for a function of constant curvature,
    as in :mod:`golden.piecewise`.
    """
    edges = np.linspace(0.0, top, count + 1)
    left, right = edges[:-1], edges[1:]
    slope = (function(right) - function(left)) / (right - left)
    inner = np.linspace(left, right, 65)
    error = function(inner) - (function(left) + slope * (inner - left))
    base = function(left) + (error.max(axis=0) + error.min(axis=0)) / 2
    segment = np.minimum((points / top * count).astype(np.int64), count - 1)
    return base[segment] + slope[segment] * (points - left[segment])


def _segments(segments_log2: int) -> int:
    low, high = _SEGMENTS_LOG2
    if not low <= segments_log2 <= high:
        raise InputError(
            f"segments = 2**{segments_log2} is outside 2**{low}..2**{high}; choose a power inside"
        )
    return 1 << segments_log2


def _even(correction: Callable[[Array], Array], sign: float, segments_log2: int) -> Array:
    """Return ``relu(x) + sign correction(|x|)`` at every input, rounded as the unit's output."""
    x = to_real(_inputs(), ACTIVATION_INPUT_FRACTION)
    top = float(1 << ACTIVATION_DOMAIN_LOG2)
    lines = _lines(correction, np.abs(x), top, _segments(segments_log2))
    value = np.maximum(x, 0.0) + sign * np.where(np.abs(x) < top, np.maximum(lines, 0.0), 0.0)
    scale = float(1 << ACTIVATION_OUTPUT_FRACTION)
    rounded: Array = np.rint(value * scale) / scale
    return rounded


def silu_lines(segments_log2: int) -> Array:
    """Return SiLU by ``2**segments_log2`` lines, (2**18,)."""
    return _even(silu_correction, -1.0, segments_log2)


def softplus_lines(segments_log2: int) -> Array:
    """Return softplus by ``2**segments_log2`` lines, (2**18,)."""
    return _even(softplus_correction, 1.0, segments_log2)


def exponent_lines(segments_log2: int) -> Array:
    """Return ``2**-x`` by ``2**segments_log2`` lines on [0, 1), (2**16,)."""
    arguments = np.arange(1 << EXPONENT_BITS)
    whole, fraction = arguments >> EXPONENT_FRACTION, arguments % (1 << EXPONENT_FRACTION)
    points = to_real(fraction, EXPONENT_FRACTION)
    mantissa = _lines(lambda x: np.exp2(-x), points, 1.0, _segments(segments_log2))
    scaled: Array = np.ldexp(np.minimum(mantissa, 1.0), -whole)
    return scaled
