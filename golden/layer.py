"""One block in integers: its weights, the formats of its values and the shifts between them.

Fraction bits are stored; the shifts that the machine applies are derived from them here, once, for
golden model and hardware alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.configuration import NetworkShape, Scheme
from golden.errors import InputError
from golden.fixed_point import Integers
from golden.operations.normalization import NORMALIZED_FRACTION
from golden.piecewise import (
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
    EXPONENT_FRACTION,
)

SHIFT_LIMITS = (-12, 31)
"""Smallest and largest requantizing shift that the hardware accepts; negative is to the left."""


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Integer weights of a matrix-vector product.

    Parameters
    ----------
    weight : (rows, columns)
    fraction_bits : one exponent an output row, (rows,)
    bias : in the accumulator's scale, (rows,), or None
    """

    weight: Integers
    fraction_bits: Integers
    bias: Integers | None = None


@dataclass(frozen=True, kw_only=True)
class LayerFormats:
    """Fraction bits of one layer's tensors; vectors have one entry a channel e.

    ``u`` and ``gated`` scale the inputs of x_proj and out_proj; ``u_channel`` and
    ``gated_channel`` say by how many bits a channel is finer than that (the matrix's columns are
    coarser by the same power of two, so that one accumulator sums them). In a scheme with rotation
    these are the rotated values, and ``rotation`` scales those before: one exponent for all
    channels, as the transform adds them; it is None elsewhere.
    """

    norm_weight: int
    norm: int
    x: Integers
    u: int
    u_channel: Integers
    scan_u: Integers
    dt: int
    b: int
    c: int
    decay_rate: int
    delta: int
    state: Integers
    scan_output: Integers
    gate: int
    gated: int
    gated_channel: Integers
    rotation: int | None = None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One Mamba-1 block in integers.

    Parameters
    ----------
    norm_weight : ``sqrt(D) w`` (d,)
    in_proj : rows of x, then rows of z, (2e, d)
    convolution : depthwise taps, oldest first, with bias, (e, K)
    x_proj : rows of dt, B, C, (r + 2n, e)
    dt_proj : with bias, (e, r)
    decay_rate : ``-A log2(e)``, unsigned (e, n)
    skip : D in the scale of ``C h / u`` (e,)
    out_proj : (d, e); its columns meet the rotated channels if the scheme rotates, and hold what
        :func:`golden.operations.hadamard.transform` makes of their rows, over e
    """

    norm_weight: Integers
    in_proj: Linear
    convolution: Linear
    x_proj: Linear
    dt_proj: Linear
    decay_rate: Integers
    skip: Integers
    out_proj: Linear
    formats: LayerFormats


@dataclass(frozen=True, kw_only=True)
class LayerShifts:
    """Bits that each requantizer of a layer drops; negative entries shift left.

    Vectors: x, z, convolution, u, scan_u, dt, update, scan_output, gated, rotated (e,); projected
    (r + 2n,); out (d,). Scalars: norm, delta, argument, gate. ``rotated`` is None without rotation.
    """

    norm: int
    x: Integers
    z: Integers
    convolution: Integers
    u: Integers
    scan_u: Integers
    gate: int
    projected: Integers
    dt: Integers
    delta: int
    argument: int
    update: Integers
    scan_output: Integers
    gated: Integers
    out: Integers
    rotated: Integers | None = None

    @classmethod
    def of(
        cls,
        layer: Layer,
        shape: NetworkShape,
        scheme: Scheme,
        residual_fraction: int,
        index: int,
    ) -> LayerShifts:
        """Derive the shifts of ``layer``, number ``index`` of a network, from its formats.

        Raises
        ------
        InputError
            If a shift is outside :data:`SHIFT_LIMITS`; the message names layer and tensor.
        """
        formats = layer.formats
        e, r, n = shape.d_inner, shape.dt_rank, shape.d_state
        in_accumulator = layer.in_proj.fraction_bits + formats.norm
        projected = np.concatenate(
            [np.full(r, formats.dt), np.full(n, formats.b), np.full(n, formats.c)]
        )
        activation_input = ACTIVATION_INPUT_FRACTION
        gated = formats.gated + formats.gated_channel
        values = {
            "x": in_accumulator[:e] - formats.x,
            "z": in_accumulator[e:] - activation_input,
            "convolution": layer.convolution.fraction_bits + formats.x - activation_input,
            "u": ACTIVATION_OUTPUT_FRACTION - (formats.u + formats.u_channel),
            "scan_u": ACTIVATION_OUTPUT_FRACTION - formats.scan_u,
            "gate": ACTIVATION_OUTPUT_FRACTION - formats.gate,
            "projected": layer.x_proj.fraction_bits + formats.u - projected,
            "dt": layer.dt_proj.fraction_bits + formats.dt - activation_input,
            "delta": ACTIVATION_OUTPUT_FRACTION - formats.delta,
            "argument": formats.delta + formats.decay_rate - EXPONENT_FRACTION,
            "update": formats.delta
            + formats.scan_u
            + formats.b
            - (formats.state + scheme.decay_bits),
            "scan_output": formats.c + formats.state - formats.scan_output,
            "gated": formats.scan_output
            + formats.gate
            - (gated if formats.rotation is None else formats.rotation),
            "out": layer.out_proj.fraction_bits + formats.gated - residual_fraction,
        }
        if formats.rotation is not None:
            values["rotated"] = formats.rotation - gated
        checked = {name: checked_shift(f"layer {index} {name}", s) for name, s in values.items()}
        norm = norm_shift(formats.norm_weight, formats.norm, f"layer {index} norm")
        return cls(norm=norm, **checked)


def norm_shift(weight_fraction: int, output_fraction: int, name: str) -> int:
    """Return the bits dropped after the weight of a norm, checked."""
    return int(checked_shift(name, NORMALIZED_FRACTION + weight_fraction - output_fraction))


def checked_shift(name: str, shift: Any) -> Any:
    """Return ``shift``, an integer or integers; InputError if the hardware cannot apply it."""
    low, high = SHIFT_LIMITS
    if np.min(shift) < low or np.max(shift) > high:
        raise InputError(
            f"the requantizing shift of {name} spans {np.min(shift)}..{np.max(shift)}, outside "
            f"{low}..{high}; choose nearer fraction bits when quantizing"
        )
    return shift
