"""Matrix-vector products with INT4 or INT8 weights, and the causal depthwise convolution."""

from __future__ import annotations

import numpy as np

from golden.fixed_point import IntegerLike, Integers

_FLOAT32_EXACT = 1 << 24
_FLOAT64_EXACT = 1 << 53


def accumulator_bound(weight: Integers, input_bits: int, bias: Integers | None = None) -> int:
    """Return the largest magnitude a row's sum can reach for any ``input_bits`` signed input."""
    bound = np.abs(weight).sum(axis=-1) << (input_bits - 1)
    if bias is not None:
        bound = bound + np.abs(bias)
    return int(bound.max(initial=0))


def accumulate(weight: Integers, x: IntegerLike) -> Integers:
    """Return ``x @ weight.T`` exactly: weight (rows, columns), x (..., columns).

    Floating-point matrix products are exact while every partial sum is below the mantissa, and
    run many times faster than integer ones; the bound is checked on the operands at hand.
    """
    data = np.asarray(x, dtype=np.int64)
    largest = int(np.abs(data).max(initial=0))
    bound = int(np.abs(weight).sum(axis=-1).max(initial=0)) * largest
    if bound < _FLOAT32_EXACT:
        return (data.astype(np.float32) @ weight.T.astype(np.float32)).astype(np.int64)
    if bound < _FLOAT64_EXACT:
        return (data.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64)
    return np.asarray(data @ weight.T, dtype=np.int64)


def centred_convolution(x: IntegerLike, weight: Integers, bias: Integers) -> Integers:
    """Return the accumulators (b, l, e) of the depthwise convolution that looks both ways.

    Equal to the causal one (K - 1) / 2 tokens later; beyond either end x is zero.

    Parameters
    ----------
    x : whole sequences, (b, l, e)
    weight : oldest tap first, (e, K), K odd
    bias : in the accumulator's scale, (e,)
    """
    data, half = np.asarray(x, dtype=np.int64), weight.shape[1] // 2
    edge = np.zeros((len(data), half, data.shape[2]), np.int64)
    ahead = np.concatenate([data, edge], axis=1)
    return causal_convolution(edge, ahead, weight, bias)[0]


def causal_convolution(
    window: Integers, x: IntegerLike, weight: Integers, bias: Integers
) -> tuple[Integers, Integers]:
    """Return the depthwise convolution's accumulators and the next window.

    Parameters
    ----------
    window : the K - 1 inputs before the sequence, oldest first, (b, K - 1, e)
    x : (b, l, e)
    weight : oldest tap first as in ``conv1d.weight``, (e, K)
    bias : in the accumulator's scale, (e,)
    """
    taps = weight.shape[1]
    padded = np.concatenate([window, np.asarray(x, dtype=np.int64)], axis=1)  # b (K-1+l) e
    length = padded.shape[1] - (taps - 1)
    total = np.broadcast_to(bias, (padded.shape[0], length, len(bias))).copy()  # b l e
    for tap in range(taps):
        total += padded[:, tap : tap + length] * weight[:, tap]
    return total, padded[:, length:]
