"""The exponential moving average in integers, and the sigmoid that weighs its input.

``s = lambda s + (1 - lambda) v`` with ``lambda = sigmoid(argument)``. Both products have the same
scale, so that their sum is ``v + lambda (s - v)``: one multiplication and one rounding. The average
of values of a format stays within the format, so that nothing saturates.
"""

from __future__ import annotations

import numpy as np

from golden.fixed_point import IntegerLike, Integers, requantize, round_half_even_shift
from golden.operations.activation import even_correction
from golden.piecewise import ACTIVATION_OUTPUT_FRACTION, LinearTable


def sigmoid(x: IntegerLike, table: LinearTable) -> Integers:
    """Return ``1 / (1 + exp(-x))`` for inputs with 12 fraction bits, with 23 fraction bits.

    ``table`` holds ``sigmoid(-|x|)``, which is even; the other half is one less that.
    """
    data = np.asarray(x, dtype=np.int64)
    low = even_correction(data, table)
    return np.where(data < 0, low, (1 << ACTIVATION_OUTPUT_FRACTION) - low)


def average_decay(argument: IntegerLike, table: LinearTable, decay_bits: int) -> Integers:
    """Return lambda with ``decay_bits`` fraction bits, in ``0..2**decay_bits``."""
    shift = ACTIVATION_OUTPUT_FRACTION - decay_bits
    return requantize(sigmoid(argument, table), shift, decay_bits + 1, signed=False)


def average_step(state: Integers, decay: Integers, v: Integers, decay_bits: int) -> Integers:
    """Return the new average (..., e) of ``v`` (..., e), which has the state's scale."""
    total = (v << decay_bits) + decay * (state - v)
    return round_half_even_shift(total, decay_bits)


def moving_average(
    state: Integers, decay: Integers, v: Integers, decay_bits: int
) -> tuple[Integers, Integers]:
    """Return the averages (b, l, e) of a sequence and the last one (b, e).

    Shapes: state (b, e), decay and v (b, l, e).
    """
    averages = np.empty_like(v)
    for t in range(v.shape[1]):
        averages[:, t] = state = average_step(state, decay[:, t], v[:, t], decay_bits)
    return averages, state
