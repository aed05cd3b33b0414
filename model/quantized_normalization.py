"""Golden's RMSNorm in torch: its integers exactly, with the gradient of the real one."""

from __future__ import annotations

import torch
from torch import Tensor

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

__all__ = ["normalize"]

_LIMIT = (1 << (NORMALIZED_BITS - 1)) - 1


def _reciprocal_root(total: Tensor, table: LinearTable) -> tuple[Tensor, Tensor]:
    """:func:`golden.operations.normalization.reciprocal_root` of float64 integers below 2**53."""
    half = torch.div(torch.frexp(total).exponent.double() - 1.0, 2.0, rounding_mode="floor")
    mantissa = (total * torch.exp2(MANTISSA_BITS - 2 - 2 * half)).round()
    mantissa = mantissa.clamp(max=(1 << MANTISSA_BITS) - 1).long()
    upper = mantissa >> (MANTISSA_BITS - 1)
    octave = torch.where(upper == 1, mantissa, mantissa << 1) & ((1 << (MANTISSA_BITS - 1)) - 1)
    offset_bits = MANTISSA_BITS - 1 - RECIPROCAL_SEGMENTS_LOG2
    segment = (upper << RECIPROCAL_SEGMENTS_LOG2) + (octave >> offset_bits)
    offset = (octave & ((1 << offset_bits) - 1)) >> (1 - upper)
    base = torch.as_tensor(table.base, device=total.device)[segment]
    slope = torch.as_tensor(table.slope, device=total.device)[segment]
    root = (base << (RECIPROCAL_SLOPE_FRACTION - RECIPROCAL_BASE_FRACTION)) - slope * offset
    dropped = RECIPROCAL_SLOPE_FRACTION - RECIPROCAL_FRACTION
    return (root.double() * 2.0**-dropped).round(), half


def normalize(residual: Tensor, scale: float, epsilon: int, table: LinearTable) -> Tensor:
    """Return ``r / sqrt(sum(r**2))`` (..., d) in float64, as golden rounds it.

    Parameters
    ----------
    residual : real values (..., d)
    scale, epsilon : of the residual's format, see :func:`golden.operations.normalization.rms_norm`
    """
    integers = residual.double() * scale
    smooth = integers * (integers.square().sum(-1, keepdim=True) + epsilon).rsqrt()
    with torch.no_grad():
        total = integers.square().sum(-1, keepdim=True) + epsilon
        root, half = _reciprocal_root(total, table)
        normalized = (integers * root * torch.exp2(-half)).round().clamp(-_LIMIT - 1, _LIMIT)
    return exact_with_gradient_of(smooth, normalized * 2.0**-NORMALIZED_FRACTION)
