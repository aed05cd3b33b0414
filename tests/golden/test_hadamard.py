"""The Hadamard transform against matrices from elsewhere, and its place in the program."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from golden.errors import InputError
from golden.fixed_point import bits_for, integer_range
from golden.operations.hadamard import BLOCK_ORDERS, block_matrix, factors, growth, transform

ORDERS = sorted({block << power for block in (1, 12, 20, 40) for power in range(5)})


def matrix(order: int) -> np.ndarray:
    """Column by column: what the transform makes of the unit vectors."""
    return transform(np.eye(order, dtype=np.int64)).T


@pytest.mark.parametrize("power", range(10))
def test_powers_of_two_are_sylvesters_matrices(power):
    assert np.array_equal(matrix(1 << power), hadamard(1 << power))


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_a_hadamard_matrix(order):
    found = matrix(order)
    assert set(np.unique(found)) <= {-1, 1}
    assert np.array_equal(found @ found.T, order * np.eye(order))
    assert np.array_equal(found.T @ found, order * np.eye(order))


@pytest.mark.parametrize("order", ORDERS)
def test_the_matrix_is_sylvesters_over_the_block(order):
    block, doublings = factors(order)
    assert np.array_equal(matrix(order), np.kron(hadamard(1 << doublings), block_matrix(block)))


@pytest.mark.parametrize("block", BLOCK_ORDERS)
def test_every_row_of_a_block_begins_the_width_proof_with_a_plus(block):
    assert (block_matrix(block) == 1).any(axis=1).all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [4, 12])
def test_the_growth_is_enough_and_needed(order, bits):
    signs = matrix(order)
    low, high = integer_range(bits)
    largest = transform(np.where(signs > 0, high, low))
    smallest = transform(np.where(signs > 0, low, high))
    assert bits_for(np.stack([largest, smallest])) == bits + growth(order)


@given(st.sampled_from(ORDERS), st.integers(1, 4), st.integers(0, 1 << 20))
def test_a_product_with_transformed_rows_is_the_product(order, rows, seed):
    random = np.random.default_rng(seed)
    weight = random.integers(-128, 128, (rows, order))
    x = random.integers(-2048, 2048, (3, order))
    assert np.array_equal(transform(x) @ transform(weight).T, order * (x @ weight.T))


@pytest.mark.parametrize("order", [0, -4, 3, 6, 10, 28, 36, 44, 100, 1000, 1537])
def test_other_orders_are_refused_in_one_line(order):
    with pytest.raises(InputError, match=rf"no Hadamard transform of order {order}; rotate a"):
        factors(order)
