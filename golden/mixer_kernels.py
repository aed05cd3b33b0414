"""Compiled loops of convolution, selection, scan, moving average and gates.

Exact for the reasons of :mod:`golden.kernels`. A loop with a table look-up stands alone, so that
the others vectorise.

Symbols: b rows of a batch, t tokens, p positions (b times t), c convolved channels, g groups, m
hidden channels of an MLP, and d, e, n, r, h, K as in :class:`golden.configuration.NetworkShape`.
"""

from __future__ import annotations

import numpy as np

from golden.kernel_tools import Array, helper, kernel, narrow
from golden.lookup import ACTIVATION_ORIGIN
from golden.piecewise import EXPONENT_BITS

_ARGUMENT_LIMIT = float((1 << EXPONENT_BITS) - 1)
_ACTIVATION_LIMIT = float(ACTIVATION_ORIGIN - 1)
_ORIGIN = np.int32(ACTIVATION_ORIGIN)


@helper
def _entries(total: Array, bias: Array, scale: Array, entry: Array) -> None:
    """Write the look-up entry of requantized accumulators: totals, bias, scale, entry (e,)."""
    for e in range(len(scale)):
        value = narrow((total[e] + bias[e]) * scale[e], _ACTIVATION_LIMIT)
        entry[e] = np.int32(value) + _ORIGIN


@helper
def _look_up(table: Array, entry: Array, out: Array) -> None:
    for e in range(len(entry)):
        # An unsigned index spares Python's rule for negative ones.
        out[e] = table[np.uint32(entry[e])]


@helper
def _look_up_channels(tables: Array, which: Array, entry: Array, out: Array) -> None:
    """Look up entry (e,) in each channel's own one of the tables (s, 2**18)."""
    for e in range(len(entry)):
        out[e] = tables[np.uint32(which[e]), np.uint32(entry[e])]


@kernel
def convolve(
    total: Array,
    window: Array,
    x_scale: Array,
    x_limit: float,
    taps: Array,
    bias: Array,
    scale: Array,
    u_tables: Array,
    u_which: Array,
    scan_tables: Array,
    scan_which: Array,
    u: Array,
    scan_u: Array,
) -> None:
    """Requantize x, convolve, apply SiLU twice requantized; advance ``window``.

    Shapes: total (b, t, rows), of which x is the first c; u, scan_u (b, t, c); window
    (b, K - 1, c) integers; taps (K, c); tables (s, 2**18), and which of them (c,).
    """
    batch, length, channels = u.shape
    past = window.shape[1]
    x = np.empty((past + length, channels))
    mixed = np.empty(channels)
    entry = np.empty(channels, np.int32)
    for i in range(batch):
        for tap in range(past):
            for e in range(channels):
                x[tap, e] = window[i, tap, e]
        for t in range(length):
            for e in range(channels):
                x[past + t, e] = narrow(total[i, t, e] * x_scale[e], x_limit)
            for e in range(channels):
                mixed[e] = x[t, e] * taps[0, e]
            for tap in range(1, past + 1):
                for e in range(channels):
                    mixed[e] += x[t + tap, e] * taps[tap, e]
            _entries(mixed, bias, scale, entry)
            _look_up_channels(u_tables, u_which, entry, u[i, t])
            _look_up_channels(scan_tables, scan_which, entry, scan_u[i, t])
        for tap in range(past):
            for e in range(channels):
                window[i, tap, e] = np.int64(x[length + tap, e])


