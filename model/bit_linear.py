"""BitLinear: ternary weights, activations rounded a token, trained straight through.

BitNet b1.58 (Ma et al. 2024, arXiv:2402.17764): with ``gamma = mean |W|`` a weight is
``gamma round(clamp(W / gamma, -1, 1))`` and an activation ``s round(x / s)`` with
``s = max |x| / 127`` of its token. Gradients pass both roundings unchanged. Beside the
projections, the parameters of the scan are rounded as well: its step sizes, B and C a token,
and its rates once for all tokens.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.straight_through import exact_with_gradient_of, round_through

__all__ = [
    "DELTA_LIMIT", "BitLinear", "TernaryScale", "linear_layer", "round_rates", "round_token",
    "weight_of",
]  # fmt: skip

TernaryScale = Literal["mean", "power-of-two"]
"""``mean``: gamma is the matrix's mean magnitude, as published. ``power-of-two``: a row's mean
magnitude, rounded to the nearest power of two, which a shift of the row's sum multiplies by."""

DELTA_LIMIT = 4095.0
"""Levels of a step size, 12 bits without a sign."""
_EPSILON = 1e-8
_ACTIVATION_LIMIT = 127.0
_RATE_FRACTION, _RATE_LIMIT = 6, 1023.0
"""Rates ``-A log2(e)``: 10 bits, steps of 1/64. Larger ones decay to nothing at once."""


def _token_scale(values: Tensor, limit: float) -> Tensor:
    return values.detach().abs().amax(dim=-1, keepdim=True).clamp(min=_EPSILON) / limit


def round_token(values: Tensor, limit: float = _ACTIVATION_LIMIT) -> Tensor:
    """Round (..., width) to multiples of ``max |values| / limit``, the maximum a token's."""
    scale = _token_scale(values.float(), limit)
    return (round_through(values.float() / scale) * scale).to(values.dtype)


def round_rates(rates: Tensor) -> Tensor:
    """Round rates ``-A`` (e, n) as the scan stores them, times log2(e); gradients pass."""
    scaled = rates * (math.log2(math.e) * 2.0**_RATE_FRACTION)
    exact = scaled.detach().round().clamp(max=_RATE_LIMIT)
    return exact_with_gradient_of(scaled, exact) / (math.log2(math.e) * 2.0**_RATE_FRACTION)


class BitLinear(nn.Linear):
    """A projection with ternary weights, ``y = gamma s (round(x / s) T) + bias``.

    Parameters
    ----------
    inputs, outputs : sizes
    bias : whether there is one; it stays real
    scale : how gamma is found
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool, scale: TernaryScale) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.ternary_scale: TernaryScale = scale

    def gamma(self) -> Tensor:
        """Return the weights' scale, (rows, 1) or (1, 1), without a gradient."""
        magnitude = self.weight.detach().float().abs()
        if self.ternary_scale == "mean":
            return magnitude.mean().clamp(min=_EPSILON).reshape(1, 1)
        rows = magnitude.mean(dim=1, keepdim=True).clamp(min=_EPSILON)
        return torch.exp2(torch.log2(rows).round())

    def ternary(self, gamma: Tensor) -> Tensor:
        """Return ``round(clamp(W / gamma, -1, 1))``; the gradient is that of ``W / gamma``."""
        scaled = self.weight.float() / gamma
        return exact_with_gradient_of(scaled, scaled.detach().clamp(-1.0, 1.0).round())

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        gamma, scale = self.gamma(), _token_scale(x.float(), _ACTIVATION_LIMIT)
        codes = round_through(x.float() / scale)
        total = functional.linear(codes, self.ternary(gamma))
        result = total * (scale * gamma.T)
        if self.bias is not None:
            result = result + self.bias
        return result.to(total.dtype)


def linear_layer(
    inputs: int, outputs: int, *, bias: bool, ternary: TernaryScale | None
) -> nn.Linear:
    """Return a linear layer, a :class:`BitLinear` if ``ternary`` says how it is scaled."""
    if ternary is None:
        return nn.Linear(inputs, outputs, bias=bias)
    return BitLinear(inputs, outputs, bias=bias, scale=ternary)


def weight_of(linear: nn.Linear) -> Tensor:
    """Return the weights (rows, columns) that products use: ternary ones as gamma times codes."""
    if isinstance(linear, BitLinear):
        gamma = linear.gamma()
        return linear.ternary(gamma).detach() * gamma
    return linear.weight
