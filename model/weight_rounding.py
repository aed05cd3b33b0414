"""Rounding of weight matrices to power-of-two row formats with compensation of the error.

The error that counts is what the loss feels of the product: ``tr(M E H E^T)`` with ``E = Q - W``,
the inputs' second moments ``H = X^T X`` and, where known, the second moments M of the loss's
gradient at the outputs (:mod:`model.sensitivity`). GPTQ (Frantar et al. 2023) rounds a row element
by element and lets the later ones make up for the error; with M the later rows make up for those
before in the same way, so that errors move to where the loss does not feel them. Coordinate descent
then revisits every element until the row settles.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

from golden.fixed_point import Integers, to_real
from golden.layer import Linear
from model.weight_steps import row_steps

__all__ = ["RoundedRows", "refit", "round_groups", "round_rows"]

Array = npt.NDArray[Any]

_DAMPING = 0.01
"""Share of the mean diagonal added to H and M (GPTQ's percdamp)."""
_SWEEPS = 4
_JOINT_SWEEPS = 2
_ROWS = 1024
"""Rows that a thread rounds at once, where rows do not feel each other."""
_STRETCH = 64
"""Columns that are rounded before those behind are corrected."""


@dataclass(frozen=True)
class RoundedRows:
    """A rounded matrix.

    Parameters
    ----------
    weight : integers (rows, columns)
    fraction_bits : (rows,)
    factor : what a row was multiplied by before rounding, (rows,)
    group_shift, group : of groups of columns, see :class:`golden.layer.Linear`
    """

    weight: Integers
    fraction_bits: Integers
    factor: Array
    group_shift: Integers | None = None
    group: int | None = None

    def linear(self, bias: Integers | None = None) -> Linear:
        """Return the integers of a product, with a bias in its accumulator's scale."""
        return Linear(
            weight=self.weight,
            fraction_bits=self.fraction_bits,
            bias=bias,
            group_shift=self.group_shift,
            group=self.group,
        )

    @property
    def real(self) -> Array:
        """The matrix that the integers stand for, its rows still multiplied by their factors."""
        return to_real(self.weight, self.linear().column_fraction)


def damped(moments: Array) -> Array:
    """Return ``moments`` with the damping on its diagonal; silent inputs count as little ones."""
    size = len(moments)
    mean = float(np.trace(moments)) / size
    return moments + np.eye(size) * (_DAMPING * mean if mean > 0 else 1.0)


def refit(weight: Array, moments: Array, cross: Array, strength: float) -> Array:
    """Return the weights that best map the quantized inputs to the float network's outputs.

    Parameters
    ----------
    weight : (rows, columns), where the fit is drawn to
    moments : ``X_q^T X_q`` of the quantized inputs (columns, columns)
    cross : ``X_q^T Y`` with the wanted outputs (columns, rows)
    strength : weight of staying at ``weight``, in mean diagonals of ``moments``
    """
    size = len(moments)
    mean = float(np.trace(moments)) / size
    if mean <= 0:
        return weight
    ridge = np.eye(size) * (strength * mean)
    solution: Array = np.linalg.solve(moments + ridge, cross + ridge @ weight.T)
    return solution.T


@numba.njit(cache=True, nogil=True)
def _compensated(
    target: Array, scale: Array, limits: tuple[float, float], order: Array, inverse: Array,
    rounded: Array,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """GPTQ of one row: write the integers of ``target`` (columns,) to ``rounded``.

    ``scale`` is (columns,); ``inverse`` is the upper Cholesky factor of the inverse of H, in the
    ``order`` of processing.
    """
    rest = target[order]
    for column in range(len(rest)):
        own = rest[column]
        steps = scale[order[column]]
        value = min(max(np.rint(own * steps), limits[0]), limits[1])
        rounded[order[column]] = value
        step = (own - value / steps) / inverse[column, column]
        rest[column + 1 :] -= step * inverse[column, column + 1 :]


@numba.njit(cache=True, nogil=True)
def _settle(
    difference: Array, slope: Array, scale: Array, limits: tuple[float, float], h: Array,
    rounded: Array,
) -> float:  # pragma: no cover - compiled  # fmt: skip
    """Coordinate descent on one row's integers; return the error that is left.

    ``difference`` is what they miss the target by, ``slope`` its product with H; both follow.
    """
    for _ in range(_SWEEPS):
        changed = False
        for column in range(len(rounded)):
            own = rounded[column]
            wanted = own - slope[column] * scale[column] / h[column, column]
            value = min(max(np.rint(wanted), limits[0]), limits[1])
            if value != own:
                changed = True
                change = (value - own) / scale[column]
                slope += change * h[column]
                difference[column] += change
                rounded[column] = value
        if not changed:
            break
    return (slope * difference).sum()


@numba.njit(cache=True, nogil=True)
def _descend(
    target: Array, scale: Array, limits: tuple[float, float], h: Array, rounded: Array
) -> float:  # pragma: no cover - compiled
    """Coordinate descent on one row's integers; return the error that is left."""
    difference = rounded / scale - target
    return _settle(difference, difference @ h, scale, limits, h, rounded)


@numba.njit(cache=True, nogil=True)
def _round_columns(
    rest: Array, scale: Array, limits: tuple[float, float], inverse: Array, rounded: Array
) -> Array:  # pragma: no cover - compiled
    """GPTQ within some columns of all rows; return what the columns behind have to make up for."""
    steps = np.empty(rest.shape)
    for column in range(rest.shape[1]):
        for row in range(len(rest)):
            own, one = rest[row, column], scale[row, column]
            value = min(max(np.rint(own * one), limits[0]), limits[1])
            rounded[row, column] = value
            step = (own - value / one) / inverse[column, column]
            steps[row, column] = step
            rest[row, column + 1 :] -= step * inverse[column, column + 1 :]
    return steps


@numba.njit(cache=True, nogil=True)
def _settle_rows(
    difference: Array, slope: Array, scale: Array, limits: tuple[float, float], h: Array,
    rounded: Array, errors: Array,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """Coordinate descent of every row; see :func:`_settle`."""
    for row in range(len(rounded)):
        errors[row] = _settle(difference[row], slope[row], scale[row], limits, h, rounded[row])


def _round_alone(
    weight: Array, scales: Array, group: int, limits: tuple[float, float], order: Integers,
    inverse: Array, h: Array,
) -> tuple[Array, Integers]:  # fmt: skip
    """Return the integers of rows that do not feel each other, and which scale each took.

    GPTQ many rows at once: columns behind a stretch of them get its corrections as one product.
    """
    h, weight = h[np.ix_(order, order)], weight[:, order]
    best, least = np.empty_like(weight), np.full(len(weight), np.inf)
    chosen = np.zeros(len(weight), np.int64)
    for trial in range(scales.shape[1]):
        scale = np.repeat(scales[:, trial], group, axis=1)[:, order]
        rest, rounded = weight.copy(), np.empty_like(weight)
        for first in range(0, weight.shape[1], _STRETCH):
            own, behind = slice(first, first + _STRETCH), slice(first + _STRETCH, None)
            made = np.empty_like(rest[:, own])
            steps = _round_columns(
                np.ascontiguousarray(rest[:, own]), np.ascontiguousarray(scale[:, own]), limits,
                np.ascontiguousarray(inverse[own, own]), made,
            )  # fmt: skip
            rounded[:, own] = made
            rest[:, behind] -= steps @ inverse[own, behind]
        difference = rounded / scale - weight
        errors = np.empty(len(weight))
        _settle_rows(difference, difference @ h, scale, limits, h, rounded, errors)
        better = errors < least
        best[better], least[better], chosen[better] = rounded[better], errors[better], trial
    result = np.empty_like(best)
    result[:, order] = best
    return result, chosen


@numba.njit(cache=True, nogil=True)
def _round_matrix(
    weight: Array, scales: Array, group: int, limits: tuple[float, float], order: Array,
    inverse: Array, h: Array, row_order: Array, row_inverse: Array, rounded: Array, chosen: Array,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """Round row after row, each with the best of its ``scales`` (rows, tries, groups of columns).

    ``group`` columns have one scale.

    ``row_inverse`` is to M what ``inverse`` is to H: later rows make up for those before.
    """
    rest = weight.copy()
    columns = weight.shape[1]
    own = np.empty(columns)
    for place in range(len(weight)):
        row = row_order[place]
        least = np.inf
        for trial in range(scales.shape[1]):
            scale = np.repeat(scales[row, trial], group)[:columns]
            _compensated(rest[row], scale, limits, order, inverse, own)
            error = _descend(rest[row], scale, limits, h, own)
            if error < least:
                least = error
                chosen[row] = trial
                rounded[row] = own
        scale = np.repeat(scales[row, chosen[row]], group)[:columns]
        left = (rest[row] - rounded[row] / scale) / row_inverse[place, place]
        for later in range(place + 1, len(weight)):
            rest[row_order[later]] -= row_inverse[place, later] * left


@numba.njit(cache=True, nogil=True)
def _descend_jointly(
    weight: Array, scale: Array, limits: tuple[float, float], h: Array, m: Array, rounded: Array
) -> None:  # pragma: no cover - compiled
    """Coordinate descent row by row, each making up for what all others leave.

    ``scale`` is (rows, columns).
    """
    for row in range(len(weight)):
        felt = np.zeros(weight.shape[1])
        for other in range(len(weight)):
            if other != row:
                felt += m[row, other] * (rounded[other] / scale[other] - weight[other])
        _descend(weight[row] - felt / m[row, row], scale[row], limits, h, rounded[row])


def _ordered_inverse(moments: Array) -> tuple[Integers, Array]:
    """Return the order of processing and the upper Cholesky factor of the inverse in it."""
    order = np.argsort(-np.diag(moments), kind="stable")
    inverse = np.linalg.inv(moments[np.ix_(order, order)])
    return order, np.ascontiguousarray(np.linalg.cholesky(inverse).T)


def _round(
    weight: Array, scales: Array, group: int, limits: tuple[int, int], h: Array,
    sensitivity: Array | None,
) -> tuple[Array, Integers]:  # fmt: skip
    """Return the integers with compensation and which of ``scales`` each row took.

    ``scales`` is (rows, tries, groups of ``group`` columns), ``h`` the damped moments.
    """
    bounds = (float(limits[0]), float(limits[1]))
    order, inverse = _ordered_inverse(h)
    if sensitivity is None:
        parts = [slice(first, first + _ROWS) for first in range(0, len(weight), _ROWS)]

        def alone(part: slice) -> tuple[Array, Integers]:
            return _round_alone(weight[part], scales[part], group, bounds, order, inverse, h)

        # The loops are compiled and leave the interpreter to the others.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            made = list(pool.map(alone, parts))
        return np.concatenate([own for own, _ in made]), np.concatenate([own for _, own in made])
    rounded, rows = np.empty_like(weight), np.arange(len(weight))
    chosen = np.zeros(len(weight), np.int64)
    m = damped(sensitivity)
    row_order, row_inverse = _ordered_inverse(m)
    _round_matrix(
        weight, scales, group, bounds, order, inverse, h, row_order, row_inverse, rounded, chosen
    )
    scale = np.repeat(scales[rows, chosen], group, axis=1)[:, : weight.shape[1]]
    for _ in range(_JOINT_SWEEPS):
        _descend_jointly(weight, scale, bounds, h, m, rounded)
    return rounded, chosen


def _normalised(weight: Array, moments: Array | None) -> tuple[Array, Array]:
    """Return the weight in float64 and the damped moments with a mean diagonal of one."""
    h = damped(np.eye(weight.shape[1]) if moments is None else moments)
    return np.ascontiguousarray(weight, dtype=np.float64), h / (np.trace(h) / len(h))


def round_rows(
    weight: Array,
    limits: tuple[int, int],
    moments: Array | None = None,
    *,
    compensate: bool = True,
    sensitivity: Array | None = None,
    factors: Array | None = None,
    group: int | None = None,
) -> RoundedRows:
    """Round ``weight`` (rows, columns); each row takes the exponent of least product error.

    Parameters
    ----------
    limits : least and largest integer
    moments : ``H``, (columns, columns); None stands for the identity
    compensate : GPTQ and coordinate descent, else round to nearest
    sensitivity : ``M``, (rows, rows); None stands for the identity
    factors : what a row may be multiplied by before it is rounded, (rows, any number), NaN where a
        row has fewer; the best one is reported
    group : columns that share an exponent; None if all of a row do, as where it has no more
    """
    weight, h = _normalised(weight, moments)
    columns = weight.shape[1]
    size = columns if group is None else min(group, columns)
    factors = np.ones((len(weight), 1)) if factors is None else factors
    fractions, tried = row_steps(weight, size, limits, np.diag(h).copy(), factors)
    scales = np.ldexp(1.0, fractions) * tried[..., None]  # rows tries groups
    chosen = np.zeros(len(weight), np.int64)
    if compensate:
        rounded, chosen = _round(weight, scales, size, limits, h, sensitivity)
    else:
        scale = np.repeat(scales[:, 0], size, axis=1)[:, :columns]
        rounded = np.clip(np.rint(weight * scale), *limits)
    pick = (np.arange(len(weight)), chosen)
    of_groups = fractions[pick]
    finest = of_groups.max(axis=1)
    integers = rounded.astype(np.int64)
    if size == columns:
        return RoundedRows(integers, finest, tried[pick])
    return RoundedRows(integers, finest, tried[pick], finest[:, None] - of_groups, size)


def round_groups(
    weight: Array,
    limits: tuple[int, int],
    moments: Array | None,
    *,
    group: int,
    power_of_two: bool = False,
    sensitivity: Array | None = None,
) -> RoundedRows:
    """Round ``weight`` with a scale for every ``group`` columns of a row: only to be simulated.

    The array of the hardware adds products of one scale a row. Here an integer times its scale is
    itself written as an integer, wider than ``limits``, with one exponent a row, so that golden
    computes what such an array would.

    Parameters
    ----------
    group : columns that share a scale; all of them if it does not divide their number
    power_of_two : scales are powers of two, else real to 11 bits
    """
    weight, h = _normalised(weight, moments)
    rows, columns = weight.shape
    group = group if columns % group == 0 else columns
    parts = weight.reshape(rows, -1, group)
    felt = np.diag(h).reshape(-1, group)
    peak = np.maximum(np.abs(parts).max(axis=2), np.finfo(float).tiny)  # rows groups
    best, least = peak, np.full(peak.shape, np.inf)
    for shrink in np.exp2(np.arange(0.0, 2.0, 0.125)):
        scale = limits[1] * shrink / peak
        if power_of_two:
            scale = np.exp2(np.floor(np.log2(scale)))
        made = np.clip(np.rint(parts * scale[..., None]), *limits) / scale[..., None]
        error = (np.square(made - parts) * felt).sum(axis=2)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    rounded, _ = _round(weight, best[:, None], group, limits, h, sensitivity)
    # The step of the finest group of a row has 11 bits, the others more.
    fraction = np.ceil(np.log2(best.max(axis=1))).astype(np.int64) + 11
    steps = np.rint(np.ldexp(1.0 / best, fraction[:, None]))
    wide = rounded * np.repeat(steps, group, axis=1)
    return RoundedRows(wide.astype(np.int64), fraction, np.ones(rows))
