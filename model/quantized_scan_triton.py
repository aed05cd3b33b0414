"""The integer scan and its gradient as Triton kernels, for :mod:`model.quantized_scan`.

A program walks the whole length for a few channels of one row: rounding makes the recurrence
sequential, while rows and channels fill the GPU. Integers are carried in float64, where every
product and sum of the contract is exact; forward keeps every state for the backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from golden.errors import InputError
from golden.fixed_point import integer_range

if TYPE_CHECKING:
    from model.quantized_scan import ScanScales

__all__ = ["quantized_scan"]

_CHANNELS, _STATES = 8, 256  # largest numbers of channels and of states of one program
_ROUND = tl.constexpr(6755399441055744.0)  # 1.5 * 2**52: adding it rounds half to even
_ARGUMENTS = tl.constexpr(65535.0)


@triton.jit
def _rounded(x):
    return (x + _ROUND) - _ROUND


@triton.jit
def _narrow(x, limit):
    return tl.minimum(tl.maximum(_rounded(x), -limit - 1.0), limit)


@triton.jit
def _factor(delta, rate, table, argument_scale):
    """Return the decays [BLOCK, RATES] that ``delta`` (BLOCK,), real or integer, looks up."""
    argument = _rounded(delta[:, None] * rate * argument_scale)
    return tl.load(table + tl.minimum(argument, _ARGUMENTS).to(tl.int32))


@triton.jit
def _scan(
    delta, u, input_map, output_map, skip, rate, table, u_scale, update_scale, output_scale, y_step,
    y, states, length, inner, groups, delta_scale, input_scale, output_map_scale, argument_scale,
    decay_scale, update_limit, state_limit, output_limit,
    N: tl.constexpr, RATES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Real delta, u (b, l, e), maps (b, l, g, n) -> real y (b, l, e), integer states (b, l, e, n).

    What the next step reads is asked for before this step computes, and delta, which the decay is
    looked up by, one step earlier still: otherwise every step waits for the memory twice.
    """
    batch = tl.program_id(1)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    tile = e[:, None] * N + n[None, :]
    group = tl.program_id(0) * BLOCK * groups // inner
    r = tl.load(rate + e[:, None] * RATES + tl.arange(0, RATES)[None, :])
    s, up = tl.load(skip + e), tl.load(update_scale + e)
    out, finer, coarse = tl.load(output_scale + e), tl.load(u_scale + e), tl.load(y_step + e)
    state = tl.zeros([BLOCK, N], tl.float64)
    first = batch.to(tl.int64) * length
    last = first + length - 1
    d = tl.load(delta + first * inner + e).to(tl.float64) * delta_scale
    later = tl.load(delta + tl.minimum(first + 1, last) * inner + e).to(tl.float64) * delta_scale
    x = tl.load(u + first * inner + e)
    b = tl.load(input_map + (first * groups + group) * N + n)
    c = tl.load(output_map + (first * groups + group) * N + n)
    factor = _factor(d, r, table, argument_scale)
    for time in range(length):
        row = first + time
        following = tl.minimum(row + 1, last)
        x_next = tl.load(u + following * inner + e)
        b_next = tl.load(input_map + (following * groups + group) * N + n)
        c_next = tl.load(output_map + (following * groups + group) * N + n)
        factor_next = _factor(later, r, table, argument_scale)
        latest = tl.load(delta + tl.minimum(row + 2, last) * inner + e)
        x_integer = x.to(tl.float64) * finer
        b_integer = b.to(tl.float64) * input_scale
        c_integer = c.to(tl.float64) * output_map_scale
        update = _narrow((d * x_integer * up)[:, None] * b_integer[None, :], update_limit)
        state = _narrow((factor.to(tl.float64) * state + update) * decay_scale, state_limit)
        tl.store(states + row * inner * N + tile, state.to(tl.int32))
        total = tl.sum(state * c_integer[None, :], axis=1) + s * x_integer
        result = _narrow(total * out, output_limit) * coarse
        tl.store(y + row * inner + e, result.to(y.dtype.element_ty))
        d, later = later, latest.to(tl.float64) * delta_scale
        x, b, c, factor = x_next, b_next, c_next, factor_next


