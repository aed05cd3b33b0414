"""Fake quantization in torch: exact integers forward, smooth gradients backward.

Values are carried as real numbers ``q 2**-f``. Scaling by a power of two is exact in floating
point, so a tensor holds golden's integer times its scale without an error as long as the integer
fits the mantissa. Gradients pass a rounding unchanged (the straight-through estimator, Bengio et
al. 2013) and stop where a value saturates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from golden.fixed_point import integer_range

__all__ = ["exact_with_gradient_of", "fake_quantize", "round_through"]


class _Replace(torch.autograd.Function):
    """Forward ``exact``, backward to ``smooth``."""

    @staticmethod
    def forward(ctx: Any, smooth: Tensor, exact: Tensor) -> Tensor:
        del ctx
        return exact.to(smooth.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        del ctx
        return gradients[0], None


def exact_with_gradient_of(smooth: Tensor, exact: Tensor) -> Tensor:
    """Return the values of ``exact`` with the gradient of ``smooth``; both have one shape."""
    result: Tensor = _Replace.apply(smooth, exact)
    return result


def round_through(values: Tensor) -> Tensor:
    """Round half to even; the gradient passes unchanged."""
    return exact_with_gradient_of(values, values.detach().round())


def fake_quantize(
    values: Tensor, scale: Tensor | float, bits: int, *, signed: bool = True
) -> Tensor:
    """Return ``values`` as a ``bits`` wide format with steps of ``1 / scale`` represents them.

    The same as :func:`golden.fixed_point.requantize` of the integers behind ``values``, if their
    product with ``scale``, a power of two, is exact in the dtype. No gradient passes where the
    format saturates.
    """
    low, high = integer_range(bits, signed=signed)
    return round_through(values * scale).clamp(low, high) / scale
