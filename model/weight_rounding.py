"""Rounding of weight matrices to power-of-two row formats with compensation of the error.

The error that counts is that of the product: ``tr(E H E^T)`` with ``E = Q - W`` and the inputs'
second moments ``H = X^T X``. GPTQ (Frantar et al. 2023) rounds column by column and lets the later
columns make up for the error; coordinate descent then revisits every column until the row settles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.fixed_point import Integers, fraction_bits_for

__all__ = ["RoundedRows", "refit", "round_rows"]

Array = npt.NDArray[Any]

_DAMPING = 0.01
"""Share of the mean diagonal added to H (GPTQ's percdamp)."""
_SWEEPS = 4
_FRACTION_LIMITS = (-6, 18)
"""Row exponents outside would leave the hardware's requantizing shifts."""


@dataclass(frozen=True)
class RoundedRows:
    """A rounded matrix: weight (rows, columns), fraction_bits (rows,), error (rows,)."""

    weight: Integers
    fraction_bits: Integers
    error: Array

    @property
    def real(self) -> Array:
        """The matrix that the integers stand for."""
        return np.ldexp(self.weight.astype(np.float64), -self.fraction_bits[:, None])


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


def _compensated(weight: Array, scale: Array, low: int, high: int, inverse: Array) -> Array:
    """GPTQ: round column by column; ``inverse`` is the upper Cholesky factor of the inverse of H.

    ``weight`` (rows, columns) in the order of processing, ``scale`` (rows,); returns integers.
    """
    rest = weight.copy()
    rounded = np.empty_like(rest)
    for column in range(rest.shape[1]):
        own = rest[:, column]
        rounded[:, column] = np.clip(np.rint(own * scale), low, high)
        step = (own - rounded[:, column] / scale) / inverse[column, column]
        rest[:, column + 1 :] -= np.outer(step, inverse[column, column + 1 :])
    return rounded


def _descend(
    rounded: Array, weight: Array, scale: Array, low: int, high: int, moments: Array
) -> Array:
    """Coordinate descent on the integers: each column takes its best value given the others."""
    slope = (rounded / scale[:, None] - weight) @ moments  # rows columns
    diagonal = np.diag(moments)
    for _ in range(_SWEEPS):
        changed = False
        for column in range(weight.shape[1]):
            own = rounded[:, column]
            wanted = own - slope[:, column] * scale / diagonal[column]
            new = np.clip(np.rint(wanted), low, high)
            moved = new != own
            if moved.any():
                changed = True
                change = (new - own)[moved] / scale[moved]
                slope[moved] += change[:, None] * moments[column]
                rounded[:, column] = new
        if not changed:
            break
    return rounded


def round_rows(
    weight: Array,
    limits: tuple[int, int],
    moments: Array | None = None,
    *,
    compensate: bool = True,
) -> RoundedRows:
    """Round ``weight`` (rows, columns); each row takes the exponent of least product error.

    Parameters
    ----------
    limits : least and largest integer
    moments : ``H``, (columns, columns); None stands for the identity
    compensate : GPTQ and coordinate descent, else round to nearest
    """
    low, high = limits
    bits = high.bit_length() + 1
    h = damped(np.eye(weight.shape[1]) if moments is None else moments)
    h = h / (np.trace(h) / len(h))
    order = np.argsort(-np.diag(h), kind="stable")
    ordered = h[np.ix_(order, order)]
    inverse = np.linalg.cholesky(np.linalg.inv(ordered)).T
    first = fraction_bits_for(np.abs(weight).max(axis=1), bits)
    best: RoundedRows | None = None
    for extra in range(3 if bits <= 5 else 2):
        fraction = np.clip(first + extra, *_FRACTION_LIMITS)
        scale = np.ldexp(1.0, fraction)
        if compensate:
            integers = np.empty_like(weight)
            integers[:, order] = _compensated(weight[:, order], scale, low, high, inverse)
            integers = _descend(integers, weight, scale, low, high, h)
        else:
            integers = np.clip(np.rint(weight * scale[:, None]), low, high)
        difference = integers / scale[:, None] - weight
        error = ((difference @ h) * difference).sum(axis=1)  # rows
        if best is None:
            best = RoundedRows(integers.astype(np.int64), fraction, error)
            continue
        better = error < best.error
        best = RoundedRows(
            np.where(better[:, None], integers.astype(np.int64), best.weight),
            np.where(better, fraction, best.fraction_bits),
            np.where(better, error, best.error),
        )
    assert best is not None
    return best
