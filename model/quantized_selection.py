"""Where step size, B and C come from in the trainable twin of a block, by family.

Both kinds map u (b, l, c) and in_proj's rows of dt (b, l, h), none in Mamba-1, to the step sizes
(b, l, e) and to B and C (b, l, g, n).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.layer import ProjectedSelection, Selection
from golden.lookup import softplus_lookup
from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_INPUT_FRACTION
from golden.program import Program
from model.quantized_parts import (
    Activation,
    Watch,
    WeightedNorm,
    activation_input,
    power,
    stored_bias,
    stored_matrix,
    trained,
)
from model.quantized_scan import ScanScales
from model.straight_through import clamp_through, fake_quantize

__all__ = ["QuantizedHeads", "QuantizedProjections"]


def _softplus(program: Program, index: int) -> Activation:
    table, bits = program.tables.softplus, program.scheme.delta_bits
    return Activation(
        functional.softplus, lambda shift: softplus_lookup(table, shift, bits),
        program.scan_shifts[index].delta, program.scan_layers[index].formats.delta,
    )  # fmt: skip


class QuantizedProjections(nn.Module):
    """The selection of a Mamba-1 block: x_proj, dt_proj, softplus."""

    scale: Tensor
    u_finer: Tensor

    def __init__(self, program: Program, index: int) -> None:
        super().__init__()
        self.scheme, self.index = program.scheme, index
        layer, shape = program.scan_layers[index], program.shape
        formats, self.own = layer.formats, layer.projected
        weights = (self.scheme.weight_bits, self.scheme.weight_range)
        self.x_proj = stored_matrix(layer.x_proj, *weights)
        self.dt_proj = stored_matrix(layer.dt_proj, *weights)
        self.dt_bias = stored_bias(layer.dt_proj.bias, layer.dt_proj.fraction_bits + formats.dt)
        self.softplus = _softplus(program, index)
        self.counts = [shape.dt_rank, shape.d_state, shape.d_state]
        projected = np.repeat([formats.dt, formats.b, formats.c], self.counts)
        self.register_buffer("scale", power(projected))
        self.register_buffer("u_finer", power(formats.u_channel))

    def forward(
        self, u: Tensor, dt: Tensor, scales: ScanScales, watch: Watch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return step sizes, B and C; neither ``dt`` nor ``scales`` is used."""
        del dt, scales
        projected = (u * self.u_finer.to(u)) @ self.x_proj.real().to(u).T  # b l r+2n
        projected = fake_quantize(projected, self.scale.to(u), self.scheme.activation_bits)
        watch("projected", self.index, projected)
        low, b, c = projected.split(self.counts, dim=-1)
        raw = low.double() @ self.dt_proj.real().T + self.dt_bias.real()  # b l e
        delta = self.softplus(activation_input(raw).to(u))  # b l e
        watch("delta", self.index, delta)
        return delta, b[:, :, None], c[:, :, None]

    def written(self) -> Selection:
        """Return the trained integers."""
        return ProjectedSelection(
            x_proj=trained(self.own.x_proj, self.x_proj),
            dt_proj=trained(self.own.dt_proj, self.dt_proj, self.dt_bias),
        )


class QuantizedHeads(nn.Module):
    """The selection of a Mamba-2 block: a step size a head, B and C from the convolution.

    Members
    -------
    gate_norm : the norm of ``y SiLU(z)`` before out_proj
    """

    def __init__(self, program: Program, index: int) -> None:
        super().__init__()
        layer, self.shape, self.index = program.scan_layers[index], program.shape, index
        self.own = layer.head_selection
        self.dt_bias = stored_bias(
            self.own.dt_bias, ACTIVATION_INPUT_FRACTION, ACTIVATION_INPUT_BITS
        )
        self.softplus = _softplus(program, index)
        limits = np.array([self.own.delta_low, self.own.delta_high])
        self.low, self.high = np.ldexp(limits.astype(float), -layer.formats.delta).tolist()
        self.gate_norm = WeightedNorm(
            program, self.own.gate_norm_weight, self.own.gate_norm_fraction,
            fraction=layer.formats.before_rotation, bits=program.mixed_bits(index),
            input_fraction=self.own.product, groups=program.shape.groups,
        )  # fmt: skip

    def forward(
        self, u: Tensor, dt: Tensor, scales: ScanScales, watch: Watch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return step sizes, B and C; ``scales`` are those of the block's scan."""
        shape = self.shape
        raw = activation_input(dt)  # b l h
        watch("dt", self.index, raw)
        raw = activation_input(raw.double() + self.dt_bias.real()).to(u)  # b l h
        delta = clamp_through(self.softplus(raw), self.low, self.high)  # b l h
        watch("delta", self.index, delta)
        size = shape.d_inner // shape.step_sizes
        with torch.no_grad():
            watch("decay", self.index, scales.decay(delta, scales.rate[::size, 0]))
        b, c = u[..., shape.d_inner :].unflatten(-1, (2, shape.groups, -1)).unbind(2)  # b l g n
        return delta.repeat_interleave(size, dim=-1), b, c

    def written(self) -> Selection:
        """Return the trained integers."""
        return dataclasses.replace(
            self.own,
            dt_bias=self.dt_bias.integers(),
            gate_norm_weight=self.gate_norm.weight.integers(),
        )