@triton.jit
def _gradients(
    gradient, states, delta, u, input_map, output_map, rate, table, state_step,
    ddelta, du, dinput, doutput, length, inner, groups, argument_scale, natural, decay_step,
    state_limit, N: tl.constexpr, RATES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of the real recurrence, newest step first; maps' ones are partial, (k, b, l, n).

    Only ``states`` and ``rate`` are integers here; ``argument_scale`` maps delta times rate to
    the table's arguments and ``natural`` the integer rate to that of the exponential. Memory is
    asked for ahead as in :func:`_scan`.
    """
    block, batch = tl.program_id(0), tl.program_id(1)
    e = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    tile = e[:, None] * N + n[None, :]
    group = block * BLOCK * groups // inner
    r = tl.load(rate + e[:, None] * RATES + tl.arange(0, RATES)[None, :])
    speed = r.to(tl.float32) * natural
    step = tl.load(state_step + e).to(tl.float32)[:, None]
    flow = tl.zeros([BLOCK, N], tl.float32)
    partial = block.to(tl.int64) * tl.num_programs(1) * length
    first = batch.to(tl.int64) * length
    last = first + length - 1
    state = tl.load(states + last * inner * N + tile)
    d = tl.load(delta + last * inner + e)
    later = tl.load(delta + tl.maximum(last - 1, first) * inner + e)
    x = tl.load(u + last * inner + e)
    b = tl.load(input_map + (last * groups + group) * N + n)
    c = tl.load(output_map + (last * groups + group) * N + n)
    g = tl.load(gradient + last * inner + e)
    factor = _factor(d.to(tl.float64), r, table, argument_scale)
    for count in range(length):
        row = last - count
        following = tl.maximum(row - 1, first)
        before = tl.load(states + following * inner * N + tile)
        x_next = tl.load(u + following * inner + e)
        b_next = tl.load(input_map + (following * groups + group) * N + n)
        c_next = tl.load(output_map + (following * groups + group) * N + n)
        g_next = tl.load(gradient + following * inner + e)
        factor_next = _factor(later.to(tl.float64), r, table, argument_scale)
        latest = tl.load(delta + tl.maximum(row - 2, first) * inner + e)
        flow += g[:, None] * c[None, :]
        # A saturated state passes only what leads back inside.
        flow = tl.where((state >= state_limit) & (flow < 0), 0.0, flow)
        flow = tl.where((state <= -state_limit - 1) & (flow > 0), 0.0, flow)
        real = state.to(tl.float32) * step
        tl.store(doutput + (partial + row) * N + n, tl.sum(g[:, None] * real, axis=0))
        tl.store(dinput + (partial + row) * N + n, tl.sum(flow * (d * x)[:, None], axis=0))
        through = tl.sum(flow * b[None, :], axis=1)
        flow = flow * (factor * decay_step)
        earlier = before.to(tl.float32) * step
        earlier = tl.where(row > first, earlier, 0.0)  # the state starts from zero
        tl.store(ddelta + row * inner + e, through * x - tl.sum(flow * earlier * speed, axis=1))
        tl.store(du + row * inner + e, through * d)
        state, d, later = before, later, latest
        x, b, c, g, factor = x_next, b_next, c_next, g_next, factor_next


@torch.library.custom_op("scanwright::quantized_scan", mutates_args=())
def _forward(
    delta: Tensor, u: Tensor, input_map: Tensor, output_map: Tensor, skip: Tensor,
    rate: Tensor, table: Tensor, u_scale: Tensor, state_scale: Tensor, y_scale: Tensor,
    update: Tensor, output: Tensor, delta_scale: float, input_scale: float,
    output_map_scale: float, argument: float, natural: float, decay_step: float,
    update_limit: float, state_limit: float, output_limit: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return real y (b, l, e) and integer states (b, l, e, n)."""
    (batch, length, inner), (groups, n) = u.shape, input_map.shape[2:]
    channels = _channels(n)
    y = torch.empty_like(u)
    states = torch.empty(batch, length, inner, n, dtype=torch.int32, device=u.device)
    own_skip = skip.double() * output_map_scale * state_scale / u_scale
    _scan[(inner // channels, batch)](
        delta, u, input_map, output_map, own_skip, rate, table, u_scale, update, output,
        1.0 / y_scale, y, states, length, inner, groups, delta_scale, input_scale,
        output_map_scale, argument, decay_step, update_limit, state_limit, output_limit,
        N=n, RATES=rate.shape[1], BLOCK=channels, num_warps=1,
    )  # fmt: skip
    return y, states


@_forward.register_fake
def _(delta, u, input_map, *_):
    states = u.new_empty(*u.shape, input_map.shape[3], dtype=torch.int32)
    return torch.empty_like(u), states


@torch.library.custom_op("scanwright::quantized_scan_backward", mutates_args=())
def _backward(
    gradient: Tensor, y: Tensor, states: Tensor, delta: Tensor, u: Tensor, input_map: Tensor,
    output_map: Tensor, skip: Tensor, rate: Tensor, table: Tensor, state_scale: Tensor,
    y_scale: Tensor, delta_scale: float, argument: float, natural: float, decay_step: float,
    state_limit: float, output_limit: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of delta, u, B, C and the skip in real units."""
    (batch, length, inner), (groups, n) = u.shape, input_map.shape[2:]
    channels, limit = _channels(n), (output_limit / y_scale).to(y)
    blocks = inner // channels
    outward = ((y >= limit) & (gradient < 0)) | ((y <= -limit - 1.0 / y_scale) & (gradient > 0))
    gradient = gradient.masked_fill(outward, 0.0)
    ddelta, du = torch.empty_like(u), torch.empty_like(u)
    dinput, doutput = u.new_empty(2, blocks, batch, length, n)
    _gradients[(blocks, batch)](
        gradient, states, delta, u, input_map, output_map, rate, table, 1.0 / state_scale,
        ddelta, du, dinput, doutput, length, inner, groups, argument * delta_scale,
        natural * delta_scale, decay_step, state_limit,
        N=n, RATES=rate.shape[1], BLOCK=channels, num_warps=1,
    )  # fmt: skip
    du += gradient * skip
    maps = (part.unflatten(0, (groups, -1)).sum(1) for part in (dinput, doutput))  # g b l n
    db, dc = (part.permute(1, 2, 0, 3).contiguous() for part in maps)
    return ddelta, du, db, dc, (gradient * u).sum((0, 1))


@_backward.register_fake
def _(gradient, y, states, delta, u, input_map, output_map, skip, *_):
    return tuple(torch.empty_like(tensor) for tensor in (delta, u, input_map, output_map, skip))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    delta, u, input_map, output_map, skip, rate, table, _, state_scale, y_scale = inputs[:10]
    ctx.save_for_backward(
        *output, delta, u, input_map, output_map, skip, rate, table, state_scale, y_scale
    )
    delta_scale, _, _, argument, natural, decay_step, _, state_limit, output_limit = inputs[12:]
    ctx.numbers = (delta_scale, argument, natural, decay_step, state_limit, output_limit)


def _differentiate(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    found = _backward(gradient.contiguous(), *ctx.saved_tensors, *ctx.numbers)
    return *found, *(None,) * 16


_forward.register_autograd(_differentiate, setup_context=_setup_context)


def _channels(states: int) -> int:
    """Return the channels of one program, a power of two."""
    return max(1, min(_CHANNELS, _STATES // states))


def _limit(bits: int) -> float:
    return float(integer_range(bits)[1])


def quantized_scan(
    scales: ScanScales, delta: Tensor, u: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> Tensor:
    """Return what :func:`model.quantized_scan.quantized_scan` does, with its gradients.

    Raises
    ------
    InputError
        If the channels of a group are no multiple of a program's, at most 8, or the number of
        states is no power of two.
    """
    (groups, n), own = b.shape[2:], scales.golden
    width = u.shape[2] // groups
    if n & (n - 1) or width % _channels(n):
        raise InputError(
            f"d_state is {n} and {width} channels share B and C; on a GPU the scan needs a power "
            f"of two and a multiple of {_channels(n)}, train on the CPU"
        )
    y, _ = _forward(
        delta.contiguous(), u.contiguous(), b.contiguous(), c.contiguous(), skip, scales.rate,
        scales.decay_table, scales.u, scales.state, scales.y, scales.update, scales.output,
        scales.delta, scales.b, scales.c, scales.argument, scales.natural,
        2.0**-own.decay_bits, _limit(own.update_bits), _limit(own.state_bits),
        _limit(own.output_bits),
    )  # fmt: skip
    result: Tensor = y
    return result
