"""A program simulated in real numbers: every tensor dequantized, every requantizer a rounding.

This is what the literature calls float simulation or fake quantization. It is written from the
contract in docs/numerics.md and not from the executor: an integer ``q`` with ``f`` fraction bits is
held as the float64 ``q 2**-f``, products and sums are those of reals, and a requantizer rounds to a
multiple of its step and saturates. All of it is exact, so with the program's own widths the logits
equal the golden model's in every bit; and any part of the scan can be given another storage
(:mod:`model.scan_input`), another width or no rounding at all. Symbols as in
:class:`golden.configuration.NetworkShape`; b rows, t tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from golden.fixed_point import integer_range, to_real
from golden.layer import Linear
from golden.operations import hadamard
from golden.operations.normalization import NORMALIZED_FRACTION, epsilon_integer, rms_norm
from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_INPUT_FRACTION
from golden.program import Program
from model.scan_input import ScanInput, stored_input
from model.simulated_scan import RoundingWatch, ScanWidths, SimulatedScan
from model.unit_tables import UnitTables, look_up

__all__ = ["SimulatedProgram", "SimulatedState", "Watch", "fake_quantize"]

Array = npt.NDArray[Any]

Watch = Callable[[str, int], RoundingWatch]
"""``watch(tensor, layer)`` returns what is shown that tensor; layer -1 is the model."""

_POSITIONS = 512
"""Tokens, over all rows of a batch, computed at once: their tensors fit the cache."""


@numba.njit(cache=True, nogil=True)
def fake_quantize(
    values: Array, scale: Array, low: Array, high: Array
) -> None:  # pragma: no cover - compiled code
    """Round values (p, channels) in place to steps ``1 / scale`` (channels,), half to even.

    Multiples lie in ``low .. high``, (channels,) each.
    """
    for p in range(len(values)):
        for i in range(len(scale)):
            rounded = min(max(np.rint(values[p, i] * scale[i]), low[i]), high[i])
            values[p, i] = rounded / scale[i]


@dataclass
class SimulatedState:
    """What a sequence leaves behind, in reals: windows (layers, b, K - 1, e), scan (.., e, n)."""

    window: Array
    scan: Array

    @classmethod
    def zeros(cls, program: Program, batch: int) -> SimulatedState:
        """Return the state at the start of ``batch`` sequences."""
        shape = program.shape
        return cls(
            np.zeros((shape.n_layer, batch, shape.d_conv - 1, shape.d_inner)),
            np.zeros((shape.n_layer, batch, shape.d_inner, shape.d_state)),
        )


class _Rounding:
    """One requantizer.

    Parameters
    ----------
    fraction : fraction bits, broadcast to the channels
    channels : on the last axis
    limits : signed width, or least and largest multiple, broadcast to the channels
    watch : shown the values before and after, and the steps (channels,)
    """

    def __init__(
        self,
        fraction: Any,
        channels: int,
        limits: int | tuple[Any, Any],
        watch: RoundingWatch | None = None,
    ) -> None:
        exponents = np.broadcast_to(np.asarray(fraction, np.int64), (channels,))
        self._scale = np.ldexp(1.0, exponents)
        ends = integer_range(limits) if isinstance(limits, int) else limits
        self._ends = [np.broadcast_to(np.asarray(end, float), (channels,)).copy() for end in ends]
        self._watch = watch

    def __call__(self, values: Array) -> Array:
        """Round ``values`` (..., channels) in place and return them."""
        before = values.copy() if self._watch else values
        fake_quantize(values.reshape(-1, values.shape[-1]), self._scale, *self._ends)
        if self._watch:
            self._watch(before, values, 1.0 / self._scale)
        return values


def _real(linear: Linear) -> Array:
    """Return the weights a product uses, (columns, rows)."""
    return np.ascontiguousarray(to_real(linear.weight, linear.column_fraction).T)


class _SimulatedNorm:
    """RMSNorm: the unit's own integers, from and to reals."""

    def __init__(
        self, program: Program, weight: Array, weight_fraction: int, fraction: int, bits: int
    ) -> None:
        self._weight, self._fraction = weight, fraction
        self._residual_fraction = program.residual_fraction
        self._epsilon = epsilon_integer(program.shape.d_model, program.residual_fraction)
        self._shift = NORMALIZED_FRACTION + weight_fraction - fraction
        self._bits = bits
        self._table = program.tables.reciprocal

    def __call__(self, residual: Array) -> Array:
        integers = np.ldexp(residual, self._residual_fraction).astype(np.int64)
        normalized = rms_norm(
            integers,
            self._weight,
            epsilon=self._epsilon,
            shift=self._shift,
            bits=self._bits,
            table=self._table,
        )
        return to_real(normalized, self._fraction)


