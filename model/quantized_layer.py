"""A block with a selective scan as a trainable twin of the program's, and the MLP behind it."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.layer import Layer
from golden.lookup import dual_scale_lookup
from golden.mlp import GatedMLP
from golden.program import Program
from model.quantized_parts import (
    Activation,
    Watch,
    WeightedNorm,
    activation_input,
    add_to_residual,
    power,
    silu,
    stored_bias,
    stored_matrix,
    trained,
)
from model.quantized_scan import ScanScales, quantized_scan
from model.quantized_selection import QuantizedHeads, QuantizedProjections
from model.rotation import hadamard_columns
from model.straight_through import fake_quantize

__all__ = ["QuantizedLayer", "QuantizedMLP"]


def _scan_activation(program: Program, index: int) -> Activation | None:
    """Return SiLU in front of the scan, where what the scan reads is a tensor of its own."""
    if not program.separate_scan_input:
        return None
    shift = program.scan_shifts[index].scan_u
    fraction = program.scan_layers[index].formats.scan_u
    dual, table = program.scheme.dual_scale, program.tables.silu
    if dual is None:
        return silu(program, shift, program.scheme.scan_input_bits, fraction)

    def look_up(own: int) -> npt.NDArray[np.float32]:
        return dual_scale_lookup(table, own, dual)

    return Activation(functional.silu, look_up, shift, fraction)


class QuantizedLayer(nn.Module):
    """Block ``index`` of a program, of Mamba-1 or Mamba-2."""

    x_scale: Tensor
    product_scale: Tensor
    gated_scale: Tensor
    gated_finer: Tensor
    rotation: Tensor | None

    def __init__(self, program: Program, index: int) -> None:
        super().__init__()
        scheme, shape = program.scheme, program.shape
        layer, shifts = program.scan_layers[index], program.scan_shifts[index]
        formats, inputs = layer.formats, program.projection_bits(index)
        weights = (scheme.weight_bits, scheme.weight_range)
        self.program, self.index = program, index
        self.norm = WeightedNorm(
            program, layer.norm_weight, formats.norm_weight, fraction=formats.norm, bits=inputs
        )
        self.in_proj = stored_matrix(layer.in_proj, *weights)
        self.taps = stored_matrix(layer.convolution, scheme.convolution_weight_bits)
        self.taps_bias = stored_bias(
            layer.convolution.bias, layer.convolution.fraction_bits + formats.x
        )
        of_u = program.u_bits if shape.heads else inputs
        u_fraction = formats.u + formats.u_channel
        self.silu_u = silu(program, shifts.u, of_u, u_fraction, formats.u_zero)
        self.silu_scan = _scan_activation(program, index)
        self.silu_gate = silu(program, shifts.gate, scheme.gate_bits, formats.gate)
        self.selection: QuantizedHeads | QuantizedProjections
        if shape.heads is None:
            self.selection = QuantizedProjections(program, index)
        else:
            self.selection = QuantizedHeads(program, index)
        skip_fraction = formats.c + formats.state - formats.scan_u
        self.skip = stored_bias(layer.skip, skip_fraction, scheme.skip_bits)
        self.out_proj = stored_matrix(layer.out_proj, *weights)
        rotated = scheme.rotation_bits is not None
        columns = torch.from_numpy(hadamard_columns(shape.d_inner)) if rotated else None
        self.register_buffer("rotation", columns)
        product = layer.head_selection.product if shape.heads else formats.before_rotation
        for name, exponent in (
            ("x_scale", formats.x),
            ("product_scale", product),
            ("gated_scale", formats.gated + formats.gated_channel),
            ("gated_finer", formats.gated_channel),
        ):
            self.register_buffer(name, power(exponent))
        self._scan_scales: dict[torch.device, ScanScales] = {}

    def _scales(self, device: torch.device) -> ScanScales:
        if device not in self._scan_scales:
            formats = self.program.scan_layers[self.index].formats
            constants = self.program.scan_constants(self.index)
            self._scan_scales[device] = ScanScales.of(constants, formats, device)
        return self._scan_scales[device]

    def forward(self, residual: Tensor, watch: Watch) -> Tensor:
        """Return the residual stream (b, l, d) after the block."""
        program, shape, index = self.program, self.program.shape, self.index
        channels, heads = shape.convolution_channels, shape.gate_row - shape.convolution_channels
        norm = self.norm(residual)
        watch("norm", index, norm)
        mixed = norm @ self.in_proj.real().to(norm).T  # b l rows
        x, dt, z = mixed.split([channels, heads, shape.d_inner], dim=-1)  # b l c, b l h, b l e
        x = fake_quantize(x, self.x_scale.to(x), program.scheme.activation_bits)
        watch("x", index, x)
        convolved = self._convolution(x)  # b l c
        watch("convolution", index, convolved)
        u = self.silu_u(convolved)  # b l c
        watch("u", index, u)
        of_scan = convolved[..., : shape.d_inner]  # b l e
        scan_u = u[..., : shape.d_inner] if self.silu_scan is None else self.silu_scan(of_scan)
        watch("scan_u", index, scan_u)
        gate = self.silu_gate(activation_input(z))  # b l e
        watch("gate", index, gate)
        scales = self._scales(u.device)
        delta, b, c = self.selection(u, dt, scales, watch)  # b l e, b l g n
        y = quantized_scan(scales, delta, scan_u, b, c, self.skip.real().to(u))  # b l e
        watch("scan_output", index, y)
        out = self._read_out(y * gate, watch) @ self.out_proj.real().to(y).T  # b l d
        residual = add_to_residual(program, residual, out)
        watch("residual", index, residual)
        return residual

    def _convolution(self, x: Tensor) -> Tensor:
        """Return SiLU's input (b, l, c) of x (b, l, c); the accumulator needs float64."""
        taps, bias = self.taps.real(), self.taps_bias.real()
        count, length = taps.shape[1], x.shape[1]
        padded = functional.pad(x.double(), (0, 0, count - 1, 0))
        total = bias + sum(padded[:, k : k + length] * taps[:, k] for k in range(count))
        return activation_input(total).to(x)

    def _read_out(self, product: Tensor, watch: Watch) -> Tensor:
        """Return what out_proj's columns multiply (b, l, e) of ``y SiLU(z)`` (b, l, e)."""
        program, index = self.program, self.index
        bits = program.gated_bits if program.shape.heads else program.mixed_bits(index)
        gated = fake_quantize(product, self.product_scale.to(product), bits)
        watch("gated", index, gated)
        if isinstance(self.selection, QuantizedHeads):
            gated = self.selection.gate_norm(gated)
            watch("normed", index, gated)
        if self.rotation is not None:
            turned, scale = gated @ self.rotation.to(gated), self.gated_scale.to(gated)
            gated = fake_quantize(turned, scale, program.projection_bits(index))
            watch("rotated", index, gated)
        return gated * self.gated_finer.to(gated)

    def written_to(self, layer: Layer) -> Layer:
        """Return ``layer`` with the trained integers."""
        return dataclasses.replace(
            layer,
            norm_weight=self.norm.weight.integers(),
            in_proj=trained(layer.in_proj, self.in_proj),
            convolution=trained(layer.convolution, self.taps, self.taps_bias),
            selection=self.selection.written(),
            skip=self.skip.integers(),
            out_proj=trained(layer.out_proj, self.out_proj),
        )


