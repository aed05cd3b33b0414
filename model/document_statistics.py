"""Confidence of a loss: a paired bootstrap over documents (Efron and Tibshirani 1993).

Two programs are judged on the same text, and documents are what is independent of each other in
it. Every resample draws as many documents as there are, with replacement and the same ones for
both programs, so that what makes a document hard cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from model.corpus import SEPARATOR

__all__ = ["Difference", "PairedBootstrap", "document_numbers", "window_numbers"]

Array = npt.NDArray[Any]

RESAMPLES = 2000
_TAIL = 2.5
"""Percent of the resamples beyond each end of the interval."""


def document_numbers(stream: Array) -> Array:
    """Return the document of every byte, (tokens,): a separator is its document's last byte."""
    ends = np.asarray(stream) == SEPARATOR[0]
    numbers: Array = np.cumsum(ends) - ends
    return numbers


def window_numbers(tokens: int, window: int) -> Array:
    """Return the window of every token, (tokens,): for streams that have no documents."""
    return np.arange(tokens) // window


@dataclass(frozen=True)
class Difference:
    """Loss in percent of the reference's bits, with its 95 % interval."""

    percent: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0.0 or self.high < 0.0

    def to_json(self) -> dict[str, float]:
        """Return percent and interval."""
        return {"percent": self.percent, "low": self.low, "high": self.high}


class PairedBootstrap:
    """Compares costs of the same tokens.

    Parameters
    ----------
    numbers : document of every token, (tokens,)
    seed : of the resamples

    Raises
    ------
    InputError
        If there are fewer than two documents.
    """

    def __init__(self, numbers: Array, seed: int, resamples: int = RESAMPLES) -> None:
        _, self._documents = np.unique(numbers, return_inverse=True)
        self.count = int(self._documents.max()) + 1
        if self.count < 2:
            raise InputError(
                "the held-out text has one document, an interval needs at least 2; give more bytes"
            )
        shares = np.full(self.count, 1.0 / self.count)
        generator = np.random.default_rng(seed)
        self._draws = generator.multinomial(self.count, shares, size=resamples).astype(float)

    def _sums(self, costs: Array) -> Array:
        """Return bits by document, (documents,)."""
        return np.bincount(self._documents, weights=costs, minlength=self.count)

    def compare(self, costs: Array, reference: Array) -> Difference:
        """Return how much more bits ``costs`` are than ``reference``, both (tokens,)."""
        own, other = self._sums(costs), self._sums(reference)
        percent = 100.0 * (own.sum() / other.sum() - 1.0)
        # The difference is resampled, not the ratio, so that equal costs give exactly zero.
        resampled = 100.0 * (self._draws @ (own - other)) / (self._draws @ other)
        low, high = np.percentile(resampled, [_TAIL, 100.0 - _TAIL])
        return Difference(float(percent), float(low), float(high))
