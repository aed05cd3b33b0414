"""Golden's RMSNorm in torch: its integers exactly, with the gradient of the real one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from golden.operations.normalization import NORMALIZED_BITS, NORMALIZED_FRACTION
from golden.piecewise import (
    MANTISSA_BITS,
    RECIPROCAL_BASE_FRACTION,
    RECIPROCAL_FRACTION,
    RECIPROCAL_SEGMENTS_LOG2,
    RECIPROCAL_SLOPE_FRACTION,
    LinearTable,
)
from model.straight_through import exact_with_gradient_of

__all__ = ["Normalization"]

_DOUBLE_MANTISSA, _DOUBLE_BIAS = 52, 1023  # of a float64, which torch compiles better than frexp
_LIMIT = (1 << (NORMALIZED_BITS - 1)) - 1


class Normalization(nn.Module):
    """``r / sqrt(sum(r**2))`` as golden rounds it, without the weight.

    Parameters
    ----------
    table : of the reciprocal square root
    scale, epsilon : of the residual's format, see :func:`golden.operations.normalization.rms_norm`
    """

    base: Tensor
    slope: Tensor

    def __init__(self, table: LinearTable, scale: float, epsilon: int) -> None:
        super().__init__()
        self.scale, self.epsilon = scale, epsilon
        self.register_buffer("base", torch.as_tensor(table.base))
        self.register_buffer("slope", torch.as_tensor(table.slope))

    def forward(self, residual: Tensor) -> Tensor:
        """Map real values (..., d) to float64 ones."""
        integers = residual.double() * self.scale
        total = integers.square().sum(-1, keepdim=True) + self.epsilon
        smooth = integers * total.rsqrt()
        with torch.no_grad():
            root, half = self._reciprocal_root(total)
            normalized = (integers * root * torch.exp2(-half)).round().clamp(-_LIMIT - 1, _LIMIT)
        return exact_with_gradient_of(smooth, normalized * 2.0**-NORMALIZED_FRACTION)

    def _reciprocal_root(self, total: Tensor) -> tuple[Tensor, Tensor]:
        """As :func:`golden.operations.normalization.reciprocal_root`, of float64 integers."""
        exponent = (total.view(torch.int64) >> _DOUBLE_MANTISSA) - _DOUBLE_BIAS
        half = (exponent >> 1).double()
        mantissa = (total * torch.exp2(MANTISSA_BITS - 2 - 2 * half)).round()
        mantissa = mantissa.clamp(max=(1 << MANTISSA_BITS) - 1).long()
        upper = mantissa >> (MANTISSA_BITS - 1)
        octave = torch.where(upper == 1, mantissa, mantissa << 1) & ((1 << (MANTISSA_BITS - 1)) - 1)
        offset_bits = MANTISSA_BITS - 1 - RECIPROCAL_SEGMENTS_LOG2
        segment = (upper << RECIPROCAL_SEGMENTS_LOG2) + (octave >> offset_bits)
        offset = (octave & ((1 << offset_bits) - 1)) >> (1 - upper)
        lowered = RECIPROCAL_SLOPE_FRACTION - RECIPROCAL_BASE_FRACTION
        root = (self.base[segment] << lowered) - self.slope[segment] * offset
        dropped = RECIPROCAL_SLOPE_FRACTION - RECIPROCAL_FRACTION
        return (root.double() * 2.0**-dropped).round(), half
