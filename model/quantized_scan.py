"""The integer scan as a differentiable torch function.

Forward runs golden's recurrence on integers, backward differentiates the real one,

    h = exp(-delta rate) h + delta u B,    y = sum_n C h + D u,

at the rounded values: roundings pass gradients unchanged, a saturated state or output only those
that lead back inside (:mod:`model.straight_through`), and the rates are constants. On a GPU both
directions are Triton kernels (:mod:`model.quantized_scan_triton`); elsewhere forward is
:mod:`golden.operations.scan` itself. Shapes: b rows, l tokens, e channels, n states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from golden.fixed_point import integer_range
from golden.layer import LayerFormats
from golden.lookup import decay_lookup
from golden.operations.scan import ScanConstants, scan_step
from golden.piecewise import EXPONENT_FRACTION

__all__ = ["ScanScales", "quantized_scan"]


@dataclass(frozen=True)
class ScanScales:
    """Constants of one layer's scan on one device.

    Members
    -------
    golden : the integer constants; its skip is not read, it is trained
    delta, b, c : scales (integers a unit) of scalars' formats
    u, state, y : scales of a channel (e,)
    rate : integers of the rates (e, n), or (e, 1) where all states of a channel decay alike
    decay_table : golden's decay of every argument, (2**16,)
    argument, update, output : factors that drop bits: scalar, (e,), (e,)
    """

    golden: ScanConstants
    delta: float
    b: float
    c: float
    u: Tensor
    state: Tensor
    y: Tensor
    rate: Tensor
    decay_table: Tensor
    argument: float
    update: Tensor
    output: Tensor

    @property
    def natural(self) -> float:
        """What an integer of delta times one of the rate adds to the decay's natural logarithm."""
        return self.argument * 2.0**-EXPONENT_FRACTION * math.log(2.0)

    def decay(self, delta: Tensor, rate: Tensor) -> Tensor:
        """Return golden's decays of real ``delta`` times integer ``rate``, in delta's dtype."""
        argument = (delta.double() * self.delta * rate * self.argument).round()
        factor = self.decay_table[argument.clamp(max=len(self.decay_table) - 1).long()]
        return factor.to(delta) * 2.0**-self.golden.decay_bits

    @classmethod
    def of(cls, golden: ScanConstants, formats: LayerFormats, device: torch.device) -> ScanScales:
        """Return the constants of a layer with ``formats`` on ``device``."""

        def power(exponent: Any) -> Tensor:
            return torch.as_tensor(np.ldexp(1.0, exponent), device=device)

        table = decay_lookup(golden.table, golden.decay_bits).copy()
        return cls(
            golden=golden,
            delta=2.0**formats.delta,
            b=2.0**formats.b,
            c=2.0**formats.c,
            u=power(formats.scan_u),
            state=power(formats.state),
            y=power(formats.scan_output),
            rate=torch.from_numpy(golden.rate.astype(np.float64)).to(device),
            decay_table=torch.from_numpy(table).to(device),
            argument=2.0**-golden.argument_shift,
            update=power(-golden.update_shift),
            output=power(-golden.output_shift),
        )


def _golden_forward(
    scales: ScanScales, delta: Tensor, u: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> tuple[Tensor, Tensor]:
    """Return integers y (b, l, e) and states (b, l, e, n) by the golden model."""

    def integers(values: Tensor) -> Any:
        return values.double().round().long().cpu().numpy()

    batch, length, channels = u.shape
    state, width = np.zeros((batch, channels, b.shape[3]), np.int64), channels // b.shape[2]
    d, x, b_map, c_map = (integers(values) for values in (delta, u, b, c))
    own = ScanConstants(**{**vars(scales.golden), "skip": integers(skip)})
    y = np.empty((batch, length, channels), np.int64)
    states = np.empty((batch, length, *state.shape[1:]), np.int32)
    for t in range(length):
        b_wide, c_wide = (np.repeat(value[:, t], width, axis=1) for value in (b_map, c_map))
        y[:, t], state = scan_step(state, d[:, t], x[:, t], b_wide, c_wide, own)
        states[:, t] = state
    return torch.from_numpy(y).to(u), torch.from_numpy(states).to(u.device)


def _inward(gradient: Tensor, integers: Tensor, bits: int) -> Tensor:
    """Return ``gradient`` without what leads further out where ``integers`` saturate."""
    low, high = integer_range(bits)
    above, below = integers >= high, integers <= low
    return gradient.masked_fill((above & (gradient < 0)) | (below & (gradient > 0)), 0.0)


def _plain_backward(
    scales: ScanScales, gradient: Tensor, states: Tensor,
    delta: Tensor, u: Tensor, b: Tensor, c: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of delta, u, B and C in real units, the skip's share of u left out."""
    history = states.to(gradient) / scales.state[:, None].to(gradient)  # b l e n
    natural = (scales.rate * (scales.natural * scales.delta)).to(gradient)  # e n
    flow = torch.zeros_like(history[:, 0])  # b e n
    du, ddelta, db, dc = (torch.empty_like(value) for value in (u, delta, b, c))
    groups, width = b.shape[2], u.shape[2] // b.shape[2]

    def grouped(values: Tensor) -> Tensor:
        return values.unflatten(1, (groups, width)).sum(2)  # b g n

    for t in reversed(range(delta.shape[1])):
        own = delta[:, t, :, None]  # b e 1
        b_map, c_map = (values[:, t].repeat_interleave(width, dim=1) for values in (b, c))  # b e n
        before = history[:, t - 1] if t else torch.zeros_like(flow)
        flow = flow + gradient[:, t, :, None] * c_map
        flow = _inward(flow, states[:, t], scales.golden.state_bits)
        dc[:, t] = grouped(gradient[:, t, :, None] * history[:, t])
        db[:, t] = grouped(flow * own * u[:, t, :, None])
        through = (flow * b_map).sum(-1)  # b e
        flow = flow * scales.decay(own, scales.rate)
        ddelta[:, t] = through * u[:, t] - (flow * before * natural).sum(-1)
        du[:, t] = through * delta[:, t]
    return ddelta, du, db, dc


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scales: ScanScales, delta: Tensor, u: Tensor, b: Tensor, c: Tensor, skip: Tensor
    ) -> Tensor:
        own_skip = skip * scales.c * (scales.state / scales.u).to(skip)
        y, states = _golden_forward(
            scales, delta * scales.delta, u * scales.u.to(u), b * scales.b, c * scales.c, own_skip
        )
        ctx.scales = scales
        ctx.save_for_backward(delta, u, b, c, skip, states, y)
        return y / scales.y.to(u)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        delta, u, b, c, skip, states, y = ctx.saved_tensors
        gradient = _inward(gradients[0], y, ctx.scales.golden.output_bits)
        ddelta, du, db, dc = _plain_backward(ctx.scales, gradient, states, delta, u, b, c)
        return None, ddelta, du + gradient * skip, db, dc, (gradient * u).sum((0, 1))


def quantized_scan(
    scales: ScanScales, delta: Tensor, u: Tensor, b: Tensor, c: Tensor, skip: Tensor
) -> Tensor:
    """Return y (b, l, e), rounded as the program's scan_output, from a zero state.

    ``delta``, ``u`` (b, l, e), ``b``, ``c`` (b, l, g, n) and ``skip`` (e,) are real values that
    their formats hold exactly; g divides e.
    """
    if u.is_cuda:
        from model.quantized_scan_triton import quantized_scan as fused

        return fused(scales, delta, u, b, c, skip)
    result: Tensor = _Scan.apply(scales, delta, u, b, c, skip)
    return result
