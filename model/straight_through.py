"""Fake quantization in torch: exact integers forward, smooth gradients backward.

Values are carried as real numbers ``q 2**-f``. Scaling by a power of two is exact in floating
point, so a tensor holds golden's integer times its scale without an error as long as the integer
fits the mantissa. Gradients pass a rounding unchanged (the straight-through estimator, Bengio et
al. 2013). Where a value saturates, only the gradient that leads back inside passes: none at all
would keep it outside for good, and one that leads further out changes nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from golden.fixed_point import integer_range

__all__ = ["clamp_through", "exact_with_gradient_of", "fake_quantize", "round_through"]


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


class _Clamp(torch.autograd.Function):
    """Forward a clamp, backward without the gradient that would lead further out."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
        ctx.save_for_backward(values > high, values < low)
        return values.clamp(low, high)  # type: ignore[arg-type]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        above, below = ctx.saved_tensors
        gradient = gradients[0]
        # Descent moves a value against its gradient.
        outward = (above & (gradient < 0)) | (below & (gradient > 0))
        return gradient.masked_fill(outward, 0.0), None, None


def clamp_through(values: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Clamp to ``low`` .. ``high``; no gradient passes that would lead further out."""
    result: Tensor = _Clamp.apply(values, low, high)
    return result


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
    product with ``scale``, a power of two, is exact in the dtype.
    """
    return fake_quantize_between(values, scale, integer_range(bits, signed=signed))


def fake_quantize_between(values: Tensor, scale: Tensor | float, limits: tuple[int, int]) -> Tensor:
    """As :func:`fake_quantize`, with the least and largest integer in place of a width."""
    low, high = limits
    return clamp_through(round_through(values * scale), low, high) / scale
