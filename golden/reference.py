"""The definition of a program's execution: NumPy integers, naming every value the Verilog probes.

Every line is one operation of :mod:`golden.operations`. :mod:`golden.compiled` computes the same
integers many times faster and is tested equal to this.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from golden.errors import InputError
from golden.fixed_point import (
    IntegerLike,
    Integers,
    requantize,
    round_half_even_shift,
    saturate,
)
from golden.mlp import GatedMLP, gated_mlp
from golden.operations import dual_scale, hadamard
from golden.operations.activation import silu, softplus
from golden.operations.exponent import decay, exponent_argument
from golden.operations.linear import accumulate, causal_convolution, centred_convolution
from golden.operations.moving_average import average_decay, moving_average
from golden.operations.normalization import epsilon_integer, rms_norm
from golden.operations.scan import selective_scan
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from golden.state import State

Probe = Callable[[str, int, Integers], None]
"""Called with probe name, layer (-1 outside the layers) and values (b, l, ...)."""


def check_tokens(program: Program, tokens: IntegerLike) -> Integers:
    """Return ``tokens`` as integers (b, l).

    Raises
    ------
    InputError
        If the array is not two-dimensional, a token is outside the vocabulary, or the program is
        a frame network.
    """
    data = np.asarray(tokens, dtype=np.int64)
    vocabulary = len(program.token_embedding.table)
    if data.ndim != 2:
        raise InputError(f"tokens have {data.ndim} dimensions, 2 are needed: (batch, length)")
    if data.size and not 0 <= data.min() <= data.max() < vocabulary:
        raise InputError(
            f"tokens span {data.min()}..{data.max()}, outside 0..{vocabulary - 1}; "
            "encode the text with the model's vocabulary"
        )
    return data


def ignore(name: str, layer: int, values: Integers) -> None:
    """Be the probe of whoever wants none."""
    del name, layer, values


def final_norm(program: Program, residual: Integers) -> Integers:
    """Return the norm before the head of ``residual`` (..., d)."""
    return rms_norm(
        residual,
        program.final_norm_weight,
        epsilon=epsilon_integer(program.shape.d_model, program.residual_fraction),
        shift=program.final_norm_shift,
        bits=program.scheme.activation_bits,
        table=program.tables.reciprocal,
    )


class ReferenceExecutor:
    """Runs a language model; the constructor only prepares constants, no state lives here."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._blocks = ReferenceBlocks(program)

    def forward(
        self, tokens: IntegerLike, state: State | None = None, probe: Probe = ignore
    ) -> tuple[Integers, State]:
        """Return logits (b, l, V) and the state after the sequence.

        Parameters
        ----------
        tokens : (b, l) in 0..V-1
        state : where the sequence continues; not changed. None starts from zero.
        probe : receives every named intermediate in the order the hardware computes them

        Raises
        ------
        InputError
            If a token is outside the vocabulary or the array is not two-dimensional; see also
            :meth:`golden.state.State.check`.
        """
        data = check_tokens(self.program, tokens)
        state = State.begin(self.program, len(data), state)
        program, scheme = self.program, self.program.scheme
        front = program.token_embedding
        residual = front.table[data] << front.shift[data][..., None]  # b l d
        probe("residual", -1, residual)
        residual = self._blocks.forward(residual, state, probe)
        final = final_norm(program, residual)  # b l d
        probe("norm", -1, final)
        logits = requantize(
            accumulate(program.head.weight, final), program.head_shift, scheme.logit_bits
        )  # b l V
        probe("logits", -1, logits)
        probe("token", -1, logits.argmax(axis=-1))
        return logits, state

    def step(self, tokens: IntegerLike, state: State) -> tuple[Integers, State]:
        """Return logits (b, V) for one token of each sequence, (b,); equal to :meth:`forward`."""
        logits, state = self.forward(np.asarray(tokens)[:, None], state)
        return logits[:, 0], state


