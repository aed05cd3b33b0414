"""Range observers (Q1, Q2): from batches of values to the magnitude that a format should reach.

An observer sees calibration text batch by batch. Its ``magnitude`` over the largest code is the
scale of a symmetric format. Percentile observers run; the others look at a thinned sample of all
batches, and know the largest magnitude besides.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from golden.fixed_point import integer_range

__all__ = [
    "ALPHAS",
    "OBSERVERS",
    "PERCENTILE_PRESETS",
    "SIGMAS",
    "AciqObserver",
    "AffineFormat",
    "EntropyObserver",
    "LearnedObserver",
    "MinMaxObserver",
    "MseObserver",
    "OutlierObserver",
    "PercentileObserver",
    "RangeObserver",
    "asymmetric_range",
    "layer_alpha",
    "make_observer",
    "percentile_observer",
]  # fmt: skip

Array = npt.NDArray[Any]

PERCENTILE_PRESETS: dict[str, tuple[float, float]] = {
    "seed": (0.9995, 0.1),
    "quamba": (0.9995, 0.01),
}
"""``(alpha, sigma)`` of the observers of demand Q1."""
ALPHAS = (0.9990, 0.9995, 0.9999, 0.99999, 1.0)
SIGMAS = (0.01, 0.1, 0.5, 1.0)

_SAMPLE = 1 << 12
"""Values kept of a batch."""


def _checked_magnitudes(values: Array) -> Array:
    """Return ``|values|`` as one row; refuse what is empty or not finite."""
    magnitudes = np.abs(np.asarray(values, dtype=np.float64)).reshape(-1)
    if not magnitudes.size:
        raise InputError("a calibration batch is empty; calibrate on more text")
    broken = magnitudes.size - int(np.isfinite(magnitudes).sum())
    if broken:
        raise InputError(
            f"a calibration batch holds {broken} NaN or infinite values of {magnitudes.size}; "
            "repair the weights or the calibration data"
        )
    return magnitudes


class RangeObserver(abc.ABC):
    """Sees batches; says which magnitude the largest code should stand for."""

    @abc.abstractmethod
    def observe(self, values: Array) -> None:
        """Take in one batch of any shape; InputError if it is empty or not finite."""

    @property
    @abc.abstractmethod
    def magnitude(self) -> float | None:
        """The range found; None before the first batch."""

    def scale(self, bits: int) -> float:
        """Return ``magnitude / qmax`` of a symmetric ``bits`` wide format."""
        if self.magnitude is None:
            raise InputError("the observer has seen no batch; calibrate before asking for a scale")
        return self.magnitude / integer_range(bits)[1]


class PercentileObserver(RangeObserver):
    """Running quantile of magnitudes (Q1): ``m`` is the first one, then ``m += sigma (cur - m)``.

    Parameters
    ----------
    alpha : the quantile, in (0, 1]
    sigma : weight of a new batch, in (0, 1]
    """

    def __init__(self, alpha: float = 0.9995, sigma: float = 0.1) -> None:
        for name, value in (("alpha", alpha), ("sigma", sigma)):
            if not 0.0 < value <= 1.0:
                raise InputError(f"{name} = {value} is outside (0, 1]; choose one inside")
        self.alpha, self.sigma = alpha, sigma
        self._running: float | None = None

    def observe(self, values: Array) -> None:
        """Move towards the batch's quantile."""
        current = float(np.quantile(_checked_magnitudes(values), self.alpha))
        if self._running is None:
            self._running = current
        else:
            self._running += self.sigma * (current - self._running)

    @property
    def magnitude(self) -> float | None:
        """The running quantile."""
        return self._running


class MinMaxObserver(RangeObserver):
    """The largest magnitude of all batches: nothing is clipped."""

    def __init__(self) -> None:
        self._largest: float | None = None

    def observe(self, values: Array) -> None:
        """Take the larger maximum."""
        self._largest = max(self._largest or 0.0, float(_checked_magnitudes(values).max()))

    @property
    def magnitude(self) -> float | None:
        """The largest magnitude."""
        return self._largest


