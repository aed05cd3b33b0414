"""Piecewise-linear tables of the non-linear units, built in float64 and read as integers.

Five functions are tabulated: the even corrections of SiLU and softplus and ``sigmoid(-|x|)`` on
``[0, 16)``, ``2**-x`` on ``[0, 1)`` and ``1/sqrt(m)`` on ``[1, 4)``. The tables travel inside the
program, so the golden model and the Verilog read the same integers. Each segment's line is the
best one in the maximum norm for a function of constant curvature: the chord, shifted by half its
largest error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from golden.fixed_point import Integers

Reals = npt.NDArray[np.float64]

ACTIVATION_INPUT_BITS = 18
"""Width of the input of SiLU and softplus."""
ACTIVATION_INPUT_FRACTION = 12
"""Fraction bits of the input of SiLU and softplus: the domain is -32 to 32."""
ACTIVATION_OUTPUT_FRACTION = 23
"""Fraction bits of the exact integer sum that SiLU and softplus return before requantizing."""
ACTIVATION_DOMAIN_LOG2 = 4
"""The even correction is tabulated on [0, 16) and is zero beyond, where it is below 2e-6."""
ACTIVATION_SEGMENTS_LOG2 = 9

EXPONENT_FRACTION = 12
"""Fraction bits of the argument of ``2**-x``."""
EXPONENT_BITS = 16
"""Width of the argument of ``2**-x``: it saturates just below 16."""
EXPONENT_SEGMENTS_LOG2 = 5
EXPONENT_BASE_FRACTION = 16
EXPONENT_SLOPE_FRACTION = 24
"""Fraction bits of slope times offset, and of the unrounded mantissa."""

MANTISSA_BITS = 18
"""Width of the normalised sum of squares, in [1, 4) with 16 fraction bits."""
RECIPROCAL_SEGMENTS_LOG2 = 8
"""Segments an octave of ``1/sqrt``; there are two octaves."""
RECIPROCAL_BASE_FRACTION = 22
RECIPROCAL_SLOPE_FRACTION = 28
RECIPROCAL_FRACTION = 17
"""Fraction bits of the rounded reciprocal square root, in (1/2, 1]."""


@dataclass(frozen=True)
class LinearTable:
    """Integer coefficients of a piecewise-linear function; entry i serves segment i.

    Parameters
    ----------
    base : value at the segment's left end, unsigned
    slope : signed change for each unit of the offset inside the segment
    """

    base: Integers
    slope: Integers


def _minimax_lines(function: Callable[[Reals], Reals], edges: Reals) -> tuple[Reals, Reals]:
    """Return left-end values and slopes of the best line on each ``[edges[i], edges[i + 1]]``."""
    left, right = edges[:-1], edges[1:]
    slope = (function(right) - function(left)) / (right - left)
    inner = np.linspace(left, right, 65)
    error = function(inner) - (function(left) + slope * (inner - left))
    return function(left) + (error.max(axis=0) + error.min(axis=0)) / 2, slope


def _rounded(values: Reals, fraction_bits: int) -> Integers:
    return np.rint(np.ldexp(values, fraction_bits)).astype(np.int64)


def silu_correction(x: Reals) -> Reals:
    """Return ``relu(x) - SiLU(x) = |x| sigmoid(-|x|)``, an even function (Elfwing et al. 2018)."""
    magnitude = np.abs(x)
    return magnitude * np.exp(-magnitude) / (1.0 + np.exp(-magnitude))


def sigmoid_correction(x: Reals) -> Reals:
    """Return ``sigmoid(-|x|)``, an even function; the sigmoid is it or one less it."""
    magnitude = np.abs(x)
    return np.exp(-magnitude) / (1.0 + np.exp(-magnitude))


def softplus_correction(x: Reals) -> Reals:
    """Return ``softplus(x) - relu(x) = log(1 + exp(-|x|))``, an even function."""
    return np.log1p(np.exp(-np.abs(x)))


def activation_table(correction: Callable[[Reals], Reals]) -> LinearTable:
    """Tabulate an even correction on ``[0, 16)``, 512 segments of 1/32.

    The offset counts units of ``2**-12``; base and slope times offset have 23 fraction bits.
    """
    segments = 1 << ACTIVATION_SEGMENTS_LOG2
    edges = np.linspace(0.0, float(1 << ACTIVATION_DOMAIN_LOG2), segments + 1)
    base, slope = _minimax_lines(correction, edges)
    return LinearTable(
        np.maximum(_rounded(base, ACTIVATION_OUTPUT_FRACTION), 0),
        _rounded(slope, ACTIVATION_OUTPUT_FRACTION - ACTIVATION_INPUT_FRACTION),
    )


def exponent_table() -> LinearTable:
    """Tabulate ``2**-x`` on ``[0, 1)``, 32 segments; the slope is stored as a positive fall."""
    edges = np.linspace(0.0, 1.0, (1 << EXPONENT_SEGMENTS_LOG2) + 1)
    base, slope = _minimax_lines(lambda x: np.exp2(-x), edges)
    # 2**0 must not exceed one, or a decay of one would be stored as more than one.
    return LinearTable(
        np.minimum(_rounded(base, EXPONENT_BASE_FRACTION), 1 << EXPONENT_BASE_FRACTION),
        _rounded(-slope, EXPONENT_SLOPE_FRACTION - EXPONENT_FRACTION),
    )


def reciprocal_table() -> LinearTable:
    """Tabulate ``1/sqrt(m)``: 256 segments on [1, 2), then 256 on [2, 4).

    The offset counts units of ``2**-16``; the slope is stored as a positive fall.
    """
    segments = 1 << RECIPROCAL_SEGMENTS_LOG2
    edges = np.concatenate(
        [np.linspace(1.0, 2.0, segments + 1), np.linspace(2.0, 4.0, segments + 1)[1:]]
    )
    base, slope = _minimax_lines(lambda m: 1.0 / np.sqrt(m), edges)
    return LinearTable(
        np.minimum(_rounded(base, RECIPROCAL_BASE_FRACTION), 1 << RECIPROCAL_BASE_FRACTION),
        _rounded(-slope, RECIPROCAL_SLOPE_FRACTION - (MANTISSA_BITS - 2)),
    )
