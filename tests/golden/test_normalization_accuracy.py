"""Golden rms_norm against the exact RMSNorm of the same integers."""

import math
from fractions import Fraction

import numpy as np
import pytest

from golden.fixed_point import fraction_bits_for, integer_range, to_fixed_point
from golden.operations.normalization import epsilon_integer, reciprocal_root, rms_norm
from golden.piecewise import reciprocal_table

RESIDUAL_FRACTION = 12
RESIDUAL_BITS = 18
TABLE = reciprocal_table()
ROOT_ERROR = 2.0**-16.5  # rounded mantissa, table and rounded root; measured 2**-16.57


def exact_norm(residual, weight, epsilon, shift):
    """Return the unrounded, unclipped output of every element, (rows, d).

    The sum of squares is an exact integer. float64 then adds relative errors of 1e-15, which is
    1e-12 of a last place for the largest outputs.
    """
    total = (residual * residual).sum(axis=-1, keepdims=True) + epsilon
    return np.ldexp(residual * weight / np.sqrt(total.astype(np.float64)), 17 - shift)


def exact_norm_of_one(value, weight, total, shift):
    """Return one output from integers alone, to 2**-40 of a last place."""
    square = Fraction(value * weight) ** 2 * Fraction(4) ** (17 - shift) / total
    root = Fraction(math.isqrt(int(square * Fraction(4) ** 40)), 1 << 40)
    return root if value * weight >= 0 else -root


def residuals(d_model, random):
    """Return rows of every magnitude, and the extremes."""
    low, high = integer_range(RESIDUAL_BITS)
    scales = np.exp2(random.uniform(-2, RESIDUAL_BITS - 3, (200, 1)))
    ordinary = random.normal(0.0, 1.0, (200, d_model)) * scales
    heavy = random.standard_t(2, (100, d_model)) * scales[:100]
    rows = np.clip(np.rint(np.concatenate([ordinary, heavy])), low, high).astype(np.int64)
    edges = np.zeros((10, d_model), np.int64)
    edges[1, 0], edges[2, -1], edges[3, 1], edges[4, 2] = low, high, 1, -1
    edges[5], edges[6], edges[7], edges[8] = low, high, 1, -1
    edges[9] = np.where(np.arange(d_model) % 2, low, high)
    # Sums of squares just beside a power of four, where the mantissa's exponent changes.
    steps = np.zeros((40, d_model), np.int64)
    steps[:, 0] = [(1 << power) + offset for power in range(2, 17, 2) for offset in range(-2, 3)]
    return np.concatenate([rows, edges, steps])


def deviation(d_model, bits):
    """Return the largest distance from the exact output in last places, and its bound.

    Half a last place is the final rounding's. The normalised element is rounded at 2**-18, which
    the weight enlarges; the root's relative error is that of the output, at most 2**(bits - 1).
    """
    random = np.random.default_rng(d_model)
    weight_real = math.sqrt(d_model) * random.uniform(0.2, 1.8, d_model)
    weight_fraction = int(fraction_bits_for(weight_real.max(), 16))
    weight = to_fixed_point(weight_real, weight_fraction, 16)
    epsilon = epsilon_integer(d_model, RESIDUAL_FRACTION)
    rows = residuals(d_model, random)
    # Output formats from one that holds every value to one that clips many.
    output_fractions = (bits - 7, bits - 4, bits - 3, bits - 2)
    worst = 0.0
    for output_fraction in output_fractions:
        shift = 17 + weight_fraction - output_fraction
        result = rms_norm(rows, weight, epsilon=epsilon, shift=shift, bits=bits, table=TABLE)
        exact = np.clip(exact_norm(rows, weight, epsilon, shift), *integer_range(bits))
        worst = max(worst, float(np.abs(result - exact).max()))
    largest_weight = weight_real.max() * 2.0 ** output_fractions[-1]
    return worst, 0.5 + largest_weight * 2.0**-18 + 2.0 ** (bits - 1) * ROOT_ERROR


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("d_model", [16, 20, 128, 768])
def test_within_one_last_place(d_model, bits):
    worst, bound = deviation(d_model, bits)
    print(f"D = {d_model}, {bits} bits: {worst:.4f} of {bound:.4f} last places")  # noqa: T201
    assert worst <= bound <= 1.0


def test_relative_error_of_the_root():
    """Every total of up to 20 bits, so every mantissa, and random ones beyond."""
    wide = np.random.default_rng(0).integers(1 << 20, 1 << 50, 1 << 18)
    total = np.concatenate([np.arange(1, 1 << 20), wide])
    root, half_exponent = reciprocal_root(total, TABLE)
    value = np.ldexp(root.astype(np.float64), -17 - half_exponent)
    assert np.abs(value * np.sqrt(total.astype(np.float64)) - 1.0).max() < ROOT_ERROR


def test_exact_in_float64_agrees_with_fractions():
    random = np.random.default_rng(1)
    rows = residuals(20, random)[::7]
    weight = random.integers(-30000, 30000, 20)
    epsilon = epsilon_integer(20, RESIDUAL_FRACTION)
    real = exact_norm(rows, weight, epsilon, 24)
    for row, outputs in zip(rows.tolist(), real.tolist(), strict=True):
        total = sum(value * value for value in row) + epsilon
        for value, factor, output in zip(row, weight.tolist(), outputs, strict=True):
            assert abs(Fraction(output) - exact_norm_of_one(value, factor, total, 24)) < 1e-9
