"""Whole-domain tables of the non-linear units, composed with the requantizer that follows them.

A unit of 18 or 16 input bits is a pure function of that many values, so the compiled executor
looks its requantized result up. The entries come from :mod:`golden.operations`: the same integers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from golden.fixed_point import (
    IntegerLike,
    Integers,
    offset_range,
    requantize,
    round_half_even_shift,
)
from golden.operations import dual_scale
from golden.operations.activation import silu, softplus
from golden.operations.exponent import decay
from golden.operations.moving_average import average_decay
from golden.piecewise import ACTIVATION_INPUT_BITS, EXPONENT_BITS, LinearTable
from golden.scheme import DualScale

Lookup = npt.NDArray[np.float32]
"""Integers below ``2**24``, which float32 holds exactly, ready for floating-point products."""

ACTIVATION_ORIGIN = 1 << (ACTIVATION_INPUT_BITS - 1)
"""Entry that holds the function of zero."""


@lru_cache(maxsize=256)
def _cached(
    build: Callable[..., Integers], base: bytes, slope: bytes, *arguments: object
) -> Lookup:
    table = LinearTable(np.frombuffer(base, np.int64), np.frombuffer(slope, np.int64))
    lookup = build(table, *arguments).astype(np.float32)
    lookup.flags.writeable = False
    return lookup


def _look_up(build: Callable[..., Integers], table: LinearTable, *arguments: object) -> Lookup:
    """Share one table between all layers and programs that need the same integers."""
    return _cached(build, table.base.tobytes(), table.slope.tobytes(), *arguments)


def _inputs() -> Integers:
    return np.arange(-ACTIVATION_ORIGIN, ACTIVATION_ORIGIN, dtype=np.int64)


def _silu(table: LinearTable, shift: int, bits: int, zero: int) -> Integers:
    rounded = round_half_even_shift(silu(_inputs(), table), shift)
    return np.clip(rounded, *offset_range(bits, zero))


def _softplus(table: LinearTable, shift: int, bits: int) -> Integers:
    return requantize(softplus(_inputs(), table), shift, bits, signed=False)


def _dual_scale(table: LinearTable, shift: int, dual: DualScale) -> Integers:
    return dual_scale.decode(*dual_scale.encode(silu(_inputs(), table), shift, dual), dual)


def _decay(table: LinearTable, decay_bits: int) -> Integers:
    return decay(np.arange(1 << EXPONENT_BITS), table, decay_bits)


def _average_decay(table: LinearTable, decay_bits: int) -> Integers:
    return average_decay(_inputs(), table, decay_bits)


def silu_lookup(table: LinearTable, shift: int, bits: int, zero: int | None = None) -> Lookup:
    """Return the requantized SiLU of every 18-bit input, most negative first, (2**18,).

    With a zero point the results are those of unsigned codes of ``bits``, less it.
    """
    return _look_up(_silu, table, shift, bits, 1 << (bits - 1) if zero is None else zero)


def softplus_lookup(table: LinearTable, shift: int, bits: int) -> Lookup:
    """Return the requantized, unsigned softplus of every 18-bit input, (2**18,)."""
    return _look_up(_softplus, table, shift, bits)


def dual_scale_lookup(table: LinearTable, shift: int, dual: DualScale) -> Lookup:
    """Return SiLU stored by dual scale and dequantized again, for every 18-bit input, (2**18,)."""
    return _look_up(_dual_scale, table, shift, dual)


def decay_lookup(table: LinearTable, decay_bits: int) -> Lookup:
    """Return ``2**-argument`` with ``decay_bits`` fraction bits of every argument, (2**16,)."""
    return _look_up(_decay, table, decay_bits)


def average_decay_lookup(table: LinearTable, decay_bits: int) -> Lookup:
    """Return the sigmoid with ``decay_bits`` fraction bits of every 18-bit input, (2**18,)."""
    return _look_up(_average_decay, table, decay_bits)


def stacked(
    look_up: Callable[..., Lookup], *formats: Integers
) -> tuple[Lookup, npt.NDArray[np.int32]]:
    """Return the tables of the formats that occur, (s, 2**18), and each channel's number, (e,).

    ``formats`` are shifts (e,), and whatever else ``look_up`` takes of each channel.
    """
    distinct, which = np.unique(np.stack(formats), axis=1, return_inverse=True)
    tables = [look_up(*map(int, column)) for column in distinct.T]
    return np.stack(tables), which.reshape(-1).astype(np.int32)


def power_of_two(shift: IntegerLike) -> npt.NDArray[np.float64]:
    """Return ``2**-shift``: multiplying by it drops bits exactly, for a rounding to follow."""
    return np.ldexp(1.0, -np.asarray(shift, dtype=np.int64))
