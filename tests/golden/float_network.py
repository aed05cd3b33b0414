"""The outside judge: a program's real weights in float64, without rounding or saturation.

Written from the Mamba paper's equations, with NumPy's and SciPy's functions; nothing of the
golden operations is used, only the formats that say which real number an integer stands for.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import hadamard
from scipy.special import expit

from golden.layer import Layer, Linear
from golden.program import Program


def real(values: np.ndarray, fraction_bits) -> np.ndarray:
    return np.ldexp(values.astype(float), -np.asarray(fraction_bits))


def real_weight(linear: Linear) -> np.ndarray:
    return real(linear.weight, linear.fraction_bits[:, None])


def rms_norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weight holds sqrt(D) w, so the mean is taken with it."""
    d = x.shape[-1]
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * weight / np.sqrt(d)


def scan(delta, u, b, c, rate, skip, state):
    """Return y (l, e) and all states (l, e, n) from ``state`` (e, n).

    delta, u (l, e), b, c (l, n) or (l, e, n), rate = -A log2(e) (e, n), skip (e,).
    """
    y, states = np.empty_like(u), np.empty((len(u), *state.shape))
    for t in range(len(u)):
        decay = np.exp(-np.log(2.0) * delta[t, :, None] * rate)
        state = decay * state + delta[t, :, None] * u[t, :, None] * b[t]
        states[t] = state
        y[t] = (state * c[t]).sum(axis=-1) + skip * u[t]
    return y, states


def block(program: Program, layer: Layer, residual: np.ndarray, seen: dict) -> np.ndarray:
    """One block on one sequence, (l, d); ``seen`` receives what has a format."""
    shape, formats = program.shape, layer.formats
    e, n, c = shape.d_inner, shape.d_state, shape.convolution_channels
    norm = rms_norm(residual, real(layer.norm_weight, formats.norm_weight))
    x, dt, z = np.split(norm @ real_weight(layer.in_proj).T, [c, shape.gate_row], axis=-1)
    taps = real_weight(layer.convolution)
    bias = real(layer.convolution.bias, layer.convolution.fraction_bits + formats.x)
    seen |= {"norm": norm, "x": x}
    padded = np.concatenate([np.zeros((shape.d_conv - 1, c)), x])
    mixed = bias + sum(padded[tap : tap + len(x)] * taps[:, tap] for tap in range(shape.d_conv))
    u = mixed * expit(mixed)
    seen["u"] = u
    select = projected_selection if shape.heads is None else head_selection
    delta, b, c = select(program, layer, u, dt, seen)
    seen |= {"b": b, "c": c, "delta": delta}
    skip = real(layer.skip, formats.c + formats.state - formats.scan_u)
    rate = np.repeat(real(layer.decay_rate, formats.decay_rate), e // len(layer.decay_rate), axis=0)
    y, states = scan(delta, u[:, :e], b, c, rate, skip, np.zeros((e, n)))
    gate = z * expit(z)
    seen |= {"state": states, "scan_output": y, "gate": gate, "gated": y * gate}
    out_weight = real_weight(layer.out_proj) * np.exp2(formats.gated_channel)
    gated = y * gate
    if shape.heads is not None:
        own, groups = layer.head_selection, (shape.groups, -1)
        weight = real(own.gate_norm_weight, own.gate_norm_fraction).reshape(groups)
        gated = rms_norm(gated.reshape(len(gated), *groups), weight).reshape(gated.shape)
        seen["normed"] = gated
    if formats.rotation is not None:
        gated = seen["rotated"] = gated @ hadamard(e).T
    return residual + gated @ out_weight.T


def projected_selection(program: Program, layer: Layer, u, _dt, seen: dict):
    """Mamba-1's delta (l, e), B and C (l, n)."""
    r, n = program.shape.dt_rank, program.shape.d_state
    x_weight = real_weight(layer.x_proj) * np.exp2(layer.formats.u_channel)
    dt, b, c = np.split(u @ x_weight.T, [r, r + n], axis=-1)
    seen["dt"] = dt
    dt_bias = real(layer.dt_proj.bias, layer.dt_proj.fraction_bits + layer.formats.dt)
    return np.logaddexp(0.0, dt @ real_weight(layer.dt_proj).T + dt_bias), b, c


def head_selection(program: Program, layer: Layer, u, dt, _seen: dict):
    """Mamba-2's delta (l, e), B and C (l, e, n): channel e is of head e // P."""
    shape, own, formats = program.shape, layer.head_selection, layer.formats
    delta = np.logaddexp(0.0, dt + real(own.dt_bias, 12))
    low, high = (real(np.array(bound), formats.delta) for bound in (own.delta_low, own.delta_high))
    channel = np.arange(shape.d_inner)
    b, c = u[:, shape.d_inner :].reshape(len(u), 2, shape.groups, shape.d_state).swapaxes(0, 1)
    group = channel // (shape.d_inner // shape.groups)
    return np.clip(delta, low, high)[:, channel // shape.heads.size], b[:, group], c[:, group]


def blocks(program: Program, residual: np.ndarray) -> tuple[np.ndarray, list[dict]]:
    """The residual (l, d) behind all blocks, and what every block saw."""
    seen: list[dict] = [{} for _ in program.layers]
    for layer, tensors in zip(program.layers, seen, strict=True):
        residual = block(program, layer, residual, tensors)
    return residual, seen


def real_bias(linear: Linear, input_fraction) -> np.ndarray:
    return real(linear.bias, linear.fraction_bits + input_fraction)


def frame_outputs(program: Program, features: np.ndarray) -> tuple[np.ndarray, list[dict], dict]:
    """Outputs (V,) of the real features (T, F) of one frame, what blocks saw, and its hidden."""
    front, pooled = program.feature_embedding, program.pooled_head
    weight = real_weight(front.projection) * np.exp2(front.channel)
    bias = real(front.bias, front.projection.fraction_bits + front.fraction)
    residual, seen = blocks(program, features @ weight.T + bias)
    weight = real(program.final_norm_weight, program.final_norm_weight_fraction)
    norm = rms_norm(residual.mean(axis=0), weight)
    raw = norm @ real_weight(pooled.hidden).T
    raw += real_bias(pooled.hidden, program.final_norm_fraction)
    hidden = raw * expit(raw)
    head_bias = real_bias(program.head, pooled.hidden_fraction)
    result = hidden @ real_weight(program.head).T + head_bias
    return result, seen, {"final_norm": norm, "hidden": hidden}


def logits(program: Program, tokens: np.ndarray) -> tuple[np.ndarray, list[dict]]:
    """Logits (l, V) of one sequence (l,), and what every block saw."""
    front = program.token_embedding
    residual = real(front.table, (program.residual_fraction - front.shift)[:, None])[tokens]
    residual, seen = blocks(program, residual)
    weight = real(program.final_norm_weight, program.final_norm_weight_fraction)
    norm = rms_norm(residual, weight)
    return norm @ real_weight(program.head).T, seen