@helper
def _advance(
    state: Array,
    delta: Array,
    u: Array,
    b: Array,
    c: Array,
    constants: tuple[Array, ...],
    limits: tuple[float, ...],
    entry: Array,
    factor: Array,
    drive: Array,
    y: Array,
) -> None:
    """Advance the state (n, e) of channels that share b and c (n,) by one token; write y (e,).

    Where rate is (1, e) all states of a channel share their decay.
    """
    rate, decay, update_scale, skip, output_scale = constants
    argument_scale, decay_scale, update_limit, state_limit, output_limit, _ = limits
    states, channels = state.shape
    for e in range(channels):
        drive[e] = delta[e] * u[e] * update_scale[e]
        y[e] = skip[e] * u[e]
    for n in range(states):
        if n < len(rate):
            for e in range(channels):
                argument = np.rint(delta[e] * rate[n, e] * argument_scale)
                entry[e] = np.int32(min(argument, _ARGUMENT_LIMIT))
            _look_up(decay, entry, factor)
        own_b, own_c = b[n], c[n]
        for e in range(channels):
            update = narrow(drive[e] * own_b, update_limit)
            new = narrow((factor[e] * state[n, e] + update) * decay_scale, state_limit)
            state[n, e] = new
            y[e] += new * own_c
    for e in range(channels):
        y[e] = narrow(y[e] * output_scale[e], output_limit)


@kernel
def step_sizes(total: Array, constants: tuple[Array, ...], delta: Array) -> None:
    """Write the step sizes (p, e) of dt_proj's accumulators: bias, scale (e,) and look-up table."""
    bias, scale, table = constants
    entry = np.empty(len(bias), np.int32)
    for p in range(len(total)):
        _entries(total[p], bias, scale, entry)
        _look_up(table, entry, delta[p])


@kernel
def head_step_sizes(
    total: Array,
    first: int,
    constants: tuple[Array, ...],
    low: float,
    high: float,
    delta: Array,
) -> None:
    """Write every channel's step size, (p, e), from in_proj's accumulators of dt.

    ``total`` is (p, rows), with dt's h rows from ``first`` on; bias and scale (h,). The bias is
    added behind the rounding, and all channels of a head get the same.
    """
    bias, scale, table = constants
    heads = len(bias)
    size = delta.shape[1] // heads
    for p in range(len(total)):
        for head in range(heads):
            raw = narrow(total[p, first + head] * scale[head], _ACTIVATION_LIMIT)
            raw = narrow(raw + bias[head], _ACTIVATION_LIMIT)
            step = min(max(table[np.uint32(np.int32(raw) + _ORIGIN)], low), high)
            delta[p, head * size : (head + 1) * size] = step


@kernel
def scan_and_gate(
    delta: Array,
    total: Array,
    scan_u: Array,
    selected: Array,
    state: Array,
    z_constants: tuple[Array, ...],
    constants: tuple[Array, ...],
    limits: tuple[float, ...],
    gated: Array,
) -> None:
    """Selective scan, SiLU of z and gate; advance ``state``.

    Parameters
    ----------
    delta : step sizes, (b, t, e)
    total : accumulators of in_proj, of which z is the last e, (b, t, rows)
    scan_u : its first e channels, (b, t, c)
    selected : B and C at its end, (b, t, .. + 2 g n)
    state : integers (b, e, n)
    z_constants : bias (e,), scale (e,), look-up table
    constants : rate (g, n, e / g) or (g, 1, e / g), decay table, scales of update (e,), skip (e,),
        scales of output and gated (e,)
    limits : scale of the argument, scale of decay, limits of update, state, output and gated
    gated : result, (b, t, e)
    """
    batch, length, channels = gated.shape
    rate, decay, update_scale, skip, output_scale, gated_scale = constants
    groups, states, width = len(rate), state.shape[2], channels // len(rate)
    hidden = np.empty((groups, states, width))
    step, gate, y = np.empty(channels), np.empty(channels), np.empty(channels)
    factor, drive = np.empty(width), np.empty(width)
    entry, gate_entry = np.empty(width, np.int32), np.empty(channels, np.int32)
    first_c = selected.shape[2] - groups * states
    first_b, first_z = first_c - groups * states, total.shape[2] - channels
    for i in range(batch):
        for group in range(groups):
            for e in range(width):
                for n in range(states):
                    hidden[group, n, e] = state[i, group * width + e, n]
        for t in range(length):
            step[:] = delta[i, t]
            for group in range(groups):
                lo, hi, n = group * width, (group + 1) * width, group * states
                own = (rate[group], decay, update_scale[lo:hi], skip[lo:hi], output_scale[lo:hi])
                b = selected[i, t, first_b + n : first_b + n + states]
                c = selected[i, t, first_c + n : first_c + n + states]
                u = scan_u[i, t, lo:hi]
                _advance(
                    hidden[group], step[lo:hi], u, b, c, own, limits, entry, factor, drive, y[lo:hi]
                )
            _entries(total[i, t, first_z:], z_constants[0], z_constants[1], gate_entry)
            _look_up(z_constants[2], gate_entry, gate)
            for e in range(channels):
                gated[i, t, e] = narrow(y[e] * gate[e] * gated_scale[e], limits[5])
        for group in range(groups):
            for e in range(width):
                for n in range(states):
                    state[i, group * width + e, n] = np.int64(hidden[group, n, e])