class _SampleObserver(RangeObserver):
    """Keeps an evenly spaced sample of every batch and the maximum; ``levels`` is the top code."""

    def __init__(self, levels: int) -> None:
        if levels < 1:
            raise InputError(f"levels = {levels} is below 1; a format needs a code besides zero")
        self.levels = levels
        self._parts: list[Array] = []
        self._peak = 0.0

    def observe(self, values: Array) -> None:
        """Keep a sample of the magnitudes."""
        magnitudes = _checked_magnitudes(values)
        step = max(1, magnitudes.size // _SAMPLE) | 1  # odd: not the same channel every time
        self._parts.append(magnitudes[::step])
        # Apart from the sample: there it would weigh more than it does among all values.
        self._peak = max(self._peak, float(magnitudes.max()))

    @property
    def magnitude(self) -> float | None:
        """The range for the sample; zero for a tensor that is always zero."""
        if not self._parts:
            return None
        sample = np.concatenate(self._parts)
        # A sample of zeros has no distribution to look at: then the largest value is the range.
        return self._range(sample) if sample.max() > 0 else self._peak

    @abc.abstractmethod
    def _range(self, sample: Array) -> float:
        """Return the range for magnitudes that are not all zero."""

    def _error(self, sample: Array, magnitude: float) -> float:
        """Return the squared error of a symmetric format of that range."""
        step = magnitude / self.levels
        rounded = np.minimum(np.rint(sample / step), self.levels) * step
        return float(np.square(rounded - sample).sum())


class MseObserver(_SampleObserver):
    """The range of least squared error, of 100 geometrically spaced ones below the maximum."""

    _CANDIDATES = 100
    _SMALLEST = 1e-3

    def _range(self, sample: Array) -> float:
        candidates = self._peak * np.geomspace(self._SMALLEST, 1.0, self._CANDIDATES)
        return float(min(candidates, key=lambda magnitude: self._error(sample, magnitude)))


class AciqObserver(_SampleObserver):
    """Analytic clipping (Banner et al. 2019) for a Laplace or a normal distribution of mean 0.

    The distribution is the one whose range leaves the smaller squared error on the sample.
    """

    def _range(self, sample: Array) -> float:
        laplace = _laplace_clip(self.levels) * float(sample.mean())
        normal = _normal_clip(self.levels) * math.sqrt(float(np.square(sample).mean()))
        top = self._peak
        choices = (min(laplace, top), min(normal, top))
        return min(choices, key=lambda magnitude: self._error(sample, magnitude))


@cache
def _laplace_clip(levels: int) -> float:
    """Return the best clipping range over the mean magnitude ``b``.

    The squared error ``2 b^2 exp(-t)`` of clipping at ``t b`` and ``step^2 / 12`` of rounding, with
    ``step = 2 t b / (2 levels + 1)``, is least where ``t exp(t) = 3 (2 levels + 1)^2``.
    """
    target = math.log(3.0 * (2 * levels + 1) ** 2)
    clip = target
    for _ in range(50):  # Newton
        clip -= (clip + math.log(clip) - target) / (1.0 + 1.0 / clip)
    return clip


@cache
def _normal_clip(levels: int) -> float:
    """Return the clipping range over the standard deviation: the best on a fine grid."""

    def error(clip: float) -> float:
        tail = 0.5 * math.erfc(clip / math.sqrt(2.0))
        density = math.exp(-clip * clip / 2.0) / math.sqrt(2.0 * math.pi)
        step = 2.0 * clip / (2 * levels + 1)
        return 2.0 * ((1.0 + clip * clip) * tail - clip * density) + step * step / 12.0

    return min((0.01 * i for i in range(10, 1000)), key=error)


class EntropyObserver(_SampleObserver):
    """The range whose quantized histogram has the least Kullback-Leibler divergence from the real.

    A histogram of 2,048 bins is cut at every candidate, its tail added to the last bin, and
    compared with itself spread over the format's levels (Migacz 2017).
    """

    _BINS = 2048
    _CANDIDATES = 128

    def _range(self, sample: Array) -> float:
        top = self._peak
        counts, _ = np.histogram(sample, bins=self._BINS, range=(0.0, top))
        first = min(self.levels, self._BINS)
        cuts = np.unique(np.linspace(first, self._BINS, self._CANDIDATES).astype(int))
        best = min(cuts, key=lambda cut: self._divergence(counts, int(cut)))
        return top * float(best) / self._BINS

    def _divergence(self, counts: Array, cut: int) -> float:
        """Return the divergence with the range ``cut`` bins wide."""
        real = counts[:cut].astype(float)
        level = np.arange(cut) * self.levels // cut
        occupied = real > 0
        total = np.bincount(level, weights=real, minlength=self.levels)
        members = np.bincount(level, weights=occupied, minlength=self.levels)
        spread = np.where(occupied, (total / np.maximum(members, 1))[level], 0.0)
        real[-1] += counts[cut:].sum()
        spread[-1] = max(spread[-1], _TINY)  # the clipped tail has mass where the format has none
        real, spread = real / real.sum(), spread / spread.sum()
        both = real > 0
        return float((real[both] * np.log(real[both] / np.maximum(spread[both], _TINY))).sum())


_TINY = 1e-12


class OutlierObserver(_SampleObserver):
    """Outlier-aware (Q2): the .99 quantile at 120/127 of the codes, the rest for the outliers."""

    _QUANTILE = 0.99
    _SHARE = 120.0 / 127.0

    def _range(self, sample: Array) -> float:
        inside = float(np.quantile(sample, self._QUANTILE))
        return inside / self._SHARE if inside > 0 else self._peak


class LearnedObserver(_SampleObserver):
    """LSQ (Esser et al. 2020): the step by gradient descent, rounding passed straight through.

    The loss is the squared error on the sample, as no other is known when calibrating. From
    ``2 mean|x| / sqrt(levels)``, sign steps that halve whenever the gradient turns.
    """

    _STEPS = 60

    def _range(self, sample: Array) -> float:
        step = 2.0 * float(sample.mean()) / math.sqrt(self.levels)
        rate, last = 0.25, 0.0
        for _ in range(self._STEPS):
            scaled = sample / step
            code = np.minimum(np.rint(scaled), self.levels)
            # d(code step)/d step: the rounding error inside the range, the top code beyond it.
            slope = np.where(scaled <= self.levels, code - scaled, code)
            gradient = float(((code * step - sample) * slope).sum())
            if gradient * last < 0:
                rate /= 2.0
            last = gradient
            step *= 1.0 - rate * float(np.sign(gradient))
        return min(step * self.levels, self._peak)


_BY_LEVELS: dict[str, Callable[[int], RangeObserver]] = {
    "min-max": lambda _levels: MinMaxObserver(),
    "mse": MseObserver,
    "aciq": AciqObserver,
    "entropy": EntropyObserver,
    "outlier": OutlierObserver,
    "lsq": LearnedObserver,
}
OBSERVERS = (*_BY_LEVELS, *PERCENTILE_PRESETS)
"""Names of all range observers."""


def percentile_observer(
    preset: str, alpha: float | None = None, sigma: float | None = None
) -> PercentileObserver:
    """Return the observer called ``preset``, with another ``alpha`` or ``sigma`` if given."""
    own_alpha, own_sigma = PERCENTILE_PRESETS[preset]
    return PercentileObserver(
        own_alpha if alpha is None else alpha, own_sigma if sigma is None else sigma
    )


def make_observer(name: str, levels: int, alpha: float | None = None) -> RangeObserver:
    """Return the observer called ``name`` for a format whose largest code is ``levels``.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if name in PERCENTILE_PRESETS:
        return percentile_observer(name, alpha)
    if name not in _BY_LEVELS:
        raise InputError(f"unknown observer {name!r}; choose one of {', '.join(OBSERVERS)}")
    return _BY_LEVELS[name](levels)


def layer_alpha(index: int, layers: int) -> float:
    """Return Q1's alpha of a layer: the first third 1.0, the middle .9999, the last .9995."""
    return (1.0, 0.9999, 0.9995)[min(3 * index // max(layers, 1), 2)]


@dataclass(frozen=True)
class AffineFormat:
    """An asymmetric format (Q3): ``q = clamp(round(x / scale + zero_point), 0, 2**bits - 1)``.

    Parameters
    ----------
    scale : step
    zero_point : the code of zero, an integer
    bits : width
    """

    scale: float
    zero_point: int
    bits: int = 8

    def __call__(self, values: Array) -> Array:
        """Return what the codes of ``values`` stand for, same shape and type."""
        top = integer_range(self.bits, signed=False)[1]
        code = np.clip(np.rint(values / self.scale + self.zero_point), 0, top)
        return ((code - self.zero_point) * self.scale).astype(values.dtype)


def asymmetric_range(values: Array, alpha: float, bits: int = 8) -> AffineFormat:
    """Return the format from the ``1 - alpha`` to the ``alpha`` quantile of ``values``.

    The range always holds zero, which then has a code of its own.
    """
    _checked_magnitudes(values)
    low = min(0.0, float(np.quantile(values, 1.0 - alpha)))
    high = max(0.0, float(np.quantile(values, alpha)))
    top = integer_range(bits, signed=False)[1]
    scale = (high - low) / top if high > low else 1.0
    return AffineFormat(scale, int(np.clip(np.rint(-low / scale), 0, top)), bits)