class QuantizedMLP(nn.Module):
    """The MLP behind block ``index``."""

    up_scale: Tensor
    gated_scale: Tensor
    gated_finer: Tensor

    def __init__(self, program: Program, mlp: GatedMLP, index: int) -> None:
        super().__init__()
        scheme, formats = program.scheme, mlp.formats
        weights = (scheme.weight_bits, scheme.weight_range)
        self.program, self.index = program, index
        self.norm = WeightedNorm(
            program, mlp.norm_weight, formats.norm_weight, fraction=formats.norm,
            bits=program.projection_bits(index),
        )  # fmt: skip
        self.gate, self.up, self.down = (
            stored_matrix(linear, *weights) for linear in (mlp.gate, mlp.up, mlp.down)
        )
        shift = program.mlp_shifts[index].gate
        self.silu_gate = silu(program, shift, scheme.gate_bits, formats.gate)
        for name, exponent in (
            ("up_scale", formats.up),
            ("gated_scale", formats.gated + formats.gated_channel),
            ("gated_finer", formats.gated_channel),
        ):
            self.register_buffer(name, power(exponent))

    def forward(self, residual: Tensor, watch: Watch) -> Tensor:
        """Return the residual stream (b, l, d) after the MLP."""
        scheme, index = self.program.scheme, self.index
        norm = self.norm(residual)  # b l d
        watch("mlp_norm", index, norm)
        gate = self.silu_gate(activation_input(norm @ self.gate.real().to(norm).T))  # b l m
        watch("mlp_gate", index, gate)
        up = norm @ self.up.real().to(norm).T  # b l m
        up = fake_quantize(up, self.up_scale.to(up), scheme.scan_output_bits)
        watch("up", index, up)
        scale = self.gated_scale.to(up)
        gated = fake_quantize(up * gate, scale, self.program.projection_bits(index))  # b l m
        watch("mlp_gated", index, gated)
        out = (gated * self.gated_finer.to(up)) @ self.down.real().to(up).T  # b l d
        residual = add_to_residual(self.program, residual, out)
        watch("mlp_residual", index, residual)
        return residual

    def written_to(self, mlp: GatedMLP) -> GatedMLP:
        """Return ``mlp`` with the trained integers."""
        return dataclasses.replace(
            mlp,
            norm_weight=self.norm.weight.integers(),
            gate=trained(mlp.gate, self.gate),
            up=trained(mlp.up, self.up),
            down=trained(mlp.down, self.down),
        )
