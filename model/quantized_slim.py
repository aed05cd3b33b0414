"""A positioning program in torch: its integer graph forward, smooth gradients backward.

The exponents are the program's and stay; the weights are trained. Every value is rounded where the
integer program rounds it, as a real number ``q 2**-f`` in float32. Two places are not bit for bit:
sums beyond ``2**24`` steps, and the root of the norm, which torch takes exactly. What counts is the
program that :meth:`QuantizedSlim.to_program` writes and :mod:`golden.frames` runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.average import AverageLayer
from golden.errors import InputError
from golden.fixed_point import Integers, to_fixed_point
from golden.frames import frame_of
from golden.layer import Linear
from golden.operations.normalization import NORM_EPSILON
from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_INPUT_FRACTION
from golden.program import Program
from golden.validation import validate
from model.linear_fit import BIAS_BITS
from model.rotation import hadamard_columns
from model.straight_through import clamp_through, fake_quantize

__all__ = ["QuantizedSlim"]


def _power(fraction: int | Integers) -> Tensor:
    """Return ``2**fraction`` in float32."""
    return torch.as_tensor(np.ldexp(1.0, fraction), dtype=torch.float32)


class _Matrix(nn.Module):
    """A matrix of the program: trained real weights, rounded to its rows' exponents.

    Parameters
    ----------
    linear, bits : the integers that training starts from, and their width
    fraction : fraction bits of the input, which set the bias's scale
    surplus : by how many bits each column's input is finer than that
    """

    scale: Tensor
    columns: Tensor

    def __init__(
        self, linear: Linear, bits: int, fraction: int, surplus: Integers | None = None
    ) -> None:
        super().__init__()
        self._bits, self._fraction, self._linear = bits, fraction, linear
        real = np.ldexp(linear.weight.astype(float), -linear.fraction_bits[:, None])
        self.weight = nn.Parameter(torch.from_numpy(real).float())
        self.bias: nn.Parameter | None = None
        if linear.bias is not None:
            bias = np.ldexp(linear.bias.astype(float), -self._bias_fraction)
            self.bias = nn.Parameter(torch.from_numpy(bias).float())
        self.register_buffer("scale", _power(linear.fraction_bits)[:, None], persistent=False)
        finer = np.zeros(linear.weight.shape[1], np.int64) if surplus is None else surplus
        self.register_buffer("columns", _power(finer), persistent=False)

    @property
    def _bias_fraction(self) -> Integers:
        return self._linear.fraction_bits + self._fraction

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., columns) to (..., rows)."""
        return functional.linear(x * self.columns, self.rounded(), self.bias)

    def rounded(self) -> Tensor:
        """Return the weights as the integers represent them."""
        return fake_quantize(self.weight, self.scale, self._bits)

    def integers(self) -> Linear:
        """Return the matrix in integers."""
        rows, bias = self._linear.fraction_bits, None
        if self.bias is not None:
            bias = to_fixed_point(_numbers(self.bias), self._bias_fraction, BIAS_BITS)
        weight = to_fixed_point(_numbers(self.weight), rows[:, None], self._bits)
        return Linear(weight=weight, fraction_bits=rows, bias=bias)


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


class _Norm(nn.Module):
    """RMSNorm of the residual stream with the weight's and the result's formats."""

    def __init__(self, weight: Integers, weight_fraction: int, bits: int, fraction: int) -> None:
        super().__init__()
        self._weight_fraction, self._bits, self._fraction = weight_fraction, bits, fraction
        real = np.ldexp(weight.astype(float), -weight_fraction)
        self.weight = nn.Parameter(torch.from_numpy(real).float())

    def forward(self, residual: Tensor) -> Tensor:
        # The weight holds sqrt(D), so that the sum stands for the mean.
        size = residual.shape[-1]
        total = residual.square().sum(dim=-1, keepdim=True) + size * NORM_EPSILON
        normalized = residual * torch.rsqrt(total) * self.weight
        return fake_quantize(normalized, 2.0**self._fraction, self._bits)

    def integers(self, bits: int) -> Integers:
        """Return the weight in integers."""
        return to_fixed_point(_numbers(self.weight), self._weight_fraction, bits)


