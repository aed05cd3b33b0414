"""Errors of positions: what the sources report, and how far the test lies from the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["STATISTICS", "distances", "error_statistics", "nearest_distance"]

Reals = npt.NDArray[np.floating[Any]]

STATISTICS = ("mean", "median", "p80", "p90")
_BLOCK = 512


def distances(found: Reals, places: Reals) -> npt.NDArray[np.float64]:
    """Return the Euclidean errors (n,) of places (n, 2)."""
    return np.linalg.norm(np.asarray(found, float) - np.asarray(places, float), axis=1)


def error_statistics(errors: Reals) -> dict[str, float]:
    """Return mean, median, 80th and 90th percentile, in the unit of ``errors``."""
    return {
        "mean": float(np.mean(errors)),
        "median": float(np.median(errors)),
        "p80": float(np.percentile(errors, 80)),
        "p90": float(np.percentile(errors, 90)),
    }


def nearest_distance(places: Reals, training: Reals) -> float:
    """Return the median distance from ``places`` to the nearest of the training places.

    A test that lies closer to the training than the errors reported tests memory.
    """
    known = np.asarray(training, np.float32)
    nearest = [
        np.sqrt(np.square(block[:, None] - known).sum(axis=2).min(axis=1))
        for block in np.array_split(np.asarray(places, np.float32), max(1, len(places) // _BLOCK))
    ]
    return float(np.median(np.concatenate(nearest)))
