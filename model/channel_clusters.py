"""Quamba2's piecewise scales (Q9): heads and dims of a group clustered by their calibrated maxima.

A layer's channels are a grid of groups, heads and dims, ``channel = (group heads + head) dims +
dim``. Inside each group the heads are clustered and reordered so that a cluster is a range of
heads; inside each range the dims are, in the same way. Each pair of ranges has one scale
(Chiang et al. 2025, ``x_head_group_range``, ``x_dim_group_range``, ``x_out_scales``). Mamba-1 has
no heads: its channels are split as if it had, see :data:`HEADS` and :data:`GROUPS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.errors import InputError

__all__ = ["GROUPS", "HEADS", "PiecewiseScales", "cluster", "piecewise_scales"]

Array = npt.NDArray[Any]

GROUPS = 8
"""Groups that Mamba-1's channels are split into, as Quamba2's Mamba-2 of 8 groups has."""
HEADS = 8
"""Heads a group; the dims are the channels that remain, 4 of `bytelm`'s 256."""
_ITERATIONS = 50
_SMALLEST = 1e-6


@dataclass(frozen=True)
class PiecewiseScales:
    """Scales of one layer.

    Members
    -------
    order : channel that takes each place, (e,): reordering weights by it makes clusters ranges
    head_ranges : number of heads in each cluster, (groups, head groups)
    dim_ranges : number of dims in each cluster, (groups, head groups, dim groups)
    magnitudes : largest value of each piece, (groups, head groups, dim groups)
    """

    order: Array
    head_ranges: Array
    dim_ranges: Array
    magnitudes: Array

    @property
    def count(self) -> int:
        """Number of scales: it follows the numbers of groups."""
        return int(self.magnitudes.size)

    def channel_magnitudes(self) -> Array:
        """Return the magnitude that each channel's scale stands for, (e,), in the old order."""
        placed = [
            np.tile(np.repeat(self.magnitudes[g, h], self.dim_ranges[g, h]), heads)
            for g in range(len(self.head_ranges))
            for h, heads in enumerate(self.head_ranges[g])
        ]
        result = np.empty(len(self.order))
        result[self.order] = np.concatenate(placed)
        return result


def cluster(points: Array, count: int, seed: int) -> Array:
    """Return the cluster of every point (n, features), numbered by rising size of their centres.

    Lloyd's k-means from a seeded k-means++ start; a cluster that runs empty takes the point that
    is furthest from its centre, so that all ``count`` are used.

    Raises
    ------
    InputError
        If there are fewer points than clusters.
    """
    if not 1 <= count <= len(points):
        raise InputError(
            f"{count} clusters of {len(points)} points are asked for; "
            "use fewer head or dim groups for a layer of this width"
        )
    random = np.random.default_rng(seed)
    centres = points[[random.integers(len(points))]]
    while len(centres) < count:
        distance = _distances(points, centres).min(axis=1)
        total = distance.sum()
        shares = distance / total if total > 0 else np.full(len(points), 1.0 / len(points))
        centres = np.concatenate([centres, points[[random.choice(len(points), p=shares)]]])
    for _ in range(_ITERATIONS):
        distance = _distances(points, centres)
        labels = distance.argmin(axis=1)
        nearest = distance[np.arange(len(points)), labels]
        for empty in np.setdiff1d(np.arange(count), labels):
            crowded = np.bincount(labels, minlength=count)[labels] > 1
            furthest = int(np.where(crowded, nearest, -1.0).argmax())
            labels[furthest], nearest[furthest] = empty, 0.0
        moved = np.stack([points[labels == own].mean(axis=0) for own in range(count)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    rank = np.empty(count, np.int64)
    rank[np.argsort(centres.sum(axis=1), kind="stable")] = np.arange(count)
    return rank[labels]


def _distances(points: Array, centres: Array) -> Array:
    return np.square(points[:, None] - centres[None]).sum(axis=2)


def _ranges(labels: Array, count: int) -> tuple[Array, Array]:
    """Return the order that makes clusters ranges, and their lengths."""
    return np.argsort(labels, kind="stable"), np.bincount(labels, minlength=count)


def piecewise_scales(
    maxima: Array, groups: int, head_groups: int, dim_groups: int, seed: int
) -> PiecewiseScales:
    """Cluster a layer's calibrated per-channel maxima (e,); logarithms are what is compared.

    Raises
    ------
    InputError
        If the channels do not split into ``groups`` times :data:`HEADS` heads.
    """
    if len(maxima) % (groups * HEADS):
        raise InputError(
            f"{len(maxima)} channels do not split into {groups} groups of {HEADS} heads; "
            "choose a divisor"
        )
    grid = np.asarray(maxima, float).reshape(groups, HEADS, -1)  # groups heads dims
    logs = np.log2(np.maximum(grid, _SMALLEST))
    channels = np.arange(len(maxima)).reshape(grid.shape)
    shape = (groups, head_groups, dim_groups)
    head_ranges = np.empty(shape[:2], np.int64)
    dim_ranges, magnitudes = np.empty(shape, np.int64), np.empty(shape)
    order = []
    for g in range(groups):
        head_order, head_ranges[g] = _ranges(cluster(logs[g], head_groups, seed), head_groups)
        for h, heads in enumerate(np.split(head_order, np.cumsum(head_ranges[g])[:-1])):
            labels = cluster(logs[g, heads].T, dim_groups, seed)
            dim_order, dim_ranges[g, h] = _ranges(labels, dim_groups)
            for d in range(dim_groups):
                magnitudes[g, h, d] = grid[g][np.ix_(heads, np.flatnonzero(labels == d))].max()
            order.append(channels[g][np.ix_(heads, dim_order)].reshape(-1))
    return PiecewiseScales(np.concatenate(order), head_ranges, dim_ranges, magnitudes)
