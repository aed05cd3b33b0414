"""The scan of Mamba-2 (state-space duality, Dao and Gu, arXiv:2405.21060) in plain PyTorch.

Per batch ``b``, head ``h``, channel of the head ``p`` and state ``n``, with one decay a head::

    H_t = exp(delta_t A) H_{t-1} + delta_t x_t B_t
    y_t = sum_n C_t H_t + D x_t

Shapes: x (b, l, h, p); delta (b, l, h); A and D (h), A negative; B and C (b, l, g, n), head h
reads group ``h // (heads / g)``; the state (b, h, p, n).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from model.scan import linear_recurrence

__all__ = ["chunked_scan", "scan_step", "sequential_scan"]

_CHUNK = 64


def scan_step(
    state: Tensor, x: Tensor, delta: Tensor, transition: Tensor, b: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``(sum_n C H, H)`` after one token: ``selective_state_update`` of the official code.

    state (b, h, p, n), x (b, h, p), delta (b, h), ``transition`` = A (h), b and c (b, g, n).
    """
    heads = x.shape[1] // b.shape[1]
    b, c = b.repeat_interleave(heads, dim=1), c.repeat_interleave(heads, dim=1)  # b h n
    decay = torch.exp(delta * transition)[..., None, None]  # b h 1 1
    state = decay * state + (delta[..., None] * x)[..., None] * b[:, :, None]  # b h p n
    return torch.einsum("bhpn,bhn->bhp", state, c), state


def sequential_scan(
    x: Tensor, delta: Tensor, transition: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what :func:`chunked_scan` does, one step after the other; its yardstick."""
    outputs = []
    for t in range(x.shape[1]):
        y, state = scan_step(state, x[:, t], delta[:, t], transition, b[:, t], c[:, t])
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def chunked_scan(
    x: Tensor, delta: Tensor, transition: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``(sum_n C H, last H)`` of a sequence: paper, listing 1.

    Inside a chunk y is a masked product of C, B and decays, as in attention; chunk ends follow by
    a recurrence of logarithmic depth. Exponents are sums of ``delta A``, so none exceeds zero.
    """
    length, chunk = x.shape[1], min(_CHUNK, x.shape[1])
    padding = -length % chunk
    drive = x * delta[..., None]  # b l h p
    exponent = delta * transition  # b l h
    drive, exponent, b, c = (
        functional.pad(value, [0, 0] * (value.dim() - 2) + [0, padding]).unflatten(1, (-1, chunk))
        for value in (drive, exponent, b, c)
    )  # b k t ...
    total = exponent.cumsum(dim=2)  # b k t h
    heads = x.shape[2] // b.shape[3]
    inside = _inside(drive, total, b, c, heads)  # b k t h p
    wide_b, wide_c = (value.repeat_interleave(heads, dim=3) for value in (b, c))  # b k t h n
    to_end = torch.exp(total[:, :, -1:] - total)  # b k t h
    added = torch.einsum("bkthn,bkth,bkthp->bkhpn", wide_b, to_end, drive)
    decay = torch.exp(total[:, :, -1])[..., None, None].expand_as(added)  # b k h p n
    ends = linear_recurrence(decay, added, state)  # b k h p n
    starts = torch.cat([state[:, None], ends[:, :-1]], dim=1)  # b k h p n
    carried = torch.einsum("bkthn,bkhpn->bkthp", wide_c, starts) * torch.exp(total)[..., None]
    return (inside + carried).flatten(1, 2)[:, :length], ends[:, -1]


def _inside(drive: Tensor, total: Tensor, b: Tensor, c: Tensor, heads: int) -> Tensor:
    """Return what the tokens of a chunk add to its own outputs, (b, k, t, h, p).

    drive (b, k, s, h, p), ``total`` of exponents up to each token (b, k, t, h), b and c
    (b, k, t, g, n).
    """
    span = total[:, :, :, None] - total[:, :, None]  # b k t s h
    later = torch.ones(span.shape[2:4], dtype=torch.bool, device=span.device).tril()  # t s
    decay = torch.exp(span.masked_fill(~later[..., None], -torch.inf))  # b k t s h
    scores = torch.einsum("bktgn,bksgn->bktsg", c, b).repeat_interleave(heads, dim=4)
    return torch.einsum("bktsh,bkshp->bkthp", scores * decay, drive)