@kernel
def average_and_gate(
    argument: Array,
    total: Array,
    scan_u: Array,
    state: Array,
    argument_constants: tuple[Array, ...],
    z_constants: tuple[Array, ...] | None,
    gated_scale: Array,
    limits: tuple[float, float, float],
    gated: Array,
) -> None:
    """Sigmoid, moving average, SiLU of z and gate; advance ``state``.

    Parameters
    ----------
    argument : accumulators of dt_proj, (b, t, e)
    total : accumulators of in_proj, of which z is the second half, (b, t, 2e)
    scan_u : (b, t, e)
    state : integers (b, e, 1)
    argument_constants, z_constants : bias (e,), scale (e,), look-up table; no z without a gate
    gated_scale : (e,)
    limits : scale of the input, scale of the weights, limit of gated
    gated : result, (b, t, e)
    """
    batch, length, channels = gated.shape
    average, decay, gate = np.empty(channels), np.empty(channels), np.ones(channels)
    entry = np.empty(channels, np.int32)
    input_scale, decay_scale, gated_limit = limits
    for i in range(batch):
        for e in range(channels):
            average[e] = state[i, e, 0]
        for t in range(length):
            _entries(argument[i, t], argument_constants[0], argument_constants[1], entry)
            _look_up(argument_constants[2], entry, decay)
            if z_constants is not None:
                _entries(total[i, t, channels:], z_constants[0], z_constants[1], entry)
                _look_up(z_constants[2], entry, gate)
            for e in range(channels):
                v = scan_u[i, t, e] * input_scale
                average[e] = np.rint(v + decay[e] * (average[e] - v) * decay_scale)
                gated[i, t, e] = narrow(average[e] * gate[e] * gated_scale[e], gated_limit)
        for e in range(channels):
            state[i, e, 0] = np.int64(average[e])


@kernel
def gate(
    z: Array,
    up: Array,
    z_constants: tuple[Array, ...],
    up_constants: tuple[Array, float],
    gated_constants: tuple[Array, float],
    gated: Array,
) -> None:
    """Write ``up SiLU(z)`` of an MLP.

    Parameters
    ----------
    z, up : accumulators (p, m)
    z_constants : bias (m,), scale (m,), look-up table
    up_constants, gated_constants : scale (m,), limit
    gated : result, (p, m)
    """
    bias, z_scale, table = z_constants
    up_scale, up_limit = up_constants
    scale, limit = gated_constants
    channels = len(scale)
    factor, entry = np.empty(channels), np.empty(channels, np.int32)
    for p in range(len(z)):
        _entries(z[p], bias, z_scale, entry)
        _look_up(table, entry, factor)
        for m in range(channels):
            value = narrow(up[p, m] * up_scale[m], up_limit)
            gated[p, m] = narrow(value * factor[m] * scale[m], limit)