class _Block(nn.Module):
    """One block with a moving average, without a convolution."""

    u_scale: Tensor
    state_scale: Tensor
    gated_scale: Tensor
    rotated_scale: Tensor
    rotation: Tensor

    def __init__(self, program: Program, layer: AverageLayer) -> None:
        super().__init__()
        scheme, formats, self._shape = program.scheme, layer.formats, program.shape
        self._scheme, self._layer = scheme, layer
        bits = scheme.weight_bits
        self.norm = _Norm(
            layer.norm_weight, formats.norm_weight, scheme.activation_bits, formats.norm
        )
        self.in_proj = _Matrix(layer.in_proj, bits, formats.norm)
        self.dt_proj = _Matrix(layer.dt_proj, bits, formats.u, formats.u_channel)
        self.out_proj = _Matrix(layer.out_proj, bits, formats.gated, formats.gated_channel)
        self._residual = 2.0**program.residual_fraction
        scales = {
            "u_scale": _power(formats.u + formats.u_channel),
            "state_scale": _power(formats.scan_u + scheme.lift),
            "gated_scale": _power(formats.before_rotation),
            "rotated_scale": _power(formats.gated + formats.gated_channel),
            "rotation": torch.zeros(0),
        }
        if scheme.rotation_bits is not None:
            matrix = hadamard_columns(program.shape.d_inner)
            scales["rotation"] = torch.from_numpy(matrix).float()
        for name, tensor in scales.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, residual: Tensor) -> Tensor:
        """Return the residual stream (b, T, d) after the block."""
        scheme, e = self._scheme, self._shape.d_inner
        projected = _argument(self.in_proj(self.norm(residual)))  # b T 2e
        u = fake_quantize(functional.silu(projected[..., :e]), self.u_scale, scheme.activation_bits)
        argument = _argument(self.dt_proj(u))
        decay = fake_quantize(
            torch.sigmoid(argument), 2.0**scheme.decay_bits, scheme.decay_bits + 1, signed=False
        )
        gated = self._averages(decay, u)
        if self._shape.gated:
            gate = functional.silu(projected[..., e:])
            scale = 2.0**self._layer.formats.gate
            gated = gated * fake_quantize(gate, scale, scheme.gate_bits)
        gated = fake_quantize(gated, self.gated_scale, scheme.gated_bits)
        if scheme.rotation_bits is not None:
            turned = gated @ self.rotation
            gated = fake_quantize(turned, self.rotated_scale, scheme.activation_bits)
        out = fake_quantize(self.out_proj(gated), self._residual, scheme.residual_bits)
        limit = 2.0 ** (scheme.residual_bits - 1) / self._residual
        return clamp_through(residual + out, -limit, limit - 1.0 / self._residual)

    def _averages(self, decay: Tensor, u: Tensor) -> Tensor:
        """Return the moving averages (b, T, e), each rounded before the next uses it."""
        average, averages = torch.zeros_like(u[:, 0]), []
        for t in range(u.shape[1]):
            value = u[:, t] + decay[:, t] * (average - u[:, t])
            average = fake_quantize(value, self.state_scale, self._scheme.average_bits)
            averages.append(average)
        return torch.stack(averages, dim=1)

    def integers(self) -> AverageLayer:
        """Return the block in integers."""
        return dataclasses.replace(
            self._layer,
            norm_weight=self.norm.integers(self._scheme.norm_weight_bits),
            in_proj=self.in_proj.integers(),
            dt_proj=self.dt_proj.integers(),
            out_proj=self.out_proj.integers(),
        )


def _argument(values: Tensor) -> Tensor:
    """Return values in the format of SiLU's and the sigmoid's argument."""
    return fake_quantize(values, 2.0**ACTIVATION_INPUT_FRACTION, ACTIVATION_INPUT_BITS)


class QuantizedSlim(nn.Module):
    """Coordinates (b, V) of windows (b, K, F), as the integer program computes them.

    Parameters
    ----------
    program : where training starts, and whose exponents stay

    Raises
    ------
    InputError
        If the program is no positioning network's, has a convolution, or stores its scan input by
        dual scale.
    """

    feature_scale: Tensor

    def __init__(self, program: Program) -> None:
        super().__init__()
        scheme, front, rows = program.scheme, program.feature_embedding, program.row_projection
        if program.shape.convolved or scheme.dual_scale is not None or program.pooled is not None:
            raise InputError(
                f"scheme {scheme.name} of this network cannot be trained: no convolution, no dual "
                "scale and no hidden layer before the head are known; quantize without training"
            )
        self.program = program
        bits = scheme.embedding_bits
        self.rows = _Matrix(rows.linear, bits, front.fraction, front.channel)
        self.front = _Matrix(front.projection, bits, rows.fraction)
        self._bias_fraction = front.projection.fraction_bits + rows.fraction
        bias = np.ldexp(front.bias.astype(float), -self._bias_fraction)
        self.position = nn.Parameter(torch.from_numpy(bias).float())  # T d
        self.blocks = nn.ModuleList(_Block(program, layer) for layer in program.average_layers)
        self.norm = _Norm(
            program.final_norm_weight,
            program.final_norm_weight_fraction,
            scheme.activation_bits,
            program.final_norm_fraction,
        )
        self.head = _Matrix(program.head, scheme.head_weight_bits, program.final_norm_fraction)
        scale = _power(front.fraction + front.channel)
        self.register_buffer("feature_scale", scale, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map windows (b, K, F) of real features to coordinates (b, V)."""
        program, scheme = self.program, self.program.scheme
        patch = frame_of(program).patch
        assert patch is not None  # the constructor refuses others
        features = fake_quantize(features, self.feature_scale, scheme.feature_bits)
        rows = fake_quantize(
            self.rows(features), 2.0**program.row_projection.fraction, scheme.feature_bits
        )  # b K c
        patches = rows.unfold(1, patch.kernel, patch.stride).transpose(2, 3).flatten(2)  # b T P c
        residual = fake_quantize(
            self.front(patches) + self.position, 2.0**program.residual_fraction,
            scheme.residual_bits,
        )  # fmt: skip
        for block in self.blocks:
            residual = block(residual)  # b T d
        norm = self.norm(residual).flatten(1)  # b T d
        return fake_quantize(self.head(norm), 2.0**program.logit_fraction, scheme.logit_bits)

    @property
    def window(self) -> int:
        """Frames of a window, K."""
        return frame_of(self.program).rows

    def to_program(self, notes: dict[str, object]) -> Program:
        """Return the integer program of the weights as they are; ``notes`` join its provenance."""
        program, front = self.program, self.program.feature_embedding
        rows = dataclasses.replace(program.row_projection, linear=self.rows.integers())
        blocks: Sequence[nn.Module] = list(self.blocks)
        return validate(
            dataclasses.replace(
                program,
                front=dataclasses.replace(
                    front,
                    rows=rows,
                    projection=self.front.integers(),
                    bias=to_fixed_point(_numbers(self.position), self._bias_fraction, BIAS_BITS),
                ),
                layers=tuple(b.integers() for b in blocks if isinstance(b, _Block)),
                final_norm_weight=self.norm.integers(program.scheme.norm_weight_bits),
                head=self.head.integers(),
                provenance={**program.provenance, **notes},
            )
        )
