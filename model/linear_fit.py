"""Fits a matrix and its bias to what the integer network really feeds it, then rounds both."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from golden.fixed_point import to_fixed_point
from golden.layer import Linear
from model.layer_quantization import WeightChoice
from model.weight_rounding import refit, round_rows

__all__ = ["BIAS_BITS", "fit_biased", "fit_linear"]

Array = npt.NDArray[Any]

BIAS_BITS = 31
"""One less than the accumulator, so that products and bias together keep its width."""


def _flat(values: Array) -> Array:
    return values.reshape(-1, values.shape[-1])


def fit_linear(
    weight: Array, inputs: Array, wanted: Array, limits: tuple[int, int], choice: WeightChoice
) -> Linear:
    """Return the rounded matrix (rows, columns) that maps inputs to wanted (..., rows)."""
    x = _flat(inputs)
    moments = x.T @ x
    if choice.refit_strength is not None:
        weight = refit(weight, moments, x.T @ _flat(wanted), choice.refit_strength)
    rounded = round_rows(weight, limits, moments, compensate=choice.compensate)
    return Linear(weight=rounded.weight, fraction_bits=rounded.fraction_bits)


def fit_biased(
    weight: Array,
    inputs: Array,
    wanted: Array,
    limits: tuple[int, int],
    fraction: int,
    choice: WeightChoice,
) -> Linear:
    """Return the rounded matrix and the bias that map inputs to wanted (..., rows).

    Parameters
    ----------
    inputs : in real numbers
    limits : least and largest weight
    fraction : their fraction bits, which set the bias's scale
    """
    x, target = _flat(inputs), _flat(wanted)
    mean, centre = x.mean(axis=0), target.mean(axis=0)
    linear = fit_linear(weight, x - mean, target - centre, limits, choice)
    real = np.ldexp(linear.weight.astype(float), -linear.fraction_bits[:, None])
    bias = centre - real @ mean
    integers = to_fixed_point(bias, linear.fraction_bits + fraction, BIAS_BITS)
    return Linear(weight=linear.weight, fraction_bits=linear.fraction_bits, bias=integers)
