"""Comparison of the Triton scan with the plain one, values and gradients, on the user's device."""

from __future__ import annotations

import torch
from torch import Tensor

from golden.errors import InputError
from model.scan import parallel_states, read_out

__all__ = ["compare_scans"]

_TOLERANCE = 1e-4  # of the largest value: float32 sums over 200 steps in another order


def compare_scans(device: str, channels: int = 64, states: int = 16, length: int = 200) -> str:
    """Return a line with the largest relative difference; ``InputError`` where it is too large."""
    try:
        from model.scan_triton import selective_scan
    except ImportError as error:
        raise InputError(f"--check-scan: {error}; install triton") from error

    def plain(u: Tensor, delta: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        transition, input_map, output_map, skip, initial = rest
        history = parallel_states(u, delta, transition, input_map, initial)  # b l e n
        return read_out(history, output_map, u, skip), history[:, -1]

    results = []
    for scan in (plain, selective_scan):
        torch.manual_seed(0)
        arguments = [
            torch.randn(2, length, channels),  # u: b l e
            torch.rand(2, length, channels) * 0.3,  # delta: b l e
            -torch.rand(channels, states) * 4,  # A: e n
            torch.randn(2, length, states),  # B: b l n
            torch.randn(2, length, states),  # C: b l n
            torch.randn(channels),  # D: e
            torch.randn(2, channels, states),  # initial: b e n
        ]
        weight = torch.randn(2, length, channels).to(device)
        moved = [argument.to(device).requires_grad_() for argument in arguments]
        y, last = scan(*moved)
        gradients = torch.autograd.grad((y * weight).sum(), moved[:6])
        results.append([y.detach(), last.detach(), *gradients])
    names = ("y", "last state", "du", "ddelta", "dA", "dB", "dC", "dD")
    worst = 0.0
    for name, expected, found in zip(names, *results, strict=True):
        difference = float((expected - found).abs().max() / expected.abs().max())
        if not difference <= _TOLERANCE:
            raise InputError(
                f"--check-scan: {name} of the triton scan differs from the plain scan by "
                f"{difference:.2e} of its largest value, limit {_TOLERANCE:.0e}"
            )
        worst = max(worst, difference)
    return f"triton scan agrees with the plain scan, largest relative difference {worst:.1e}"
