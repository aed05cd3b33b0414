"""The float network in NumPy with a compiled scan: calibration, reports and evaluation run it.

It computes what :class:`model.mamba.MambaLanguageModel` does, in float32, several times faster on a
CPU, and it lets a caller replace any intermediate and round inside the recurrence, which a tap on
whole tensors cannot do. Symbols as in :mod:`model.network_parameters`; b rows, l tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from golden.operations.normalization import NORM_EPSILON
from model.network_parameters import LayerParameters, MLPParameters, NetworkParameters

__all__ = ["FloatNetwork", "FloatState", "Hook", "ScanRounding", "rms_norm", "silu", "softplus"]

Array = npt.NDArray[Any]

Hook = Callable[[str, int, Array], Array]
"""``hook(name, layer, value)`` returns what takes the value's place; layer -1 is the model."""

_SCAN_ELEMENTS = 1 << 19
"""Decays computed at once: they stay in the cache between the exponential and the recurrence."""


@dataclass(frozen=True)
class ScanRounding:
    """Rounding inside one layer's recurrence; None leaves a part alone.

    Parameters
    ----------
    decay_fraction : fraction bits of the decay
    state_fraction, state_bits : fraction bits (e,) and width of the state
    """

    decay_fraction: int | None = None
    state_fraction: Array | None = None
    state_bits: int = 0


@dataclass
class FloatState:
    """What a sequence leaves behind: windows (layers, b, K - 1, e), scan (layers, b, e, n)."""

    window: Array
    scan: Array

    @classmethod
    def zeros(cls, parameters: NetworkParameters, batch: int) -> FloatState:
        """Return the state at the start of ``batch`` sequences."""
        s = parameters.shape
        return cls(
            np.zeros((s.n_layer, batch, s.d_conv - 1, s.convolution_channels), np.float32),
            np.zeros((s.n_layer, batch, s.d_inner, s.d_state), np.float32),
        )


@numba.njit(cache=True, nogil=True)
def _recurrence(
    decay: Array, drive: Array, b: Array, c: Array, state: Array, y: Array
) -> None:  # pragma: no cover - compiled
    """``h = decay h + drive B`` and ``y = sum C h``.

    decay (b, l, e, n) or, alike for all states, (b, l, e, 1); b and c (b, l, g n), group by group;
    state (b, e, n).
    """
    rows, length, channels, decays = decay.shape
    n = state.shape[2]
    width = channels // (b.shape[2] // n)
    for row in range(rows):
        for t in range(length):
            for e in range(channels):
                total, first = np.float32(0.0), e // width * n
                for k in range(n):
                    own = decay[row, t, e, min(k, decays - 1)]
                    h = own * state[row, e, k] + drive[row, t, e] * b[row, t, first + k]
                    state[row, e, k] = h
                    total += c[row, t, first + k] * h
                y[row, t, e] = total


@numba.njit(cache=True, nogil=True)
def _rounded_recurrence(
    decay: Array, drive: Array, b: Array, c: Array, state: Array, y: Array,
    scale: Array, limit: float,
) -> None:  # pragma: no cover - compiled  # fmt: skip
    """As :func:`_recurrence`, the state rounded to steps of ``1 / scale`` (e,) and saturated."""
    rows, length, channels, decays = decay.shape
    n = state.shape[2]
    width = channels // (b.shape[2] // n)
    for row in range(rows):
        for t in range(length):
            for e in range(channels):
                total, first = np.float32(0.0), e // width * n
                for k in range(n):
                    own = decay[row, t, e, min(k, decays - 1)]
                    h = own * state[row, e, k] + drive[row, t, e] * b[row, t, first + k]
                    h = min(max(np.rint(h * scale[e]), -limit - 1.0), limit) / scale[e]
                    state[row, e, k] = h
                    total += c[row, t, first + k] * h
                y[row, t, e] = total


def silu(x: Array) -> Array:
    """Return ``x sigmoid(x)`` without overflow."""
    return x * (0.5 * (1.0 + np.tanh(0.5 * x)))


