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
class BlockFormats:
    """Fraction bits of the tensors that every kind of block has; vectors have one entry a channel.

    ``u`` and ``gated`` scale the inputs of the projection behind SiLU and of out_proj;
    ``u_channel`` and ``gated_channel`` say by how many bits a channel is finer than that (the
    matrix's columns are coarser by the same power of two, so that one accumulator sums them). In a
    scheme with rotation these are the rotated values, and ``rotation`` scales those before: one
    exponent for all channels, as the transform adds them; it is None elsewhere.
    """

    norm_weight: int
    norm: int
    x: Integers
    u: int
    u_channel: Integers
    scan_u: Integers
    gate: int
    gated: int
    gated_channel: Integers
    rotation: int | None = None

    @property
    def before_rotation(self) -> int | Integers:
        """Fraction bits of the gated values: those of out_proj's input if nothing is rotated."""
        return self.gated + self.gated_channel if self.rotation is None else self.rotation


@dataclass(frozen=True, kw_only=True)
class LayerFormats(BlockFormats):
    """Fraction bits of the tensors of a block with a selective scan."""

    dt: int
    b: int
    c: int
    decay_rate: int
    delta: int
    state: Integers
    scan_output: Integers


@dataclass(frozen=True, kw_only=True)
class Block:
    """What every kind of block has, in integers.

    Parameters
    ----------
    norm_weight : ``sqrt(D) w`` (d,)
    in_proj : rows of x, then rows of z if the block has a gate, (2e, d) or (e, d)
    out_proj : (d, e); its columns meet the rotated channels if the scheme rotates, and hold what
        :func:`golden.operations.hadamard.transform` makes of their rows, over e
    """

    norm_weight: Integers
    in_proj: Linear
    out_proj: Linear
    formats: BlockFormats


@dataclass(frozen=True, kw_only=True)
class Layer(Block):
    """One Mamba-1 block in integers.

    Parameters
    ----------
    convolution : depthwise taps, oldest first, with bias, (e, K)
    x_proj : rows of dt, B, C, (r + 2n, e)
    dt_proj : with bias, (e, r)
    decay_rate : ``-A log2(e)``, unsigned (e, n)
    skip : D in the scale of ``C h / u`` (e,)
    """

    convolution: Linear
    x_proj: Linear
    dt_proj: Linear
    decay_rate: Integers
    skip: Integers
    formats: LayerFormats


@dataclass(frozen=True, kw_only=True)
class BlockShifts:
    """Bits that the requantizers of every kind of block drop; negative entries shift left.

    Vectors: x, z, u, scan_u, gated, rotated (e,); projected, one entry a row of the projection of
    u; out (d,). Scalars: norm, gate. ``rotated`` is None without rotation, z without a gate.
    """

    norm: int
    x: Integers
    z: Integers | None
    u: Integers
    scan_u: Integers
    gate: int
    projected: Integers
    gated: Integers
    out: Integers
    rotated: Integers | None = None


def common_shifts(block: Block, shape: NetworkShape, residual_fraction: int) -> dict[str, Any]:
    """Return the shifts that follow from what every kind of block has, by name, unchecked."""
    formats, e = block.formats, shape.d_inner
    in_accumulator = block.in_proj.fraction_bits + formats.norm
    values = {
        "x": in_accumulator[:e] - formats.x,
        "z": in_accumulator[e:] - ACTIVATION_INPUT_FRACTION if shape.gated else None,
        "u": ACTIVATION_OUTPUT_FRACTION - (formats.u + formats.u_channel),
        "scan_u": ACTIVATION_OUTPUT_FRACTION - formats.scan_u,
        "gate": ACTIVATION_OUTPUT_FRACTION - formats.gate,
        "out": block.out_proj.fraction_bits + formats.gated - residual_fraction,
    }
    if formats.rotation is not None:
        values["rotated"] = formats.rotation - (formats.gated + formats.gated_channel)
    return values


def checked_shifts(values: dict[str, Any], block: Block, index: int) -> dict[str, Any]:
    """Return ``values`` and the norm's shift; InputError names layer and tensor of a bad one."""
    checked = {
        name: None if shift is None else checked_shift(f"layer {index} {name}", shift)
        for name, shift in values.items()
    }
    formats = block.formats
    norm = norm_shift(formats.norm_weight, formats.norm, f"layer {index} norm")
    return {"norm": norm, **checked}


@dataclass(frozen=True, kw_only=True)
class LayerShifts(BlockShifts):
    """Bits that each requantizer of a block with a selective scan drops.

    Vectors: convolution, dt, update, scan_output (e,); projected (r + 2n,). Scalars: delta,
    argument.
    """

    z: Integers
    convolution: Integers
    dt: Integers
    delta: int
    argument: int
    update: Integers
    scan_output: Integers

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
        formats, r, n = layer.formats, shape.dt_rank, shape.d_state
        projected = np.concatenate(
            [np.full(r, formats.dt), np.full(n, formats.b), np.full(n, formats.c)]
        )
        activation_input = ACTIVATION_INPUT_FRACTION
        values = common_shifts(layer, shape, residual_fraction) | {
            "convolution": layer.convolution.fraction_bits + formats.x - activation_input,
            "projected": layer.x_proj.fraction_bits + formats.u - projected,
            "dt": layer.dt_proj.fraction_bits + formats.dt - activation_input,
            "delta": ACTIVATION_OUTPUT_FRACTION - formats.delta,
            "argument": formats.delta + formats.decay_rate - EXPONENT_FRACTION,
            "update": formats.delta
            + formats.scan_u
            + formats.b
            - (formats.state + scheme.decay_bits),
            "scan_output": formats.c + formats.state - formats.scan_output,
            "gated": formats.scan_output + formats.gate - formats.before_rotation,
        }
        return cls(**checked_shifts(values, layer, index))


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
