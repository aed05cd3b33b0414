"""The Hadamard transform in exact integers: additions only, no product and no rounding (Q10).

A Hadamard matrix ``H`` of order n has entries +1 and -1 and satisfies ``H H^T = H^T H = n I``. The
transform of orders ``m 2**k`` is the Kronecker product of Sylvester's matrix of order ``2**k`` and
a block of order m: 1, 12 or 20. The blocks are Paley's (1933, construction I), for the primes 11
and 19. Orders ``40 2**k`` are ``20 2**(k+1)``: Sylvester's doubling of the block of 20 is a matrix
of order 40.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from golden.errors import InputError
from golden.fixed_point import IntegerLike, Integers

BLOCK_ORDERS = (1, 12, 20)
"""Orders m of the blocks; every block of 12 or 20 is Paley's for the prime ``m - 1``."""


def factors(order: int) -> tuple[int, int]:
    """Return ``(m, k)`` with ``order = m 2**k`` and m one of :data:`BLOCK_ORDERS`.

    Raises
    ------
    InputError
        If there is no transform of that order.
    """
    for block in BLOCK_ORDERS:
        power, rest = divmod(order, block)
        if rest == 0 and power > 0 and power & (power - 1) == 0:
            return block, power.bit_length() - 1
    raise InputError(
        f"there is no Hadamard transform of order {order}; "
        "rotate a d_inner of 2^k, 12 2^k, 20 2^k or 40 2^k, or take a scheme without rotation"
    )


def growth(order: int) -> int:
    """Return by how many bits a transformed value is wider than the elements: ``ceil(log2 n)``.

    The sum of n two's-complement numbers of b bits needs no more, as every row has a +1.
    """
    return (order - 1).bit_length()


@cache
def block_matrix(block: int) -> Integers:
    """Return the block of order m, (m, m).

    Paley: ``[[1, 1 ... 1], [-1 ..., Q + I]]`` with the quadratic character
    ``Q[i, j] = chi(i - j)`` of the field of ``m - 1`` elements, a prime that leaves 3 modulo 4.
    """
    if block == 1:
        return np.ones((1, 1), np.int64)
    prime = block - 1
    squares = np.unique(np.arange(1, prime) ** 2 % prime)
    difference = np.subtract.outer(np.arange(prime), np.arange(prime)) % prime
    character = np.where(np.isin(difference, squares), 1, -1)
    np.fill_diagonal(character, 1)  # Q is 0 there, the identity adds 1
    matrix = np.ones((block, block), np.int64)
    matrix[1:, 0] = -1
    matrix[1:, 1:] = character
    matrix.flags.writeable = False
    return matrix


def transform(values: IntegerLike) -> Integers:
    """Return ``H x`` of the vectors on the last axis, (..., n); exact, :func:`growth` bits wider.

    The matrix of element ``i m + a`` is Sylvester's over i, in natural order, and the block over
    a. Since ``H^T H = n I``, a matrix product is kept if its rows are transformed and divided by
    n: ``W x = (transform(W) / n) (H x)``.

    Raises
    ------
    InputError
        If there is no transform of that order.
    """
    data = np.asarray(values, dtype=np.int64)
    order = data.shape[-1]
    block, doublings = factors(order)
    blocks = data.reshape(-1, block) @ block_matrix(block).T
    for stage in range(doublings):
        pairs = blocks.reshape(-1, 2, block << stage)
        blocks = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
    return blocks.reshape(data.shape)