def softplus(x: Array) -> Array:
    """Return ``log(1 + exp(x))`` without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def rms_norm(x: Array, weight: Array) -> Array:
    """Return ``x rsqrt(mean x^2 + eps) w`` over the last axis, (..., d)."""
    scale = 1.0 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + NORM_EPSILON)
    return x * scale * weight


def _unchanged(name: str, layer: int, value: Array) -> Array:
    del name, layer
    return value


class _FloatLayer:
    """One block's weights in float32."""

    def __init__(self, layer: LayerParameters) -> None:
        def single(values: Array) -> Array:
            return np.ascontiguousarray(values, np.float32)

        self.norm_weight = single(layer.norm_weight)
        self.in_proj = single(layer.in_proj.T)
        self.taps, self.taps_bias = single(layer.taps), single(layer.taps_bias)
        self.gate_norm_weight = layer.gate_norm_weight
        self.dt_limit = layer.dt_limit
        self.x_proj = single(layer.x_proj.T)
        self.dt_proj, self.dt_bias = single(layer.dt_proj.T), single(layer.dt_bias)
        self.rate, self.skip = single(layer.rate), single(layer.skip)
        self.out_proj = single(layer.out_proj.T)


class _FloatMLP:
    """One MLP's weights in float32."""

    def __init__(self, mlp: MLPParameters) -> None:
        self.norm_weight = mlp.norm_weight.astype(np.float32)
        self.gate, self.up, self.down = (
            np.ascontiguousarray(weight.T, np.float32) for weight in (mlp.gate, mlp.up, mlp.down)
        )


