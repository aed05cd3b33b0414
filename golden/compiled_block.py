"""What compiled blocks of every family are made of: weights, norms, and the way through a block.

:mod:`golden.compiled` adds what is a family's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from golden import kernels
from golden.fixed_point import Integers, integer_range
from golden.layer import Block, BlockShifts
from golden.lookup import Lookup, dual_scale_lookup, power_of_two, silu_lookup, stacked
from golden.operations import hadamard
from golden.operations.linear import accumulator_bound
from golden.operations.normalization import epsilon_integer
from golden.program import Program

Array = npt.NDArray[Any]

_FLOAT32_EXACT = 1 << 24


def columns(weight: Integers, input_bits: int) -> Array:
    """Return ``weight.T`` in the narrowest type whose products with any input are exact.

    Every partial sum, in whatever order BLAS takes them, is at most the accumulator's bound.
    """
    exact32 = accumulator_bound(weight, input_bits) < _FLOAT32_EXACT
    return np.ascontiguousarray(weight.T, dtype=np.float32 if exact32 else np.float64)


def limit(bits: int) -> float:
    """Return the largest signed integer of ``bits``."""
    return float(integer_range(bits)[1])


class Normalization:
    """RMSNorm with one weight, over rows or over equal groups of their channels.

    Parameters
    ----------
    weight : (channels,)
    groups : normalised apart
    fraction : fraction bits of the input
    shift, bits : of the result
    """

    def __init__(
        self, program: Program, weight: Integers, shift: int, fraction: int, bits: int, groups: int
    ) -> None:
        self._weight = weight.astype(float).reshape(groups, -1)
        self._epsilon = epsilon_integer(self._weight.shape[1], fraction)
        self._scale = 2.0**-shift
        self._limit = limit(bits)
        self._table = program.tables.reciprocal

    def apply(self, values: Array) -> Array:
        """Return the norm of ``values`` (p, channels), which products take as float32."""
        out = np.empty(values.shape, np.float32)
        size = self._weight.shape[1]
        for group, weight in enumerate(self._weight):
            own = slice(group * size, (group + 1) * size)
            kernels.normalize(
                values[:, own],
                weight,
                self._epsilon,
                self._scale,
                self._limit,
                self._table.base,
                self._table.slope,
                out[:, own],
            )
        return out


def residual_norm(program: Program, weight: Integers, shift: int, bits: int) -> Normalization:
    """Return the norm of the residual stream with ``weight`` (d,)."""
    return Normalization(program, weight, shift, program.residual_fraction, bits, 1)


def _u_look_up(
    program: Program, index: int, shifts: BlockShifts
) -> tuple[Array, npt.NDArray[np.int32]]:
    """Return SiLU's tables with the requantizer to u behind, and each channel's one."""
    table, zero = program.tables.silu, program.layers[index].formats.u_zero
    if program.shape.heads:
        return stacked(lambda shift: silu_lookup(table, shift, program.u_bits), shifts.u)
    bits = program.projection_bits(index)
    formats = (shifts.u,) if zero is None else (shifts.u, zero)
    return stacked(lambda *own: silu_lookup(table, own[0], bits, *own[1:]), *formats)


class CompiledBlock(ABC):
    """What all kinds of block have: weights in floating point and the constants of kernels."""

    def __init__(self, program: Program, index: int, block: Block, shifts: BlockShifts) -> None:
        shape, scheme, tables = program.shape, program.scheme, program.tables
        inputs = program.projection_bits(index)
        self._shape = shape
        self._norm = residual_norm(program, block.norm_weight, shifts.norm, inputs)
        self._in_proj = columns(block.in_proj.integers, inputs)
        self._out_proj = columns(block.out_proj.integers, inputs)
        u_look_up = _u_look_up(program, index, shifts)
        dual = scheme.dual_scale

        def scan_input(shift: int) -> Lookup:
            if dual is None:
                return silu_lookup(tables.silu, shift, scheme.scan_input_bits)
            return dual_scale_lookup(tables.silu, shift, dual)

        scan_look_up = u_look_up
        if program.separate_scan_input:
            # B and C are channels of u with heads; what they would be as scan input nobody reads.
            scan_look_up = stacked(scan_input, np.resize(shifts.scan_u, shape.convolution_channels))
        self._look_ups = (*u_look_up, *scan_look_up)
        self._out = (power_of_two(shifts.out), limit(scheme.residual_bits))
        self._gated_norm: Normalization | None = None
        self._rotation = None
        if shifts.rotated is not None:
            order, _ = hadamard.factors(shape.d_inner)
            matrix = hadamard.block_matrix(order).astype(float)
            self._rotation = (matrix, power_of_two(shifts.rotated), limit(inputs))

    def advance(self, residual: Array, window: Integers, state: Integers) -> None:
        """Run the block on ``residual`` (b t, d), which it changes in place, as the state is."""
        kernels.add(residual, self.mix(residual, window, state) @ self._out_proj, *self._out)

    def mix(self, residual: Array, window: Integers, state: Integers) -> Array:
        """Return out_proj's input (b t, e) and advance the state."""
        norm = self._norm.apply(residual)
        total = (norm @ self._in_proj).reshape(len(state), -1, self._shape.in_projected)  # b t rows
        gated = self._gated(total, window, state).reshape(-1, self._shape.d_inner)  # (b t) e
        if self._gated_norm is not None:
            gated = self._gated_norm.apply(gated)
        if self._rotation is not None:
            kernels.rotate(gated, *self._rotation)
        return gated

    @abstractmethod
    def _gated(self, total: Array, window: Integers, state: Integers) -> Array:
        """Return the gated values (b, t, e) of in_proj's accumulators and advance the state."""
