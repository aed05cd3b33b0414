"""Non-linear units over their whole input domain, against SciPy in float64."""

import numpy as np
import pytest
from scipy.special import expit

from golden import accuracy
from golden.fixed_point import requantize, to_real
from golden.operations.activation import silu, softplus
from golden.operations.exponent import decay, exponent_argument
from golden.operations.normalization import reciprocal_root
from golden.piecewise import (
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    MANTISSA_BITS,
)
from golden.random_program import standard_tables

TABLES = standard_tables()
INPUTS = accuracy.activation_inputs()
REAL_INPUTS = to_real(INPUTS, ACTIVATION_INPUT_FRACTION)


@pytest.mark.parametrize(
    ("unit", "table", "judge"),
    [
        (silu, TABLES.silu, lambda x: x * expit(x)),
        (softplus, TABLES.softplus, lambda x: np.logaddexp(0.0, x)),
    ],
)
def test_activation_error_on_all_inputs(unit, table, judge):
    result = unit(INPUTS, table)
    exact = judge(REAL_INPUTS)
    assert np.abs(to_real(result, ACTIVATION_OUTPUT_FRACTION) - exact).max() <= 2e-4
    # The bound holds with the rounding to the input's own 12 fraction bits counted in.
    narrow = to_real(requantize(result, ACTIVATION_OUTPUT_FRACTION - 12, 18), 12)
    assert np.abs(narrow - exact).max() <= 2e-4


def test_softplus_is_never_negative_and_monotonic_to_its_error():
    result = softplus(INPUTS, TABLES.softplus)
    assert result.min() >= 0
    assert np.diff(result).min() >= -round(2 * 2.2e-5 * 2**ACTIVATION_OUTPUT_FRACTION)


def test_tails_are_exact_from_sixteen_on():
    beyond = np.abs(INPUTS) >= 16 << ACTIVATION_INPUT_FRACTION
    rectified = np.maximum(INPUTS, 0)[beyond] << 11
    assert np.array_equal(silu(INPUTS, TABLES.silu)[beyond], rectified)
    assert np.array_equal(softplus(INPUTS, TABLES.softplus)[beyond], rectified)


@pytest.mark.parametrize("decay_bits", [4, 6, 8, 10, 12, 14, 16])
def test_decay_error_on_all_arguments(decay_bits):
    argument = np.arange(1 << EXPONENT_BITS)
    result = decay(argument, TABLES.exponent, decay_bits)
    exact = np.exp2(-to_real(argument, EXPONENT_FRACTION))
    half_step = 0.0 if decay_bits == 16 else 0.5 ** (decay_bits + 1)
    assert np.abs(to_real(result, decay_bits) - exact).max() <= 1.2e-4 + half_step
    # No decay stays no decay, but for the widest format, where it is 2 steps below one.
    assert result[0] == (1 << decay_bits) - (2 if decay_bits == 16 else 0)
    assert 0 <= result.min() <= result.max() <= 1 << decay_bits
    assert np.diff(result).max() <= 0


def test_exponent_argument_saturates():
    assert exponent_argument(4095, 1023, 0) == (1 << EXPONENT_BITS) - 1
    assert exponent_argument(3, 1, 1) == 2  # one and a half to the even neighbour


def totals() -> np.ndarray:
    dense = np.arange(1, 1 << MANTISSA_BITS)
    powers = np.int64(1) << np.arange(62)
    edges = np.concatenate([powers, powers - 1, powers + 1, 3 * (powers >> 2)])
    return np.concatenate([dense, edges[edges > 0]])


def test_reciprocal_root_error_on_dense_and_edge_totals():
    data = totals()
    root, half_exponent = reciprocal_root(data, TABLES.reciprocal)
    exact = [1.0 / float(np.sqrt(np.longdouble(int(total)))) for total in data]
    relative = np.ldexp(root.astype(float), -17 - half_exponent) / exact - 1.0
    assert np.abs(relative).max() <= 0.5**16
    assert (root > 1 << 15).all()
    assert (root <= 1 << 17).all()


def test_every_measurement_is_within_its_bound():
    for row in accuracy.measure():
        assert row.error <= row.bound, row