class FloatNetwork:
    """Runs ``parameters``; ``rounding`` maps a layer to what is rounded inside its scan."""

    def __init__(
        self, parameters: NetworkParameters, rounding: dict[int, ScanRounding] | None = None
    ) -> None:
        self.parameters = parameters
        self.rounding = rounding or {}
        self._embedding = parameters.embedding.astype(np.float32)
        self._layers = [_FloatLayer(layer) for layer in parameters.layers]
        self._mlps = [_FloatMLP(mlp) for mlp in parameters.mlps or ()]
        self._final_norm = parameters.final_norm_weight.astype(np.float32)
        self._head = np.ascontiguousarray(parameters.head.T, np.float32)

    def embed(self, tokens: Array, hook: Hook = _unchanged) -> Array:
        """Return the residual stream (b, l, d) of tokens (b, l)."""
        return hook("residual", -1, self._embedding[tokens])

    def layer(
        self, index: int, residual: Array, state: FloatState, hook: Hook = _unchanged
    ) -> Array:
        """Return the residual stream (b, l, d) after block ``index`` and advance ``state``."""
        own, shape = self._layers[index], self.parameters.shape
        e = shape.d_inner
        norm = hook("norm", index, rms_norm(residual, own.norm_weight))  # b l d
        mixed = norm @ own.in_proj  # b l rows
        x, dt, z = np.split(mixed, [shape.convolution_channels, shape.gate_row], axis=-1)
        x, z = hook("x", index, x), hook("z", index, z)  # b l c, b l e
        window = np.concatenate([state.window[index], x], axis=1)  # b K-1+l e
        state.window[index] = window[:, x.shape[1] :]
        convolved = own.taps_bias + sum(
            window[:, k : k + x.shape[1]] * own.taps[:, k] for k in range(shape.d_conv)
        )  # b l c
        activated = silu(hook("convolution", index, convolved))  # b l c
        u = hook("u", index, activated)  # b l c
        scan_u = hook("scan_u", index, activated[..., :e])  # b l e
        if shape.heads is None:
            r, n = shape.dt_rank, shape.d_state
            dt, b, c = np.split(u @ own.x_proj, [r, r + n], axis=-1)
        else:
            b, c = np.split(u[..., e:], 2, axis=-1)  # b l gn
        dt, b, c = hook("dt", index, dt), hook("b", index, b), hook("c", index, c)
        step = dt if shape.heads else dt @ own.dt_proj
        raw = hook("dt_raw", index, step + own.dt_bias)  # b l e, with heads b l h
        delta = hook("delta", index, np.clip(softplus(raw), *own.dt_limit))
        y = self._scan(index, (delta, scan_u, b, c), state.scan[index], hook)
        y = hook("scan_output", index, y)  # b l e
        gate = hook("gate", index, silu(z))  # b l e
        gated = hook("gated", index, y * gate)  # b l e
        if own.gate_norm_weight is not None:
            groups = gated.reshape(*gated.shape[:2], shape.groups, -1)
            weight = own.gate_norm_weight.reshape(shape.groups, -1).astype(np.float32)
            gated = hook("normed", index, rms_norm(groups, weight).reshape(gated.shape))  # b l e
        out = hook("out", index, gated @ own.out_proj)  # b l d
        residual = hook("residual", index, residual + out)  # b l d
        return self._mlp(index, residual, hook) if self._mlps else residual

    def _mlp(self, index: int, residual: Array, hook: Hook) -> Array:
        """Return the residual stream (b, l, d) after the MLP of block ``index``."""
        own = self._mlps[index]
        norm = hook("mlp_norm", index, rms_norm(residual, own.norm_weight))  # b l d
        gate = hook("mlp_gate", index, silu(hook("mlp_z", index, norm @ own.gate)))  # b l m
        gated = hook("mlp_gated", index, hook("up", index, norm @ own.up) * gate)  # b l m
        out = hook("mlp_out", index, gated @ own.down)  # b l d
        return hook("mlp_residual", index, residual + out)  # b l d

    def _scan(
        self, index: int, inputs: tuple[Array, Array, Array, Array], state: Array, hook: Hook
    ) -> Array:
        """Selective scan and skip, stretch by stretch; ``hook`` sees the state after each."""
        delta, u, b, c = (np.ascontiguousarray(value, np.float32) for value in inputs)
        own, rounding = self._layers[index], self.rounding.get(index, ScanRounding())
        rate, size = own.rate, u.shape[2] // delta.shape[2]
        if size > 1:
            delta, rate = np.repeat(delta, size, axis=2), np.repeat(rate, size, axis=0)
        y, drive = np.empty_like(u), delta * u  # b l e
        stretch = max(1, _SCAN_ELEMENTS // state.size)
        for start in range(0, u.shape[1], stretch):
            part = slice(start, start + stretch)
            decay = np.exp(delta[:, part, :, None] * -rate)  # b t e n
            if rounding.decay_fraction is not None:
                scale = np.float32(2.0**rounding.decay_fraction)
                decay = np.rint(decay * scale) / scale
            arguments = (decay, drive[:, part], b[:, part], c[:, part], state, y[:, part])
            if rounding.state_fraction is None:
                _recurrence(*arguments)
            else:
                steps = np.ldexp(np.float32(1.0), rounding.state_fraction).astype(np.float32)
                limit = float((1 << (rounding.state_bits - 1)) - 1)
                _rounded_recurrence(*arguments, steps, limit)
            hook("state", index, state)
        return y + own.skip * u

    def head(self, residual: Array, hook: Hook = _unchanged) -> Array:
        """Return the logits (b, l, V) of the last residual (b, l, d)."""
        norm = hook("norm", -1, rms_norm(residual, self._final_norm))
        return hook("logits", -1, norm @ self._head)

    def forward(
        self, tokens: Array, state: FloatState | None = None, hook: Hook = _unchanged
    ) -> Array:
        """Return the logits (b, l, V) of tokens (b, l); a given ``state`` is advanced."""
        state = FloatState.zeros(self.parameters, len(tokens)) if state is None else state
        residual = self.embed(tokens, hook)
        for index in range(self.parameters.shape.n_layer):
            residual = self.layer(index, residual, state, hook)
        return self.head(residual, hook)
