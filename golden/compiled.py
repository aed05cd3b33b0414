"""The fast realisation of a program: matrix products by BLAS, everything between them compiled.

Equal to :class:`golden.reference.ReferenceExecutor` in every integer; see :mod:`golden.kernels`
for why floating point carries the integers exactly.
"""

from __future__ import annotations

import numpy as np

from golden import kernels, mixer_kernels
from golden.compiled_block import Array, CompiledBlock, Normalization, columns, limit, residual_norm
from golden.fixed_point import Integers
from golden.layer import Layer, LayerShifts
from golden.lookup import (
    average_decay_lookup,
    decay_lookup,
    power_of_two,
    silu_lookup,
    softplus_lookup,
)
from golden.mlp import GatedMLP, MLPShifts
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from golden.state import State

POSITIONS = 512
"""Tokens, over all rows of a batch, that are computed at once: their tensors fit the cache."""


def _by_group(rate: Integers, groups: int) -> Array:
    """Return rates (e, n) as (g, n, e / g)."""
    parts = rate.reshape(groups, -1, rate.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(parts, dtype=float)


class _CompiledLayer(CompiledBlock):
    """One block with a selective scan."""

    def __init__(self, program: Program, index: int) -> None:
        layer, shifts = program.scan_layers[index], program.scan_shifts[index]
        super().__init__(program, index, layer, shifts)
        scheme, tables = program.scheme, program.tables
        bits = scheme.activation_bits
        select = _Projections if program.shape.heads is None else _Heads
        self._selection: _Projections | _Heads = select(program, index, layer, shifts)
        self._convolution = (
            power_of_two(shifts.x),
            limit(bits),
            np.ascontiguousarray(layer.convolution.weight.T, dtype=float),
            np.asarray(layer.convolution.bias, dtype=float),
            power_of_two(shifts.convolution),
            *self._look_ups,
        )
        if shifts.normed is not None:
            own, groups = layer.head_selection, program.shape.groups
            bits = program.mixed_bits(index)
            self._gated_norm = Normalization(
                program, own.gate_norm_weight, shifts.normed, own.product, bits, groups
            )
        self._scan = (
            (
                np.zeros(program.shape.d_inner),
                power_of_two(shifts.z),
                silu_lookup(tables.silu, shifts.gate, scheme.gate_bits),
            ),
            (
                _by_group(program.scan_constants(index).rate, program.shape.groups),
                decay_lookup(tables.exponent, scheme.decay_bits),
                power_of_two(shifts.update),
                layer.skip.astype(float),
                power_of_two(shifts.scan_output),
                power_of_two(shifts.gated),
            ),
            (
                2.0**-shifts.argument,
                2.0**-scheme.decay_bits,
                limit(scheme.update_bits),
                limit(scheme.state_bits),
                limit(scheme.scan_output_bits),
                limit(program.gated_bits if program.shape.heads else program.mixed_bits(index)),
            ),
        )

    def before_scan(self, name: str, residual: Array, window: Integers) -> Array:
        """Return norm, x, dt, u or projected (p, ...) of one row's ``residual`` (p, d).

        ``projected`` exists without heads, ``dt`` with them.
        ``window`` (1, K - 1, e) is advanced.
        """
        norm = self._norm.apply(residual)
        if name == "norm":
            return norm
        total = norm @ self._in_proj  # p rows
        if name == "x":
            x = np.ascontiguousarray(total[:, : self._shape.convolution_channels])
            kernels.requantize(x, *self._convolution[:2])
            return x
        if name == "dt":
            assert isinstance(self._selection, _Heads)
            return self._selection.raw(total)
        u, _ = self._convolve(total[None], window)  # 1 p c
        if name == "u":
            return u[0]
        assert isinstance(self._selection, _Projections)
        return self._selection.project(u)

    def _convolve(self, total: Array, window: Integers) -> Array:
        """Return u and the scan's input, (2, b, t, c)."""
        channels = self._shape.convolution_channels
        made = np.empty((2, *total.shape[:2], channels), np.float32)
        mixer_kernels.convolve(total, window, *self._convolution, made[0], made[1])
        return made

    def _gated(self, total: Array, window: Integers, state: Integers) -> Array:
        u, scan_u = self._convolve(total, window)  # b t c
        delta, selected = self._selection.select(total, u)  # b t e, b t ..
        gated = np.empty(delta.shape, np.float32)  # b t e
        mixer_kernels.scan_and_gate(delta, total, scan_u, selected, state, *self._scan, gated)
        return gated


class _Projections:
    """The selection of a Mamba-1 block: x_proj, dt_proj and softplus."""

    def __init__(self, program: Program, index: int, layer: Layer, shifts: LayerShifts) -> None:
        scheme, bits = program.scheme, program.scheme.activation_bits
        inputs = program.projection_bits(index) + scheme.asymmetric
        self._rank = program.shape.dt_rank
        self._x_proj = columns(layer.x_proj.integers, inputs)
        self._dt_proj = columns(layer.dt_proj.weight, bits)
        self._projected = (power_of_two(shifts.projected), limit(bits))
        self._step = (
            np.asarray(layer.dt_proj.bias, dtype=float),
            power_of_two(shifts.dt),
            softplus_lookup(program.tables.softplus, shifts.delta, scheme.delta_bits),
        )

    def project(self, u: Array) -> Array:
        """Return dt, B and C of u (b, t, c), (b t, r + 2n)."""
        projected: Array = u.reshape(-1, u.shape[2]) @ self._x_proj
        kernels.requantize(projected, *self._projected)
        return projected

    def select(self, total: Array, u: Array) -> tuple[Array, Array]:
        """Return delta (b, t, e) and what ends with B and C, of in_proj's rows and u (b, t, c)."""
        del total
        projected = self.project(u)  # (b t) (r+2n)
        delta = np.empty(u.shape, np.float32)  # b t e
        dt = projected[:, : self._rank] @ self._dt_proj  # (b t) e
        mixer_kernels.step_sizes(dt, self._step, delta.reshape(dt.shape))
        return delta, projected.reshape(*u.shape[:2], -1)


class _Heads:
    """The selection of a Mamba-2 block: step sizes from in_proj, B and C from the convolution."""

    def __init__(self, program: Program, index: int, layer: Layer, shifts: LayerShifts) -> None:
        del index
        own, scheme = layer.head_selection, program.scheme
        self._channels, self._first = program.shape.d_inner, program.shape.convolution_channels
        self._step = (
            own.dt_bias.astype(float),
            power_of_two(shifts.dt),
            softplus_lookup(program.tables.softplus, shifts.delta, scheme.delta_bits),
        )
        self._limits = (float(own.delta_low), float(own.delta_high))

    def raw(self, total: Array) -> Array:
        """Return dt before its bias (p, h) of in_proj's rows (p, rows)."""
        dt = np.ascontiguousarray(total[:, self._first : self._first + len(self._step[0])])
        kernels.requantize(dt, self._step[1], limit(ACTIVATION_INPUT_BITS))
        return dt

    def select(self, total: Array, u: Array) -> tuple[Array, Array]:
        """Return what :meth:`_Projections.select` does."""
        delta = np.empty((*u.shape[:2], self._channels), np.float32)  # b t e
        mixer_kernels.head_step_sizes(
            total.reshape(-1, total.shape[2]),
            self._first,
            self._step,
            *self._limits,
            delta.reshape(-1, self._channels),
        )
        return delta, u


class _CompiledAverage(CompiledBlock):
    """One block with a moving average."""

    def __init__(self, program: Program, index: int) -> None:
        layer, shifts = program.average_layers[index], program.average_shifts[index]
        super().__init__(program, index, layer, shifts)
        scheme, e, sigmoid = program.scheme, program.shape.d_inner, program.tables.sigmoid
        assert sigmoid is not None  # guaranteed by golden.validation
        # Without a convolution x is SiLU's input as it is: a convolution with one tap of one.
        taps, bias, bits = np.ones((1, e)), np.zeros(e), ACTIVATION_INPUT_BITS
        shift: Integers = np.zeros(e, np.int64)
        if layer.convolution is not None and shifts.convolution is not None:
            taps = np.ascontiguousarray(layer.convolution.weight.T, dtype=float)
            bias = np.asarray(layer.convolution.bias, dtype=float)
            bits, shift = scheme.activation_bits, shifts.convolution
        self._half = len(taps) // 2
        self._convolution = (
            power_of_two(shifts.x), limit(bits), taps, bias, power_of_two(shift), *self._look_ups
        )  # fmt: skip
        self._dt_proj = columns(layer.dt_proj.weight, scheme.projection_input_bits)
        self._average = (
            (
                np.asarray(layer.dt_proj.bias, dtype=float),
                power_of_two(shifts.projected),
                average_decay_lookup(sigmoid, scheme.decay_bits),
            ),
            None
            if shifts.z is None
            else (
                np.zeros(e),
                power_of_two(shifts.z),
                silu_lookup(program.tables.silu, shifts.gate, scheme.gate_bits),
            ),
            power_of_two(shifts.gated),
            (2.0**scheme.lift, 2.0**-scheme.decay_bits, limit(scheme.gated_bits)),
        )

    def _gated(self, total: Array, window: Integers, state: Integers) -> Array:
        del window  # whole frames leave nothing to keep
        half, (batch, length, rows) = self._half, total.shape
        # The centred convolution is the causal one, half its taps later; beyond the end x is zero.
        ahead = np.concatenate([total, np.zeros((batch, half, rows), total.dtype)], axis=1)
        edge = np.zeros((batch, 2 * half, self._shape.d_inner), np.int64)
        u, scan_u = np.empty((2, batch, length + half, self._shape.d_inner), np.float32)
        mixer_kernels.convolve(ahead, edge, *self._convolution, u, scan_u)
        u, scan_u = np.ascontiguousarray(u[:, half:]), np.ascontiguousarray(scan_u[:, half:])
        argument = (u.reshape(-1, u.shape[2]) @ self._dt_proj).reshape(u.shape)
        gated = u  # dt_proj has read it; the result takes its memory
        mixer_kernels.average_and_gate(argument, total, scan_u, state, *self._average, gated)
        return gated


class _CompiledMLP:
    """The MLP behind one mixer."""

    def __init__(self, program: Program, index: int, mlp: GatedMLP, shifts: MLPShifts) -> None:
        scheme, bits = program.scheme, program.projection_bits(index)
        self._norm = residual_norm(program, mlp.norm_weight, shifts.norm, bits)
        self._gate, self._up = columns(mlp.gate.integers, bits), columns(mlp.up.integers, bits)
        self._down = columns(mlp.down.integers, bits)
        self._product = (
            (
                np.zeros(len(shifts.z)),
                power_of_two(shifts.z),
                silu_lookup(program.tables.silu, shifts.gate, scheme.gate_bits),
            ),
            (power_of_two(shifts.up), limit(scheme.scan_output_bits)),
            (power_of_two(shifts.gated), limit(bits)),
        )
        self._out = (power_of_two(shifts.out), limit(scheme.residual_bits))

    def advance(self, residual: Array) -> None:
        """Add the MLP's output to ``residual`` (p, d) in place."""
        norm = self._norm.apply(residual)
        gated = np.empty((len(norm), self._gate.shape[1]), np.float32)
        mixer_kernels.gate(norm @ self._gate, norm @ self._up, *self._product, gated)
        kernels.add(residual, gated @ self._down, *self._out)


class CompiledBlocks:
    """The blocks of any network prepared for speed; it holds constants only, no state."""

    def __init__(self, program: Program) -> None:
        block = _CompiledLayer if program.shape.average is None else _CompiledAverage
        self._layers: list[CompiledBlock] = [
            block(program, index) for index in range(program.shape.n_layer)
        ]
        self._mlps = [
            _CompiledMLP(program, index, mlp, program.mlp_shifts[index])
            for index, mlp in enumerate(program.mlps or ())
        ]

    def advance(self, residual: Array, state: State) -> None:
        """Run all blocks on ``residual`` (b t, d) float32, changed in place as ``state`` is."""
        for index, layer in enumerate(self._layers):
            layer.advance(residual, state.window[index], state.scan[index])
            if self._mlps:
                self._mlps[index].advance(residual)

    def before_scan(self, name: str, residual: Array, state: State) -> Array:
        """Return norm, x, dt, u or projected of the first block, which has a selective scan.

        ``residual`` (p, d) is one row's; ``state`` is at its start.
        """
        first = self._layers[0]
        assert isinstance(first, _CompiledLayer)
        return first.before_scan(name, residual, state.window[0])

    def mix(self, residual: Array, state: State) -> Array:
        """Return what the first block's out_proj reads (b t, e) and advance that block's state."""
        return self._layers[0].mix(residual, state.window[0], state.scan[0])


class CompiledProgram:
    """A language model prepared for speed; it holds constants only, no state."""

    def __init__(self, program: Program) -> None:
        front = program.token_embedding
        self._vocabulary = program.shape.vocabulary
        self._embedding = (front.table << front.shift[:, None]).astype(np.float32)
        self._blocks = CompiledBlocks(program)
        bits, shift = program.scheme.activation_bits, program.final_norm_shift
        self._norm = residual_norm(program, program.final_norm_weight, shift, bits)
        self._head = columns(program.head.weight, bits)
        self._logits = (power_of_two(program.head_shift), limit(program.scheme.logit_bits))

    def forward(self, tokens: Integers, state: State) -> Integers:
        """Return the logits (b, l, V) of checked tokens (b, l) and advance ``state`` in place.

        Besides the logits, memory does not grow with the length.
        """
        batch, length = tokens.shape
        logits = np.empty((batch, length, self._vocabulary), np.int64)
        block = max(1, POSITIONS // max(batch, 1))
        for start in range(0, length, block):
            stretch = slice(start, start + block)
            residual = self._embedding[tokens[:, stretch].ravel()]  # (b t) d
            self._blocks.advance(residual, state)
            total = self._norm.apply(residual) @ self._head  # (b t) V
            kernels.requantize(total, *self._logits)
            logits[:, stretch] = total.reshape(batch, -1, self._vocabulary)
        return logits
