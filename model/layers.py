"""Parts that the mixers of all families share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["RMSNorm", "convolution_weights", "convolve", "initial_step_bias", "overwrite"]

_STEP_MINIMUM, _STEP_MAXIMUM, _STEP_FLOOR = 1e-3, 1e-1, 1e-4


class RMSNorm(nn.Module):
    """``x rsqrt(mean x^2 + eps) w`` over the last axis, as ``mamba_ssm``'s ``rms_norm_ref``."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))  # d

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., d)."""
        return functional.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def convolution_weights(channels: int, taps: int, *, bias: bool) -> nn.Conv1d:
    """Return the holder of a depthwise convolution's weights, (c, 1, k), and bias (c)."""
    return nn.Conv1d(channels, channels, taps, groups=channels, bias=bias)


def convolve(weights: nn.Conv1d, window: Tensor) -> Tensor:
    """Causal depthwise convolution, (b, k-1+l, c) to (b, l, c): ``causal_conv1d_ref``.

    Written as k shifted products: in this layout they need no transposition.
    """
    taps = weights.weight.shape[2]
    length = window.shape[1] - taps + 1
    weight = weights.weight[:, 0].to(window.dtype)  # c k
    result = weight[:, 0] * window[:, :length]  # b l c
    for position in range(1, taps):
        result = result + weight[:, position] * window[:, position : position + length]
    if weights.bias is not None:
        result = result + weights.bias.to(window.dtype)
    return result  # b l c


def initial_step_bias(count: int) -> Tensor:
    """Return biases (count) whose softplus is log-uniform in 1e-3 .. 1e-1: ``Mamba.__init__``."""
    low, high = math.log(_STEP_MINIMUM), math.log(_STEP_MAXIMUM)
    step = torch.exp(torch.rand(count) * (high - low) + low).clamp(min=_STEP_FLOOR)
    return step + torch.log(-torch.expm1(-step))  # inverse softplus


def overwrite(target: Tensor, value: Tensor) -> None:
    """Store a state; gradients end here, as a state outlives the pass that made it."""
    target.copy_(value.detach())
