"""A program as a torch network that computes golden's integers times their scales, and trains.

Every value of :class:`golden.reference.ReferenceExecutor` appears here as a real number, exactly:
the integer that golden has times its scale. Weights are real masters in units of their format's
range, rounded on the way in; formats and rates are constants. Tokens (b, l), residual (b, l, d),
mixer (b, l, e).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.errors import InputError
from golden.fixed_point import Integers, integer_range
from golden.layer import Layer, Linear, ProjectedSelection
from golden.lookup import dual_scale_lookup, silu_lookup, softplus_lookup, stacked
from golden.operations.normalization import epsilon_integer
from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_INPUT_FRACTION
from golden.program import Program
from golden.validation import validate
from model.quantized_normalization import Normalization
from model.quantized_scan import ScanScales, quantized_scan
from model.rotation import hadamard_columns
from model.straight_through import (
    clamp_through,
    exact_with_gradient_of,
    fake_quantize,
    fake_quantize_between,
)

__all__ = ["QuantizedNetwork"]

Watch = Callable[[str, int, Tensor], None]
"""Called with probe name, layer (-1 outside the layers) and the real values (b, l, ...)."""

_BIAS_BITS = 31


def _power(exponent: Any) -> Tensor:
    return torch.as_tensor(np.ldexp(1.0, exponent), dtype=torch.float64)


class _Stored(nn.Module):
    """Integers of ``bits`` as trainable masters: ``real()`` is what the rounded ones stand for.

    The master counts ranges of the format, -1 to 1, so that one learning rate suits every width.
    ``limits`` are the least and largest integer, if they are not those of the width.
    """

    scale: Tensor

    def __init__(
        self, integers: Integers, fraction_bits: Any, bits: int, unit: Any = None,
        limits: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.limits = integer_range(bits) if limits is None else limits
        unit = np.ldexp(1.0, bits - 1) if unit is None else unit
        self.register_buffer("unit", torch.as_tensor(unit, dtype=torch.float64))
        self.register_buffer("scale", _power(fraction_bits))
        self.master = nn.Parameter(torch.from_numpy(integers.astype(np.float64)) / self.unit)

    unit: Tensor

    def real(self) -> Tensor:
        """Return the rounded values in float64."""
        values = self.master.double() * (self.unit / self.scale)
        return fake_quantize_between(values, self.scale, self.limits)

    @torch.no_grad()
    def integers(self) -> Integers:
        """Return the rounded integers."""
        rounded = (self.master.double() * self.unit).round().clamp(*self.limits)
        return rounded.long().cpu().numpy()


def _matrix(linear: Linear, bits: int, limits: tuple[int, int] | None = None) -> _Stored:
    return _Stored(linear.weight, linear.fraction_bits[:, None], bits, limits=limits)


def _bias(values: Integers | None, fraction_bits: Integers) -> _Stored:
    """A bias in its accumulator's scale; its master counts real units."""
    assert values is not None  # guaranteed by golden.validation
    return _Stored(values, fraction_bits, _BIAS_BITS, np.ldexp(1.0, fraction_bits))


class _Activation(nn.Module):
    """A tabulated unit: golden's requantized integers, and the gradient of the real function."""

    tables: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        look_up: Callable[[int], npt.NDArray[np.float32]],
        shift: Any,
        fraction_bits: Any,
    ) -> None:
        super().__init__()
        self.function = function
        tables, which = stacked(look_up, np.atleast_1d(shift))
        self.register_buffer("tables", torch.from_numpy(tables.reshape(-1)))
        origin = 1 << (ACTIVATION_INPUT_BITS - 1)
        self.register_buffer(
            "offset", torch.from_numpy(which.astype(np.int64)) * 2 * origin + origin
        )
        self.register_buffer("scale", _power(fraction_bits))
        self.low, self.high = float(tables.min()), float(tables.max())

    def forward(self, values: Tensor) -> Tensor:
        """Apply to real values (..., e) with 12 fraction bits."""
        scale = self.scale.to(values)
        with torch.no_grad():
            index = (values * 2.0**ACTIVATION_INPUT_FRACTION).long() + self.offset
            exact = self.tables[index].to(values) / scale
        smooth = self.function(values)
        return exact_with_gradient_of(
            clamp_through(smooth * scale, self.low, self.high) / scale, exact
        )


