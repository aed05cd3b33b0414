"""Range observers and the choice of power-of-two exponents from observed values.

An observer reports how large a tensor's values are; an exponent follows either from that range or,
by default, from the squared error that each candidate exponent leaves on the observed values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from golden.fixed_point import Integers, fraction_bits_for, integer_range

__all__ = [
    "PERCENTILE_PRESETS", "PercentileObserver", "fraction_by_error", "fraction_by_range",
    "layer_alpha", "percentile_observer", "rounding_error",
]  # fmt: skip

Array = npt.NDArray[Any]

PERCENTILE_PRESETS: dict[str, tuple[float, float]] = {
    "seed": (0.9995, 0.1),
    "quamba": (0.9995, 0.01),
}
"""``(alpha, sigma)`` of the observers of demand Q1."""

_CANDIDATES = 6
"""Exponents tried beyond the one that does not clip: the last clips 63/64 of the range away."""


@dataclass
class PercentileObserver:
    """Running quantile of magnitudes (Q1): ``m`` is the first one, then ``m += sigma (cur - m)``.

    Parameters
    ----------
    alpha : the quantile, in (0, 1]
    sigma : weight of a new batch, in (0, 1]
    """

    alpha: float = 0.9995
    sigma: float = 0.1
    magnitude: float | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "sigma"):
            value = getattr(self, name)
            if not 0.0 < value <= 1.0:
                raise InputError(f"{name} = {value} is outside (0, 1]; choose one inside")

    def observe(self, values: Array) -> None:
        """Take in one batch of any shape."""
        current = float(np.quantile(np.abs(values), self.alpha))
        if self.magnitude is None:
            self.magnitude = current
        else:
            self.magnitude += self.sigma * (current - self.magnitude)

    def scale(self, bits: int) -> float:
        """Return ``m / qmax`` of a symmetric ``bits`` wide format."""
        if self.magnitude is None:
            raise InputError("the observer has seen no batch; calibrate before asking for a scale")
        return self.magnitude / integer_range(bits)[1]


def percentile_observer(preset: str, alpha: float | None = None) -> PercentileObserver:
    """Return the observer called ``preset``, with another ``alpha`` if one is given."""
    if preset not in PERCENTILE_PRESETS:
        raise InputError(
            f"unknown observer {preset!r}; choose mse or one of {', '.join(PERCENTILE_PRESETS)}"
        )
    own_alpha, sigma = PERCENTILE_PRESETS[preset]
    return PercentileObserver(own_alpha if alpha is None else alpha, sigma)


def layer_alpha(index: int, layers: int) -> float:
    """Return Q1's alpha of a layer: the first third 1.0, the middle .9999, the last .9995."""
    return (1.0, 0.9999, 0.9995)[min(3 * index // max(layers, 1), 2)]


def rounding_error(values: Array, fraction: int, bits: int, *, signed: bool = True) -> Array:
    """Return the squared error of a format on ``values`` (samples, ...), summed over samples."""
    low, high = integer_range(bits, signed=signed)
    scale = np.float32(2.0**fraction)
    rounded = np.clip(np.rint(values * scale), low, high) / scale
    error: Array = np.square(rounded - values, dtype=np.float64).sum(axis=0)
    return error


def fraction_by_error(
    values: Array, bits: int, *, signed: bool = True, per_channel: bool = False
) -> Integers:
    """Return the exponent of least squared error: of a tensor, (), or of each channel, (channels,).

    ``values`` is (samples, channels). Candidates start at the exponent that does not clip.
    """
    peak = np.abs(values).max(axis=0) if per_channel else np.abs(values).max(keepdims=True)[0]
    first = fraction_bits_for(peak, bits if signed else bits + 1)  # channels or 1
    origin = int(first.min())
    errors = []
    for fraction in range(origin, int(first.max()) + _CANDIDATES):
        error = rounding_error(values, fraction, bits, signed=signed)  # channels
        errors.append(error if per_channel else error.sum(keepdims=True))
    best = np.argmin(np.stack(errors), axis=0) + origin
    # A channel that is always zero has no best exponent; any other error is positive.
    best = np.where(peak > 0, best, first)
    return best if per_channel else best.reshape(-1)[0]


def fraction_by_range(
    values: Array, bits: int, observer: PercentileObserver, *, signed: bool = True
) -> Integers:
    """Return the finest exponent whose format holds the observed percentile.

    ``values`` is (samples, channels), taken in as eight batches.
    """
    for batch in np.array_split(values, min(8, len(values))):
        observer.observe(batch)
    return fraction_bits_for(observer.magnitude or 0.0, bits if signed else bits + 1)
