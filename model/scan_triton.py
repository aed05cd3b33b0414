"""The selective scan as Triton kernels: fused, chunk-parallel, with recomputation in backward.

Time is cut into chunks of ``_CHUNK`` steps. One pass finds what each chunk adds to a zero state,
a short pass carries states from chunk to chunk, and a last pass replays every chunk from its true
start. Only the chunk-start states stay in memory for the backward pass, which has the same three
parts with time reversed. Everything inside is float32, whatever the inputs are.

Formula, shapes and names are those of :mod:`model.scan`. Needs a GPU (or Triton's interpreter).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

__all__ = ["selective_scan"]

_CHUNK = 64  # steps
_CHANNELS = 32  # channels of one program: one warp, so that sums over states need no barrier
_CARRY = 256  # (channel, state) pairs of one carrying program


@triton.jit
def _chunk_sums(
    u, delta, transition, input_map, states, delta_sums, length, inner,
    N: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What each chunk adds to a zero state (b, c, e, n), and its sum of delta (b, c, e)."""
    chunk, batch = tl.program_id(1), tl.program_id(2)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    a = tl.load(transition + e[:, None] * N + n[None, :])
    state = tl.zeros([BLOCK, N], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    first = batch.to(tl.int64) * length + chunk * CHUNK
    for time in range(CHUNK):
        row = first + time
        d = tl.load(delta + row * inner + e).to(tl.float32)
        x = tl.load(u + row * inner + e).to(tl.float32)
        b = tl.load(input_map + row * N + n).to(tl.float32)
        state = tl.exp(d[:, None] * a) * state + (d * x)[:, None] * b[None, :]
        total += d
    index = (batch.to(tl.int64) * tl.num_programs(1) + chunk) * inner + e
    tl.store(states + index[:, None] * N + n[None, :], state)
    tl.store(delta_sums + index, total)


@triton.jit
def _carry(
    states, delta_sums, transition, edge, last, chunks, inner,
    N: tl.constexpr, BLOCK: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Replace each chunk's own sum by what enters the chunk; ``last`` is what leaves the end."""
    batch = tl.program_id(1)
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pair < inner * N
    a = tl.load(transition + pair, mask=inside, other=0.0)
    carried = tl.load(edge + batch.to(tl.int64) * inner * N + pair, mask=inside, other=0.0)
    for count in range(chunks):
        chunk = chunks - 1 - count if REVERSE else count
        index = (batch.to(tl.int64) * chunks + chunk) * inner
        d = tl.load(delta_sums + index + pair // N, mask=inside, other=0.0)
        own = tl.load(states + index * N + pair, mask=inside, other=0.0)
        tl.store(states + index * N + pair, carried, mask=inside)
        carried = tl.exp(a * d) * carried + own
    tl.store(last + batch.to(tl.int64) * inner * N + pair, carried, mask=inside)


@triton.jit
def _outputs(
    u, delta, transition, input_map, output_map, skip, starts, y, length, inner,
    N: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Replay every chunk from its true start: y (b, l, e)."""
    chunk, batch = tl.program_id(1), tl.program_id(2)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    a = tl.load(transition + e[:, None] * N + n[None, :])
    s = tl.load(skip + e)
    index = (batch.to(tl.int64) * tl.num_programs(1) + chunk) * inner + e
    state = tl.load(starts + index[:, None] * N + n[None, :])
    first = batch.to(tl.int64) * length + chunk * CHUNK
    for time in range(CHUNK):
        row = first + time
        d = tl.load(delta + row * inner + e).to(tl.float32)
        x = tl.load(u + row * inner + e).to(tl.float32)
        b = tl.load(input_map + row * N + n).to(tl.float32)
        c = tl.load(output_map + row * N + n).to(tl.float32)
        state = tl.exp(d[:, None] * a) * state + (d * x)[:, None] * b[None, :]
        tl.store(y + row * inner + e, tl.sum(state * c[None, :], axis=1) + s * x)


@triton.jit
def _flow_sums(
    delta, transition, output_map, gradient, flows, length, inner,
    N: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient that each chunk alone sends to the state before it, (b, c, e, n)."""
    chunk, batch = tl.program_id(1), tl.program_id(2)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    a = tl.load(transition + e[:, None] * N + n[None, :])
    flow = tl.zeros([BLOCK, N], tl.float32)
    first = batch.to(tl.int64) * length + chunk * CHUNK
    for count in range(CHUNK):
        row = first + CHUNK - 1 - count
        d = tl.load(delta + row * inner + e).to(tl.float32)
        c = tl.load(output_map + row * N + n).to(tl.float32)
        g = tl.load(gradient + row * inner + e).to(tl.float32)
        flow = tl.exp(d[:, None] * a) * (flow + g[:, None] * c[None, :])
    index = (batch.to(tl.int64) * tl.num_programs(1) + chunk) * inner + e
    tl.store(flows + index[:, None] * N + n[None, :], flow)


@triton.jit
def _gradients(
    u, delta, transition, input_map, output_map, skip, starts, flows, gradient, history,
    du, ddelta, dtransition, dinput, doutput, dskip, length, inner,
    N: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All gradients of one chunk; sums over batch, chunk and channel block are left to the host.

    ``history`` (b, l, e, n) is scratch memory for the states before each step.
    """
    block, chunk, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    e = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    tile = e[:, None] * N + n[None, :]
    a = tl.load(transition + tile)
    s = tl.load(skip + e)
    place = (batch.to(tl.int64) * tl.num_programs(1) + chunk) * inner
    state = tl.load(starts + place * N + tile)
    first = batch.to(tl.int64) * length + chunk * CHUNK
    for time in range(CHUNK):
        row = first + time
        tl.store(history + row * inner * N + tile, state)
        d = tl.load(delta + row * inner + e).to(tl.float32)
        x = tl.load(u + row * inner + e).to(tl.float32)
        b = tl.load(input_map + row * N + n).to(tl.float32)
        state = tl.exp(d[:, None] * a) * state + (d * x)[:, None] * b[None, :]
    tl.debug_barrier()
    flow = tl.load(flows + place * N + tile)
    sum_a = tl.zeros([BLOCK, N], tl.float32)
    sum_s = tl.zeros([BLOCK], tl.float32)
    # Row of the per-block partial sums (block, b, l, n): no atomics, so that runs repeat.
    partial = block.to(tl.int64) * tl.num_programs(2) * length
    for count in range(CHUNK):
        row = first + CHUNK - 1 - count
        d = tl.load(delta + row * inner + e).to(tl.float32)
        x = tl.load(u + row * inner + e).to(tl.float32)
        b = tl.load(input_map + row * N + n).to(tl.float32)
        c = tl.load(output_map + row * N + n).to(tl.float32)
        g = tl.load(gradient + row * inner + e).to(tl.float32)
        decay = tl.exp(d[:, None] * a)
        kept = decay * tl.load(history + row * inner * N + tile)
        drive = (d * x)[:, None] * b[None, :]
        tl.store(doutput + (partial + row) * N + n, tl.sum(g[:, None] * (kept + drive), axis=0))
        flow += g[:, None] * c[None, :]
        tl.store(dinput + (partial + row) * N + n, tl.sum(flow * (d * x)[:, None], axis=0))
        through = tl.sum(flow * b[None, :], axis=1)
        bent = flow * kept
        tl.store(ddelta + row * inner + e, tl.sum(bent * a, axis=1) + through * x)
        tl.store(du + row * inner + e, through * d + s * g)
        sum_a += bent * d[:, None]
        sum_s += g * x
        flow = decay * flow
    tl.store(dtransition + place * N + tile, sum_a)
    tl.store(dskip + place + e, sum_s)


@torch.library.custom_op("scanwright::selective_scan", mutates_args=())
def _forward(
    u: Tensor, delta: Tensor, transition: Tensor, input_map: Tensor, output_map: Tensor,
    skip: Tensor, initial: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return y (b, l, e), last state (b, e, n), chunk starts (b, c, e, n), delta sums (b, c, e)."""
    (batch, length, inner), n = u.shape, transition.shape[1]
    chunks, grid = length // _CHUNK, (inner // _CHANNELS, length // _CHUNK, batch)
    starts = delta.new_empty(batch, chunks, inner, n)
    sums = delta.new_empty(batch, chunks, inner)
    y, last = torch.empty_like(u), torch.empty_like(initial)
    sizes = {"N": n, "CHUNK": _CHUNK, "BLOCK": _CHANNELS, "num_warps": 1}
    _chunk_sums[grid](u, delta, transition, input_map, starts, sums, length, inner, **sizes)
    carry_grid = (triton.cdiv(inner * n, _CARRY), batch)
    _carry[carry_grid](
        starts, sums, transition, initial, last, chunks, inner, N=n, BLOCK=_CARRY, REVERSE=False
    )
    _outputs[grid](
        u, delta, transition, input_map, output_map, skip, starts, y, length, inner, **sizes
    )
    return y, last, starts, sums


@_forward.register_fake
def _(u, delta, transition, input_map, output_map, skip, initial):
    batch, length, inner = u.shape
    chunks, n = length // _CHUNK, transition.shape[1]
    return (
        torch.empty_like(u),
        torch.empty_like(initial),
        delta.new_empty(batch, chunks, inner, n),
        delta.new_empty(batch, chunks, inner),
    )


@torch.library.custom_op("scanwright::selective_scan_backward", mutates_args=())
def _backward(
    gradient: Tensor, u: Tensor, delta: Tensor, transition: Tensor, input_map: Tensor,
    output_map: Tensor, skip: Tensor, starts: Tensor, sums: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of u, delta, A, B, C and D; the initial state gets none."""
    (batch, length, inner), n = u.shape, transition.shape[1]
    blocks, chunks = inner // _CHANNELS, length // _CHUNK
    grid = (blocks, chunks, batch)
    sizes = {"N": n, "CHUNK": _CHUNK, "BLOCK": _CHANNELS, "num_warps": 1}
    flows, edge = torch.empty_like(starts), delta.new_zeros(batch, inner, n)
    _flow_sums[grid](delta, transition, output_map, gradient, flows, length, inner, **sizes)
    _carry[(triton.cdiv(inner * n, _CARRY), batch)](
        flows, sums, transition, edge, edge, chunks, inner, N=n, BLOCK=_CARRY, REVERSE=True
    )
    history = delta.new_empty(batch, length, inner, n)
    du, ddelta = torch.empty_like(u), torch.empty_like(delta)
    dtransition, dskip = torch.empty_like(starts), torch.empty_like(sums)
    dinput = delta.new_empty(blocks, batch, length, n)
    doutput = delta.new_empty(blocks, batch, length, n)
    _gradients[grid](
        u, delta, transition, input_map, output_map, skip, starts, flows, gradient, history,
        du, ddelta, dtransition, dinput, doutput, dskip, length, inner, **sizes,
    )  # fmt: skip
    return (
        du, ddelta, dtransition.sum((0, 1)), dinput.sum(0).to(input_map.dtype),
        doutput.sum(0).to(output_map.dtype), dskip.sum((0, 1)),
    )  # fmt: skip


@_backward.register_fake
def _(gradient, u, delta, transition, input_map, output_map, skip, starts, sums):
    inputs = (u, delta, transition, input_map, output_map, skip)
    return tuple(torch.empty_like(tensor) for tensor in inputs)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6], output[2], output[3])


def _differentiate(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    return *_backward(gradient.contiguous(), *ctx.saved_tensors), None


_forward.register_autograd(_differentiate, setup_context=_setup_context)


def selective_scan(
    u: Tensor, delta: Tensor, transition: Tensor, input_map: Tensor, output_map: Tensor,
    skip: Tensor, initial: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return y (b, l, e) and the last state (b, e, n), both as :mod:`model.scan` defines them.

    Gradients reach all arguments but ``initial``.

    Raises
    ------
    ValueError
        If the number of channels is no multiple of 32 or that of states no power of two.
    """
    length, inner, n = u.shape[1], u.shape[2], transition.shape[1]
    if inner % _CHANNELS:
        raise ValueError(f"d_inner is {inner}, the triton scan needs a multiple of {_CHANNELS}")
    if n & (n - 1):
        raise ValueError(f"d_state is {n}, the triton scan needs a power of two")
    padding = (0, 0, 0, -length % _CHUNK)  # delta 0 leaves the state as it is
    y, last, _, _ = _forward(
        functional.pad(u, padding).contiguous(),
        functional.pad(delta.float(), padding).contiguous(),
        transition.contiguous(),
        functional.pad(input_map, padding).contiguous(),
        functional.pad(output_map, padding).contiguous(),
        skip,
        initial,
    )
    return y[:, :length], last
