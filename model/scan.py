"""The selective scan of Mamba-1 in plain PyTorch: a step-by-step form and a log-depth form.

Both compute, per batch ``b``, channel ``e`` and state ``n`` (Mamba paper, equation 2a with the
simplified input discretization of the official ``selective_scan_ref``)::

    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t
    y_t = sum_n C_t h_t + D u_t

Shapes: ``u``, ``delta`` are (b, l, e); ``A`` is (e, n) and negative; ``B``, ``C`` are (b, l, n);
``D`` is (e); the carried state is (b, e, n).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "ScanName", "linear_recurrence", "parallel_states", "read_out", "sequential_states",
    "state_step",
]  # fmt: skip

ScanName = Literal["parallel", "sequential", "triton"]

_CHUNK = 16


def state_step(
    state: Tensor, u: Tensor, delta: Tensor, transition: Tensor, input_map: Tensor
) -> Tensor:
    """One step of the recurrence, ``selective_state_update`` of the official code.

    ``state`` (b, e, n), ``u`` and ``delta`` (b, e), ``transition`` = A (e, n), ``input_map`` = B
    (b, n). Returns the new state (b, e, n).
    """
    decay = torch.exp(delta[..., None] * transition)  # b e n
    drive = (delta * u)[..., None] * input_map[:, None, :]  # b e n
    return decay * state + drive  # b e n


def sequential_states(
    u: Tensor, delta: Tensor, transition: Tensor, input_map: Tensor, state: Tensor
) -> Tensor:
    """All states (b, l, e, n) by one step after the other; the yardstick of the parallel form."""
    states = []
    for time in range(u.shape[1]):
        state = state_step(state, u[:, time], delta[:, time], transition, input_map[:, time])
        states.append(state)
    return torch.stack(states, dim=1)  # b l e n


def parallel_states(
    u: Tensor, delta: Tensor, transition: Tensor, input_map: Tensor, state: Tensor
) -> Tensor:
    """All states (b, l, e, n) in a number of tensor operations logarithmic in the length."""
    decay = torch.exp(delta[..., None] * transition)  # b l e n
    drive = (delta * u)[..., None] * input_map[:, :, None, :]  # b l e n
    return linear_recurrence(decay, drive, state)  # b l e n


def read_out(states: Tensor, output_map: Tensor, u: Tensor, skip: Tensor) -> Tensor:
    """``y = sum_n C h + D u`` with states (b, l, e, n), C (b, l, n), u (b, l, e), D (e)."""
    y = torch.einsum("blen,bln->ble", states, output_map)  # b l e
    return y + skip * u  # b l e


def linear_recurrence(decay: Tensor, drive: Tensor, initial: Tensor) -> Tensor:
    """``h_t = decay_t h_{t-1} + drive_t`` for all t at once.

    ``decay`` and ``drive`` are (b, l, ...) and ``initial`` is (b, ...). Only products of decays
    occur, never quotients, so decays that underflow to 0 are harmless. The backward pass is the
    same recurrence run from the end, so only ``decay`` and ``h`` are kept for it.
    """
    return _LinearRecurrence.apply(decay, drive, initial)


class _LinearRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decay: Tensor, drive: Tensor, initial: Tensor) -> Tensor:
        states = _scan(decay, drive, initial)  # b l ...
        ctx.save_for_backward(decay, states, initial)
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        decay, states, initial = ctx.saved_tensors
        (gradient,) = gradients  # b l ...
        # g_t = gradient_t + decay_{t+1} g_{t+1}: the recurrence on the time-reversed sequence.
        shifted = torch.cat([decay[:, 1:], torch.zeros_like(decay[:, :1])], dim=1)  # b l ...
        flow = _scan(shifted.flip(1), gradient.flip(1), torch.zeros_like(initial)).flip(
            1
        )  # b l ...
        previous = torch.cat([initial[:, None], states[:, :-1]], dim=1)  # b l ...
        return flow * previous, flow, flow[:, 0] * decay[:, 0]


def _scan(decay: Tensor, drive: Tensor, initial: Tensor) -> Tensor:
    """Chunked Hillis-Steele scan: doubling inside chunks, then the same scan over chunk ends."""
    length = drive.shape[1]
    chunk = min(_CHUNK, 1 << max(length - 1, 0).bit_length())
    padding = -length % chunk
    trailing = [0, 0] * (drive.dim() - 2)
    if padding:
        decay = functional.pad(decay, [*trailing, 0, padding], value=1.0)
        drive = functional.pad(drive, [*trailing, 0, padding])
    shape = (drive.shape[0], -1, chunk, *drive.shape[2:])
    decay, drive = decay.reshape(shape), drive.reshape(shape)  # b c t ...
    offset = 1
    while offset < chunk:
        earlier = decay[:, :, offset:] * drive[:, :, :-offset]  # b c t-o ...
        product = decay[:, :, offset:] * decay[:, :, :-offset]  # b c t-o ...
        drive = torch.cat(
            [drive[:, :, :offset], drive[:, :, offset:] + earlier], dim=2
        )  # b c t ...
        decay = torch.cat([decay[:, :, :offset], product], dim=2)  # b c t ...
        offset *= 2
    if drive.shape[1] == 1:
        carried = initial[:, None]  # b 1 ...
    else:
        ends = _scan(decay[:, :-1, -1], drive[:, :-1, -1], initial)  # b c-1 ...
        carried = torch.cat([initial[:, None], ends], dim=1)  # b c ...
    states = drive + decay * carried[:, :, None]  # b c t ...
    return states.reshape(drive.shape[0], -1, *drive.shape[3:])[:, :length]  # b l ...