def _normalization(program: Program) -> Normalization:
    scale = 2.0**program.residual_fraction
    epsilon = epsilon_integer(program.shape.d_model, program.residual_fraction)
    return Normalization(program.tables.reciprocal, scale, epsilon)


class _QuantizedLayer(nn.Module):
    """One Mamba-1 block of a program."""

    def __init__(self, program: Program, index: int) -> None:
        super().__init__()
        scheme, shape = program.scheme, program.shape
        layer, shifts, tables = (
            program.scan_layers[index],
            program.scan_shifts[index],
            program.tables,
        )
        self.shape, self.scheme, self.program, self.index = shape, scheme, program, index
        formats, inputs = layer.formats, scheme.projection_input_bits
        weights = (scheme.weight_bits, scheme.weight_range)
        self.residual_scale = 2.0**program.residual_fraction
        self.normalization = _normalization(program)
        self.norm_weight = _Stored(layer.norm_weight, formats.norm_weight, scheme.norm_weight_bits)
        self.in_proj = _matrix(layer.in_proj, *weights)
        self.taps = _matrix(layer.convolution, scheme.convolution_weight_bits)
        self.taps_bias = _bias(layer.convolution.bias, layer.convolution.fraction_bits + formats.x)
        self.x_proj = _matrix(layer.x_proj, *weights)
        self.dt_proj = _matrix(layer.dt_proj, *weights)
        self.dt_bias = _bias(layer.dt_proj.bias, layer.dt_proj.fraction_bits + formats.dt)
        skip_fraction = formats.c + formats.state - formats.scan_u
        self.skip = _Stored(
            layer.skip, skip_fraction, scheme.skip_bits, np.ldexp(1.0, skip_fraction)
        )
        self.out_proj = _matrix(layer.out_proj, *weights)
        self.silu_u = _Activation(
            functional.silu, lambda s: silu_lookup(tables.silu, s, inputs), shifts.u,
            formats.u + formats.u_channel,
        )  # fmt: skip
        self.silu_gate = _Activation(
            functional.silu, lambda s: silu_lookup(tables.silu, s, scheme.gate_bits),
            shifts.gate, formats.gate,
        )  # fmt: skip
        self.softplus = _Activation(
            functional.softplus, lambda s: softplus_lookup(tables.softplus, s, scheme.delta_bits),
            shifts.delta, formats.delta,
        )  # fmt: skip
        dual = scheme.dual_scale

        def scan_input(shift: int) -> npt.NDArray[np.float32]:
            if dual is None:
                return silu_lookup(tables.silu, shift, scheme.scan_input_bits)
            return dual_scale_lookup(tables.silu, shift, dual)

        self.silu_scan = None
        if program.separate_scan_input:
            self.silu_scan = _Activation(functional.silu, scan_input, shifts.scan_u, formats.scan_u)
        counts = (shape.dt_rank, shape.d_state, shape.d_state)
        projected = np.repeat([formats.dt, formats.b, formats.c], counts)
        gated = formats.gated + formats.gated_channel
        rotated = scheme.rotation_bits is not None
        columns = torch.from_numpy(hadamard_columns(shape.d_inner)) if rotated else None
        self.register_buffer("rotation", columns)
        for name, exponent in (
            ("x_scale", formats.x),
            ("projected_scale", projected),
            ("gated_scale", gated),
            ("product_scale", gated if formats.rotation is None else formats.rotation),
            ("u_finer", formats.u_channel),
            ("gated_finer", formats.gated_channel),
        ):
            self.register_buffer(name, _power(exponent))
        self.norm_scale = 2.0**formats.norm
        self._scan_scales: dict[torch.device, ScanScales] = {}

    x_scale: Tensor
    projected_scale: Tensor
    product_scale: Tensor
    gated_scale: Tensor
    rotation: Tensor | None
    u_finer: Tensor
    gated_finer: Tensor

    def _scales(self, device: torch.device) -> ScanScales:
        if device not in self._scan_scales:
            formats = self.program.scan_layers[self.index].formats
            constants = self.program.scan_constants(self.index)
            self._scan_scales[device] = ScanScales.of(constants, formats, device)
        return self._scan_scales[device]

    def forward(self, residual: Tensor, watch: Watch) -> Tensor:
        """Return the residual stream (b, l, d) after the block."""
        scheme, index = self.scheme, self.index
        bits, inputs = scheme.activation_bits, scheme.projection_input_bits
        e = self.shape.d_inner
        norm = self.normalization(residual)
        norm = fake_quantize(norm * self.norm_weight.real(), self.norm_scale, inputs).to(residual)
        watch("norm", index, norm)
        mixed = norm @ self.in_proj.real().to(norm).T  # b l 2e
        x = fake_quantize(mixed[..., :e], self.x_scale.to(mixed), bits)  # b l e
        watch("x", index, x)
        z = _activation_input(mixed[..., e:])  # b l e
        convolved = self._convolution(x)  # b l e
        watch("convolution", index, convolved)
        u = self.silu_u(convolved)  # b l e
        watch("u", index, u)
        scan_u = u if self.silu_scan is None else self.silu_scan(convolved)  # b l e
        watch("scan_u", index, scan_u)
        gate = self.silu_gate(z)  # b l e
        watch("gate", index, gate)
        y = self._mix(u, scan_u, watch)  # b l e
        watch("scan_output", index, y)
        gated = fake_quantize(y * gate, self.product_scale.to(y), scheme.gated_bits)  # b l e
        watch("gated", index, gated)
        if self.rotation is not None:
            gated = fake_quantize(gated @ self.rotation.to(y), self.gated_scale.to(y), inputs)
            watch("rotated", index, gated)
        out = (gated * self.gated_finer.to(y)) @ self.out_proj.real().to(y).T  # b l d
        out = fake_quantize(out, self.residual_scale, scheme.residual_bits)
        residual = fake_quantize(residual + out, self.residual_scale, scheme.residual_bits)
        watch("residual", index, residual)
        return residual

    def _convolution(self, x: Tensor) -> Tensor:
        """Return SiLU's input (b, l, e) of x (b, l, e); the accumulator needs float64."""
        taps, bias = self.taps.real(), self.taps_bias.real()
        count, length = taps.shape[1], x.shape[1]
        padded = functional.pad(x.double(), (0, 0, count - 1, 0))
        total = bias + sum(padded[:, k : k + length] * taps[:, k] for k in range(count))
        return _activation_input(total).to(x)

    def _mix(self, u: Tensor, scan_u: Tensor, watch: Watch) -> Tensor:
        """Return the scan's output (b, l, e)."""
        rank, n = self.shape.dt_rank, self.shape.d_state
        projected = (u * self.u_finer.to(u)) @ self.x_proj.real().to(u).T  # b l r+2n
        projected = fake_quantize(
            projected, self.projected_scale.to(u), self.scheme.activation_bits
        )
        watch("projected", self.index, projected)
        dt, b, c = projected.split([rank, n, n], dim=-1)
        raw = dt.double() @ self.dt_proj.real().T + self.dt_bias.real()  # b l e
        delta = self.softplus(_activation_input(raw).to(u))  # b l e
        watch("delta", self.index, delta)
        skip = self.skip.real().to(u)
        return quantized_scan(self._scales(u.device), delta, scan_u, b, c, skip)

    def written_to(self, layer: Layer) -> Layer:
        """Return ``layer`` with the trained integers."""

        def linear(own: Linear, weight: _Stored, bias: _Stored | None = None) -> Linear:
            integers = None if bias is None else bias.integers()
            return dataclasses.replace(own, weight=weight.integers(), bias=integers)

        return dataclasses.replace(
            layer,
            norm_weight=self.norm_weight.integers(),
            in_proj=linear(layer.in_proj, self.in_proj),
            convolution=linear(layer.convolution, self.taps, self.taps_bias),
            selection=ProjectedSelection(
                x_proj=linear(layer.x_proj, self.x_proj),
                dt_proj=linear(layer.dt_proj, self.dt_proj, self.dt_bias),
            ),
            skip=self.skip.integers(),
            out_proj=linear(layer.out_proj, self.out_proj),
        )


