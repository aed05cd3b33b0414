"""What the trainable twin of a program is made of: stored integers, tabulated units, norms.

Values are real numbers that golden's integers times their scale represent, exactly; gradients are
those of the real functions (:mod:`model.straight_through`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.fixed_point import Integers, integer_range
from golden.layer import Linear
from golden.lookup import silu_lookup, stacked
from golden.operations.normalization import epsilon_integer
from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_INPUT_FRACTION
from golden.program import Program
from model.quantized_normalization import Normalization
from model.straight_through import (
    clamp_through,
    exact_with_gradient_of,
    fake_quantize,
    fake_quantize_between,
)

__all__ = [
    "Activation",
    "Stored",
    "Watch",
    "WeightedNorm",
    "activation_input",
    "add_to_residual",
    "power",
    "silu",
    "stored_bias",
    "stored_matrix",
    "trained",
]

Watch = Callable[[str, int, Tensor], None]
"""Called with probe name, layer (-1 outside the layers) and the real values (b, l, ...)."""

_BIAS_BITS = 31


def power(exponent: Any) -> Tensor:
    """Return ``2**exponent`` in float64."""
    return torch.as_tensor(np.ldexp(1.0, exponent), dtype=torch.float64)


class Stored(nn.Module):
    """Integers of ``bits`` as trainable masters: ``real()`` is what the rounded ones stand for.

    The master counts ranges of the format, -1 to 1, so that one learning rate suits every width,
    or ``unit`` integers if that is given. ``limits`` are the least and largest integer, if they are
    not those of the width.
    """

    scale: Tensor
    unit: Tensor

    def __init__(
        self, integers: Integers, fraction_bits: Any, bits: int, unit: Any = None,
        limits: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.limits = integer_range(bits) if limits is None else limits
        unit = np.ldexp(1.0, bits - 1) if unit is None else unit
        self.register_buffer("unit", torch.as_tensor(unit, dtype=torch.float64))
        self.register_buffer("scale", power(fraction_bits))
        self.master = nn.Parameter(torch.from_numpy(integers.astype(np.float64)) / self.unit)

    def real(self) -> Tensor:
        """Return the rounded values in float64."""
        values = self.master.double() * (self.unit / self.scale)
        return fake_quantize_between(values, self.scale, self.limits)

    @torch.no_grad()
    def integers(self) -> Integers:
        """Return the rounded integers."""
        rounded = (self.master.double() * self.unit).round().clamp(*self.limits)
        return rounded.long().cpu().numpy()


def stored_matrix(linear: Linear, bits: int, limits: tuple[int, int] | None = None) -> Stored:
    """Return the weights of ``linear``."""
    return Stored(linear.weight, linear.column_fraction, bits, limits=limits)


def stored_bias(values: Integers | None, fraction_bits: Any, bits: int = _BIAS_BITS) -> Stored:
    """Return a bias, by default in its accumulator's width; its master counts real units."""
    assert values is not None  # guaranteed by golden.validation
    return Stored(values, fraction_bits, bits, np.ldexp(1.0, fraction_bits))


def trained(own: Linear, weight: Stored, bias: Stored | None = None) -> Linear:
    """Return ``own`` with the trained integers."""
    integers = None if bias is None else bias.integers()
    return dataclasses.replace(own, weight=weight.integers(), bias=integers)


class Activation(nn.Module):
    """A tabulated unit: golden's requantized integers, and the gradient of the real function.

    Parameters
    ----------
    function : the real one
    look_up : from a shift, and a zero point if given, to golden's integers of every argument,
        (2**18,)
    shift, fraction_bits : of the results, scalars or one a channel (e,)
    zero : zero points of the results' codes, (e,)
    """

    tables: Tensor
    offset: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        look_up: Callable[..., npt.NDArray[np.float32]],
        shift: Any,
        fraction_bits: Any,
        zero: Integers | None = None,
    ) -> None:
        super().__init__()
        self.function = function
        formats = [np.atleast_1d(shift)] + ([] if zero is None else [zero])
        tables, which = stacked(look_up, *formats)
        self.register_buffer("tables", torch.from_numpy(tables.reshape(-1)))
        origin = 1 << (ACTIVATION_INPUT_BITS - 1)
        self.register_buffer(
            "offset", torch.from_numpy(which.astype(np.int64)) * 2 * origin + origin
        )
        self.register_buffer("scale", power(fraction_bits))
        for name, limit in (("low", tables.min(axis=1)), ("high", tables.max(axis=1))):
            self.register_buffer(name, torch.from_numpy(limit[which]), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Apply to real values (..., e) with 12 fraction bits."""
        scale = self.scale.to(values)
        with torch.no_grad():
            index = (values * 2.0**ACTIVATION_INPUT_FRACTION).long() + self.offset
            exact = self.tables[index].to(values) / scale
        smooth = self.function(values)
        return exact_with_gradient_of(
            clamp_through(smooth * scale, self.low.to(values), self.high.to(values)) / scale,
            exact,
        )


def silu(
    program: Program, shift: Any, bits: int, fraction_bits: Any, zero: Integers | None = None
) -> Activation:
    """Return SiLU with results of ``bits`` that drop ``shift`` bits of the table's.

    With zero points (e,) they are those of unsigned codes, less them.
    """
    table = program.tables.silu

    def look_up(own: int, *zero: int) -> npt.NDArray[np.float32]:
        return silu_lookup(table, own, bits, *zero)

    return Activation(functional.silu, look_up, shift, fraction_bits, zero)


def activation_input(values: Tensor) -> Tensor:
    """Return values as the tabulated units read them."""
    return fake_quantize(values, 2.0**ACTIVATION_INPUT_FRACTION, ACTIVATION_INPUT_BITS)


def add_to_residual(program: Program, residual: Tensor, out: Tensor) -> Tensor:
    """Return the residual stream with a branch's accumulators (b, l, d) added, rounded twice."""
    scale, bits = 2.0**program.residual_fraction, program.scheme.residual_bits
    return fake_quantize(residual + fake_quantize(out, scale, bits), scale, bits)


class WeightedNorm(nn.Module):
    """RMSNorm with its trained weight, over groups of channels with one root each.

    Parameters
    ----------
    program : whose table and width of weights are used
    weight, weight_fraction : ``sqrt(d / groups) w`` in integers, (d,)
    fraction, bits : of the result; the fraction may have one entry a channel
    input_fraction : fraction bits of what is normalised, the residual's if None
    groups : of channels
    """

    scale: Tensor

    def __init__(
        self, program: Program, weight: Integers, weight_fraction: int, *, fraction: Any,
        bits: int, input_fraction: int | None = None, groups: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        own = program.residual_fraction if input_fraction is None else input_fraction
        epsilon = epsilon_integer(len(weight) // groups, own)
        self.normalization = Normalization(program.tables.reciprocal, 2.0**own, epsilon)
        self.weight = Stored(weight, weight_fraction, program.scheme.norm_weight_bits)
        self.bits, self.groups = bits, groups
        self.register_buffer("scale", power(fraction))

    def forward(self, values: Tensor) -> Tensor:
        """Map real values (b, l, d) to normalised ones of the same dtype."""
        grouped = values.unflatten(-1, (self.groups, -1))
        normalized = self.normalization(grouped).flatten(-2)
        return fake_quantize(normalized * self.weight.real(), self.scale, self.bits).to(values)