class _SimulatedLayer:
    """One block in reals."""

    def __init__(
        self,
        program: Program,
        index: int,
        scan_input: ScanInput,
        scan: SimulatedScan,
        watch: Callable[[str], RoundingWatch | None],
    ) -> None:
        layer, shape, scheme = program.scan_layers[index], program.shape, program.scheme
        formats, e, bits = layer.formats, shape.d_inner, scheme.activation_bits
        inputs = program.projection_bits(index)
        assert layer.convolution.bias is not None  # guaranteed by golden.validation
        assert layer.dt_proj.bias is not None
        self._scan_input, self._scan, self._rank = scan_input, scan, shape.dt_rank
        self._norm = _SimulatedNorm(
            program, layer.norm_weight, formats.norm_weight, formats.norm, inputs
        )
        self._in_proj = _real(layer.in_proj)
        self._taps = _real(layer.convolution)  # K e
        self._taps_bias = to_real(
            layer.convolution.bias, layer.convolution.fraction_bits + formats.x
        )
        # A channel that is finer than its tensor meets columns that are coarser: reals undo both.
        self._x_proj = _real(layer.x_proj) * np.ldexp(1.0, formats.u_channel)[:, None]
        self._dt_proj = _real(layer.dt_proj)
        self._dt_bias = to_real(layer.dt_proj.bias, layer.dt_proj.fraction_bits + formats.dt)
        self._out_proj = _real(layer.out_proj) * np.ldexp(1.0, formats.gated_channel)[:, None]
        projected = np.repeat(
            [formats.dt, formats.b, formats.c], [shape.dt_rank, shape.d_state, shape.d_state]
        )
        unit = (ACTIVATION_INPUT_FRACTION, e, ACTIVATION_INPUT_BITS)
        self._round_unit = _Rounding(*unit)
        self._round_x = _Rounding(formats.x, e, bits, watch("x"))
        u_range = program.u_range(index)
        self._round_u = _Rounding(formats.u + formats.u_channel, e, u_range, watch("u"))
        self._round_gate = _Rounding(formats.gate, e, scheme.gate_bits, watch("gate"))
        self._round_projected = _Rounding(projected, len(projected), bits, watch("projected"))
        gated = _Rounding(formats.gated + formats.gated_channel, e, inputs, watch("gated"))
        self._round_gated, self._round_rotated = gated, gated
        self._rotation: Array | None = None
        if formats.rotation is not None:
            rotation = (formats.rotation, e, program.mixed_bits(index), watch("before rotation"))
            self._round_gated = _Rounding(*rotation)
            self._rotation = hadamard.transform(np.eye(e, dtype=np.int64)).astype(float)  # e e
        stream = (
            program.residual_fraction, shape.d_model, scheme.residual_bits, watch("residual"),
        )  # fmt: skip
        self._round_residual = _Rounding(*stream)
        self._round_out = _Rounding(*stream[:3])

    def advance(
        self, residual: Array, window: Array, state: Array, tables: UnitTables, index: int
    ) -> Array:
        """Return the residual stream (b, t, d) after the block; window and state are advanced."""
        e, r = len(self._taps_bias), self._rank
        mixed = self._norm(residual) @ self._in_proj  # b t 2e
        x = self._round_x(np.ascontiguousarray(mixed[..., :e]))
        z = self._round_unit(np.ascontiguousarray(mixed[..., e:]))
        history = np.concatenate([window, x], axis=1)  # b K-1+t e
        window[:] = history[:, x.shape[1] :]
        convolved = self._taps_bias + sum(
            history[:, k : k + x.shape[1]] * taps for k, taps in enumerate(self._taps)
        )  # b t e
        activated = look_up(tables.silu, self._round_unit(convolved))
        scan_u = self._scan_input(index, activated)
        u = self._round_u(activated.copy())
        projected = self._round_projected(u @ self._x_proj)  # b t r+2n
        raw = self._round_unit(projected[..., :r] @ self._dt_proj + self._dt_bias)
        y = self._scan.advance(raw, scan_u, projected[..., r:], state)
        gated = self._round_gated(y * self._round_gate(look_up(tables.silu, z)))
        if self._rotation is not None:
            gated = self._round_rotated(gated @ self._rotation)
        out = self._round_out(gated @ self._out_proj)  # b t d
        return self._round_residual(residual + out)