def _activation_input(values: Tensor) -> Tensor:
    return fake_quantize(values, 2.0**ACTIVATION_INPUT_FRACTION, ACTIVATION_INPUT_BITS)


def _ignore(name: str, layer: int, values: Tensor) -> None:
    del name, layer, values


class QuantizedNetwork(nn.Module):
    """The trainable twin of ``program``.

    Parameters
    ----------
    program : where training starts; its formats and rates stay
    dtype : of the values between operations. float64 is exact for every program; float32 is for
        products below 2**24, which holds for all of bytelm's values but a row's sum in theory

    Raises
    ------
    InputError
        If the program is of another kind of network.
    """

    def __init__(self, program: Program, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        shape = program.shape
        if any((shape.mlp, shape.frame, shape.average, shape.heads)):
            raise InputError(
                "only Mamba-1 language models without an MLP can be trained as programs; "
                "give an artifact of such a network"
            )
        self.program, self.dtype = program, dtype
        scheme = program.scheme
        front = program.token_embedding
        fraction = program.residual_fraction - front.shift[:, None]
        self.embedding = _Stored(front.table, fraction, scheme.embedding_bits)
        self.layers = nn.ModuleList(
            _QuantizedLayer(program, index) for index in range(program.shape.n_layer)
        )
        self.normalization = _normalization(program)
        self.final_norm_weight = _Stored(
            program.final_norm_weight, program.final_norm_weight_fraction, scheme.norm_weight_bits
        )
        self.head = _matrix(program.head, scheme.embedding_bits)

    @property
    def blocks(self) -> Iterator[_QuantizedLayer]:
        """The layers in their order, with the type that ``ModuleList`` forgets."""
        for layer in self.layers:
            yield cast("_QuantizedLayer", layer)

    def forward(self, tokens: Tensor, watch: Watch = _ignore) -> Tensor:
        """Return the logits (b, l, V) of tokens (b, l), sequences from a zero state."""
        program, scheme = self.program, self.program.scheme
        residual = functional.embedding(tokens, self.embedding.real().to(self.dtype))  # b l d
        watch("residual", -1, residual)
        for layer in self.blocks:
            residual = layer(residual, watch)
        norm = fake_quantize(
            self.normalization(residual) * self.final_norm_weight.real(),
            2.0**program.final_norm_fraction,
            scheme.activation_bits,
        ).to(self.dtype)  # b l d
        watch("norm", -1, norm)
        logits = fake_quantize(
            norm @ self.head.real().to(norm).T, 2.0**program.logit_fraction, scheme.logit_bits
        )  # b l V
        watch("logits", -1, logits)
        return logits

    def build(self, provenance: dict[str, object]) -> Program:
        """Return the validated program of the trained integers."""
        program, front = self.program, self.program.token_embedding
        layers = tuple(
            own.written_to(layer)
            for own, layer in zip(self.blocks, program.scan_layers, strict=True)
        )
        return validate(
            dataclasses.replace(
                program,
                layers=layers,
                front=dataclasses.replace(front, table=self.embedding.integers()),
                final_norm_weight=self.final_norm_weight.integers(),
                head=dataclasses.replace(program.head, weight=self.head.integers()),
                provenance=provenance,
            )
        )
