"""The integer scan and its gradient as Triton kernels, for :mod:`model.quantized_scan`.

A program walks the whole length for a few channels of one row: rounding makes the recurrence
sequential, while rows and channels fill the GPU. Integers are carried in float64, where every
product and sum of the contract is exact; forward keeps every state for the backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from golden.fixed_point import integer_range

if TYPE_CHECKING:
    from model.quantized_scan import ScanScales

__all__ = ["backward", "forward"]

_CHANNELS = 8  # channels of one program
_ROUND = tl.constexpr(6755399441055744.0)  # 1.5 * 2**52: adding it rounds half to even
_ARGUMENTS = tl.constexpr(65535.0)


@triton.jit
def _rounded(x):
    return (x + _ROUND) - _ROUND


@triton.jit
def _narrow(x, limit):
    return tl.minimum(tl.maximum(_rounded(x), -limit - 1.0), limit)


@triton.jit
def _scan(
    delta, u, input_map, output_map, skip, rate, table, update_scale, output_scale, y, states,
    length, inner, argument_scale, decay_scale, update_limit, state_limit, output_limit,
    N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Integers: delta, u (b, l, e), maps (b, l, n) -> y (b, l, e), states (b, l, e, n)."""
    batch = tl.program_id(1)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    tile = e[:, None] * N + n[None, :]
    r = tl.load(rate + tile)
    s, up = tl.load(skip + e), tl.load(update_scale + e)
    out = tl.load(output_scale + e)
    state = tl.zeros([BLOCK, N], tl.float64)
    for time in range(length):
        row = batch.to(tl.int64) * length + time
        d = tl.load(delta + row * inner + e).to(tl.float64)
        x = tl.load(u + row * inner + e).to(tl.float64)
        b = tl.load(input_map + row * N + n).to(tl.float64)
        c = tl.load(output_map + row * N + n).to(tl.float64)
        argument = tl.minimum(_rounded(d[:, None] * r * argument_scale), _ARGUMENTS)
        factor = tl.load(table + argument.to(tl.int32)).to(tl.float64)
        update = _narrow((d * x * up)[:, None] * b[None, :], update_limit)
        state = _narrow((factor * state + update) * decay_scale, state_limit)
        tl.store(states + row * inner * N + tile, state.to(tl.int32))
        total = tl.sum(state * c[None, :], axis=1) + s * x
        tl.store(y + row * inner + e, _narrow(total * out, output_limit).to(tl.float32))


@triton.jit
def _gradients(
    gradient, states, delta, u, input_map, output_map, rate, table, state_step,
    ddelta, du, dinput, doutput, length, inner, argument_scale, natural, decay_step, state_limit,
    N: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of the real recurrence, newest step first; maps' ones are partial, (k, b, l, n).

    Only ``states`` and ``rate`` are integers here; ``argument_scale`` maps delta times rate to
    the table's arguments and ``natural`` the integer rate to that of the exponential.
    """
    block, batch = tl.program_id(0), tl.program_id(1)
    e = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    tile = e[:, None] * N + n[None, :]
    r = tl.load(rate + tile)
    speed = r.to(tl.float32) * natural
    step = tl.load(state_step + e).to(tl.float32)[:, None]
    flow = tl.zeros([BLOCK, N], tl.float32)
    partial = block.to(tl.int64) * tl.num_programs(1) * length
    last = (batch.to(tl.int64) + 1) * length - 1
    state = tl.load(states + last * inner * N + tile).to(tl.float32)
    for count in range(length):
        row = last - count
        present = count < length - 1
        before = tl.load(states + (row - 1) * inner * N + tile, mask=present & (tile >= 0), other=0)
        before = before.to(tl.float32)
        d = tl.load(delta + row * inner + e)
        x = tl.load(u + row * inner + e)
        b = tl.load(input_map + row * N + n)
        c = tl.load(output_map + row * N + n)
        g = tl.load(gradient + row * inner + e)
        argument = _rounded(d.to(tl.float64)[:, None] * r * argument_scale)
        decay = tl.load(table + tl.minimum(argument, _ARGUMENTS).to(tl.int32)) * decay_step
        flow += g[:, None] * c[None, :]
        # A saturated state passes only what leads back inside.
        flow = tl.where((state >= state_limit) & (flow < 0), 0.0, flow)
        flow = tl.where((state <= -state_limit - 1) & (flow > 0), 0.0, flow)
        tl.store(doutput + (partial + row) * N + n, tl.sum(g[:, None] * state * step, axis=0))
        tl.store(dinput + (partial + row) * N + n, tl.sum(flow * (d * x)[:, None], axis=0))
        through = tl.sum(flow * b[None, :], axis=1)
        flow = flow * decay
        tl.store(
            ddelta + row * inner + e, through * x - tl.sum(flow * before * step * speed, axis=1)
        )
        tl.store(du + row * inner + e, through * d)
        state = before


def _limit(bits: int) -> float:
    return float(integer_range(bits)[1])


def forward(
    scales: ScanScales, delta: Tensor, u: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> tuple[Tensor, Tensor]:
    """Return integers y (b, l, e) float32 and states (b, l, e, n) int32 of integer inputs."""
    (batch, length, inner), n = u.shape, b.shape[2]
    y = torch.empty(batch, length, inner, device=u.device)
    states = torch.empty(batch, length, inner, n, dtype=torch.int32, device=u.device)
    own = scales.golden
    _scan[(inner // _CHANNELS, batch)](
        delta.contiguous(), u.contiguous(), b.contiguous(), c.contiguous(), skip.double(),
        scales.rate, scales.decay_table, scales.update, scales.output, y, states, length, inner,
        scales.argument, 2.0**-own.decay_bits, _limit(own.update_bits), _limit(own.state_bits),
        _limit(own.output_bits), N=n, BLOCK=_CHANNELS, num_warps=1,
    )  # fmt: skip
    return y, states


def backward(
    scales: ScanScales, gradient: Tensor, states: Tensor,
    delta: Tensor, u: Tensor, b: Tensor, c: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of delta, u (without the skip's share), B and C in real units."""
    (batch, length, inner), n = u.shape, b.shape[2]
    blocks = inner // _CHANNELS
    ddelta, du = torch.empty_like(gradient), torch.empty_like(gradient)
    dinput, doutput = gradient.new_empty(2, blocks, batch, length, n)
    _gradients[(blocks, batch)](
        gradient, states, delta.contiguous(), u.contiguous(), b.contiguous(), c.contiguous(),
        scales.rate, scales.decay_table, 1.0 / scales.state, ddelta, du, dinput, doutput,
        length, inner, scales.argument * scales.delta,
        scales.natural * scales.delta,
        2.0**-scales.golden.decay_bits, _limit(scales.golden.state_bits),
        N=n, BLOCK=_CHANNELS, num_warps=1,
    )  # fmt: skip
    return ddelta, du, dinput.sum(0), doutput.sum(0)