class ReferenceBlocks:
    """Runs the blocks of any network on its residual stream."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._epsilon = epsilon_integer(program.shape.d_model, program.residual_fraction)
        layers = range(program.shape.n_layer if program.shape.average is None else 0)
        self._scan = [program.scan_constants(i) for i in layers]

    def forward(self, residual: Integers, state: State, probe: Probe) -> Integers:
        """Return the residual (b, l, d) after all blocks and advance ``state`` in place.

        A moving average with a convolution needs whole sequences, as it looks ahead.
        """
        for index in range(self.program.shape.n_layer):
            residual = self._layer(index, residual, state, probe)
            if self.program.mlps is not None:
                residual = self._mlp(index, self.program.mlps[index], residual, probe)
        return residual

    def _layer(self, index: int, residual: Integers, state: State, probe: Probe) -> Integers:
        """Return the residual (b, l, d) after block ``index`` and advance ``state``."""
        program, scheme = self.program, self.program.scheme
        layer, shifts = program.layers[index], program.shifts[index]
        shape, bits = program.shape, scheme.activation_bits
        inputs = program.projection_bits(index)
        norm = rms_norm(
            residual,
            layer.norm_weight,
            epsilon=self._epsilon,
            shift=shifts.norm,
            bits=inputs,
            table=program.tables.reciprocal,
        )  # b l d
        probe("norm", index, norm)
        total = accumulate(layer.in_proj.integers, norm)  # b l rows
        x, dt, z = np.split(total, [shape.convolution_channels, shape.gate_row], axis=-1)
        x_bits = bits if shape.convolved else ACTIVATION_INPUT_BITS
        x = requantize(x, shifts.x, x_bits)  # b l c
        probe("x", index, x)
        mixed = x
        if shape.convolved:
            mixed, state.window[index] = self._convolution(index, x, state.window[index])
            probe("convolution", index, mixed)
        u, scan_u = self._scan_input(index, mixed, probe)  # b l c, b l e
        gate: Integers | int = 1
        if shifts.z is not None:
            z = requantize(z, shifts.z, ACTIVATION_INPUT_BITS)  # b l e
            gate = requantize(silu(z, program.tables.silu), shifts.gate, scheme.gate_bits)
            probe("gate", index, gate)
        if shape.average is None:
            y, last = self._mix(index, dt, u, scan_u, state.scan[index], probe)  # b l e
        else:
            y, last = self._average(index, u, scan_u, state.scan[index], probe)  # b l e
        state.scan[index] = last
        gated_bits = program.gated_bits if shape.heads else program.mixed_bits(index)
        gated = requantize(y * gate, shifts.gated, gated_bits)  # b l e
        probe("gated", index, gated)
        if shape.heads is not None:
            gated = self._gated_norm(index, gated)  # b l e
            probe("normed", index, gated)
        if shifts.rotated is not None:
            gated = requantize(hadamard.transform(gated), shifts.rotated, inputs)  # b l e
            probe("rotated", index, gated)
        out = requantize(
            accumulate(layer.out_proj.integers, gated), shifts.out, scheme.residual_bits
        )  # b l d
        residual = requantize(residual + out, 0, scheme.residual_bits)
        probe("residual", index, residual)
        return residual

    def _mlp(self, index: int, mlp: GatedMLP, residual: Integers, probe: Probe) -> Integers:
        """Return the residual (b, l, d) after the MLP of block ``index``."""
        return gated_mlp(
            mlp,
            self.program.mlp_shifts[index],
            residual,
            scheme=self.program.scheme,
            inputs=self.program.projection_bits(index),
            tables=self.program.tables,
            epsilon=self._epsilon,
            show=lambda name, values: probe(name, index, values),
        )

    def _convolution(self, index: int, x: Integers, window: Integers) -> tuple[Integers, Integers]:
        """Return SiLU's input (b, l, c) and the next window (b, K - 1, c)."""
        convolution = self.program.layers[index].convolution
        shift = self.program.shifts[index].convolution
        # guaranteed by golden.validation
        assert convolution is not None
        assert convolution.bias is not None
        assert shift is not None
        if self.program.shape.average is None:
            total, window = causal_convolution(window, x, convolution.weight, convolution.bias)
        else:
            total = centred_convolution(x, convolution.weight, convolution.bias)
        return requantize(total, shift, ACTIVATION_INPUT_BITS), window

    def _scan_input(self, index: int, mixed: Integers, probe: Probe) -> tuple[Integers, Integers]:
        """Return u (b, l, c) and the scan's x (b, l, e), stored in their own ways (Q7)."""
        program, shifts = self.program, self.program.shifts[index]
        e = program.shape.d_inner
        activated = silu(mixed, program.tables.silu)  # b l c
        u = np.clip(round_half_even_shift(activated, shifts.u), *program.u_range(index))
        probe("u", index, u)
        dual = program.scheme.dual_scale
        if dual is None:
            scan_u = requantize(activated[..., :e], shifts.scan_u, program.scheme.scan_input_bits)
            probe("scan_u", index, scan_u)
            return u, scan_u
        code, flag = dual_scale.encode(activated[..., :e], shifts.scan_u, dual)
        probe("scan_u", index, dual_scale.pack(code, flag, dual))
        return u, dual_scale.decode(code, flag, dual)

    def _mix(
        self,
        index: int,
        dt: Integers,
        u: Integers,
        scan_u: Integers,
        state: Integers,
        probe: Probe,
    ) -> tuple[Integers, Integers]:
        """Return y (b, l, e) and the state (b, e, n): selection, discretization and scan."""
        if self.program.shape.heads is None:
            delta, b, c = self._project(index, u, probe)  # b l e, b l n
        else:
            delta, b, c = self._heads(index, dt, u, probe)  # b l e, b l e n
        y, state = selective_scan(state, delta, scan_u, b, c, self._scan[index])
        probe("scan_output", index, y)
        return y, state

    def _project(
        self, index: int, u: Integers, probe: Probe
    ) -> tuple[Integers, Integers, Integers]:
        """Return delta (b, l, e), B and C (b, l, n) of a Mamba-1 block."""
        program, scheme, shape = self.program, self.program.scheme, self.program.shape
        layer, shifts = program.scan_layers[index], program.scan_shifts[index]
        projected = requantize(
            accumulate(layer.x_proj.integers, u), shifts.projected, scheme.activation_bits
        )  # b l (r+2n)
        probe("projected", index, projected)
        dt, b, c = np.split(projected, [shape.dt_rank, shape.dt_rank + shape.d_state], axis=-1)
        assert layer.dt_proj.bias is not None  # guaranteed by golden.validation
        raw = requantize(
            accumulate(layer.dt_proj.weight, dt) + layer.dt_proj.bias,
            shifts.dt,
            ACTIVATION_INPUT_BITS,
        )  # b l e
        delta = self._step_size(index, raw)  # b l e
        probe("delta", index, delta)
        return delta, b, c

    def _heads(
        self, index: int, total: Integers, u: Integers, probe: Probe
    ) -> tuple[Integers, Integers, Integers]:
        """Return delta (b, l, e), B and C (b, l, e, n) of a Mamba-2 block.

        ``total`` are in_proj's accumulators of dt (b, l, h). The machine keeps one step size and
        decay a head, and B and C a group; here each channel gets its own copy.
        """
        shape, shifts = self.program.shape, self.program.scan_shifts[index]
        selection = self.program.scan_layers[index].head_selection
        raw = requantize(total, shifts.dt, ACTIVATION_INPUT_BITS)  # b l h
        probe("dt", index, raw)
        raw = saturate(raw + selection.dt_bias, ACTIVATION_INPUT_BITS)  # b l h
        delta = np.clip(self._step_size(index, raw), selection.delta_low, selection.delta_high)
        probe("delta", index, delta)  # b l h
        constants = self._scan[index]
        argument = exponent_argument(
            delta, self.program.scan_layers[index].decay_rate[:, 0], constants.argument_shift
        )
        probe("decay", index, decay(argument, constants.table, constants.decay_bits))  # b l h
        b, c = np.split(u[..., shape.d_inner :], 2, axis=-1)  # b l gn
        grouped = (*u.shape[:2], shape.groups, shape.d_state)
        width = shape.d_inner // shape.groups
        return (
            np.repeat(delta, shape.d_inner // shape.step_sizes, axis=-1),
            np.repeat(b.reshape(grouped), width, axis=2),
            np.repeat(c.reshape(grouped), width, axis=2),
        )

    def _step_size(self, index: int, raw: Integers) -> Integers:
        """Return softplus of ``raw`` in the format of delta."""
        program = self.program
        return requantize(
            softplus(raw, program.tables.softplus),
            program.scan_shifts[index].delta,
            program.scheme.delta_bits,
            signed=False,
        )

    def _gated_norm(self, index: int, gated: Integers) -> Integers:
        """Return Mamba-2's norm of gated values (b, l, e): one root a group of channels."""
        program, selection = self.program, self.program.scan_layers[index].head_selection
        groups, shift = program.shape.groups, program.scan_shifts[index].normed
        assert shift is not None  # a layer with heads has one
        size = program.shape.d_inner // groups
        return rms_norm(
            gated.reshape(*gated.shape[:-1], groups, size),
            selection.gate_norm_weight.reshape(groups, size),
            epsilon=epsilon_integer(size, selection.product),
            shift=shift,
            bits=program.mixed_bits(index),
            table=program.tables.reciprocal,
        ).reshape(gated.shape)

    def _average(
        self, index: int, u: Integers, scan_u: Integers, state: Integers, probe: Probe
    ) -> tuple[Integers, Integers]:
        """Return the moving averages (b, l, e) and the state (b, e, 1) after them."""
        program, scheme = self.program, self.program.scheme
        layer, shifts = program.average_layers[index], program.average_shifts[index]
        assert layer.dt_proj.bias is not None  # guaranteed by golden.validation
        assert program.tables.sigmoid is not None
        total = accumulate(layer.dt_proj.weight, u) + layer.dt_proj.bias  # b l e
        argument = requantize(total, shifts.projected, ACTIVATION_INPUT_BITS)
        probe("projected", index, argument)
        decay = average_decay(argument, program.tables.sigmoid, scheme.decay_bits)  # b l e
        probe("decay", index, decay)
        averages, last = moving_average(
            state[..., 0], decay, scan_u << scheme.lift, scheme.decay_bits
        )  # b l e
        probe("state", index, averages)
        return averages, last[..., None]