class SimulatedProgram:
    """Runs ``program`` in reals.

    Parameters
    ----------
    program : integers, widths and exponents
    scan_input : how the scan's input is stored; None as the program says
    widths : of the numbers inside the scan; None as the program says
    tables : non-linear units over their whole domain; None as the program says
    watch : shown every requantizer of the blocks
    """

    def __init__(
        self,
        program: Program,
        *,
        scan_input: ScanInput | None = None,
        widths: ScanWidths | None = None,
        tables: UnitTables | None = None,
        watch: Watch | None = None,
    ) -> None:
        if program.mlps is not None:
            raise InputError(
                "the program has MLPs, which the simulation of scan inputs leaves out; simulate a "
                "network without"
            )
        self.program = program
        widths = widths or ScanWidths.of(program.scheme)
        self._tables = tables or UnitTables.of(program)
        stored = scan_input or stored_input(program)

        def watched(index: int) -> Callable[[str], RoundingWatch | None]:
            return lambda tensor: None if watch is None else watch(tensor, index)

        self._layers = [
            _SimulatedLayer(
                program,
                index,
                stored,
                SimulatedScan(program, layer, widths, self._tables, watched(index)("scan_output")),
                watched(index),
            )
            for index, layer in enumerate(program.scan_layers)
        ]
        shape, scheme = program.shape, program.scheme
        front = program.token_embedding
        rows = to_real(front.table, 0) * np.ldexp(1.0, front.shift)[:, None]
        self._embedding = rows * 2.0**-program.residual_fraction
        self._norm = _SimulatedNorm(
            program,
            program.final_norm_weight,
            program.final_norm_weight_fraction,
            program.final_norm_fraction,
            scheme.activation_bits,
        )
        self._head = _real(program.head)
        self._round_logits = _Rounding(program.logit_fraction, shape.vocabulary, scheme.logit_bits)

    def forward(self, tokens: Array, state: SimulatedState) -> Array:
        """Return the logits (b, l, V) in natural units and advance ``state``."""
        block = max(1, _POSITIONS // max(len(tokens), 1))
        parts = []
        for start in range(0, tokens.shape[1], block):
            residual = self._embedding[tokens[:, start : start + block]]  # b t d
            for index, layer in enumerate(self._layers):
                residual = layer.advance(
                    residual, state.window[index], state.scan[index], self._tables, index
                )
            parts.append(self._round_logits(self._norm(residual) @ self._head))
        return np.concatenate(parts, axis=1)

    def start(self, batch: int) -> Callable[[Array], Array]:
        """Begin ``batch`` sequences: from their next tokens (b, l) to logits (b, l, V)."""
        state = SimulatedState.zeros(self.program, batch)
        return lambda tokens: self.forward(tokens, state)
