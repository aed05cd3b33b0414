"""One block in integers: its weights, the formats of its values and the shifts between them.

Fraction bits are stored; the shifts that the machine applies are derived from them here, once, for
golden model and hardware alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.fixed_point import Integers
from golden.operations.normalization import NORMALIZED_FRACTION
from golden.piecewise import (
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
    EXPONENT_FRACTION,
)
from golden.scheme import Scheme

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
    group_shift : by how many bits the weights of a group of columns are coarser than the row's
        exponent says, (rows, groups); None if a row has one scale
    group : columns a group; the last may have fewer
    """

    weight: Integers
    fraction_bits: Integers
    bias: Integers | None = None
    group_shift: Integers | None = None
    group: int | None = None

    @property
    def column_shift(self) -> Integers:
        """Bits by which weights are coarser than their row's exponent, (rows, columns or 1)."""
        if self.group_shift is None or self.group is None:
            return np.zeros((len(self.weight), 1), np.int64)
        return np.repeat(self.group_shift, self.group, axis=1)[:, : self.weight.shape[1]]

    @property
    def integers(self) -> Integers:
        """The weights in the unit of their row, which the products are made of."""
        return self.weight if self.group_shift is None else self.weight << self.column_shift

    @property
    def column_fraction(self) -> Integers:
        """Fraction bits of every weight, (rows, columns) or (rows, 1)."""
        return self.fraction_bits[:, None] - self.column_shift

    def rows(self, start: int, stop: int | None = None) -> Linear:
        """Return some of the rows, without their bias."""
        own = slice(start, stop)
        shift = None if self.group_shift is None else self.group_shift[own]
        return replace(
            self,
            weight=self.weight[own],
            fraction_bits=self.fraction_bits[own],
            bias=None,
            group_shift=shift,
        )


@dataclass(frozen=True, kw_only=True)
class BlockFormats:
    """Fraction bits of the tensors that every kind of block has; vectors have one entry a channel.

    ``u`` and ``gated`` scale the inputs of the projection behind SiLU and of out_proj;
    ``u_channel`` and ``gated_channel`` say by how many bits a channel is finer than that (the
    matrix's columns are coarser by the same power of two, so that one accumulator sums them). In a
    scheme with rotation these are the rotated values, and ``rotation`` scales those before: one
    exponent for all channels, as the transform adds them; it is None elsewhere.

    ``projection_bits`` is the width of what this block's matrices read, None if it is the scheme's;
    a narrower one keeps the scheme's storage and saturates earlier. ``u_zero`` are the zero points
    of u's codes in an asymmetric scheme, one entry a channel; None elsewhere.

    With heads, ``x`` and ``u_channel`` have one entry a convolved channel, those of B and C at the
    end, and ``gated`` scales what the gated norm returns, all channels alike.
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
    projection_bits: int | None = None
    u_zero: Integers | None = None

    @property
    def before_rotation(self) -> int | Integers:
        """Fraction bits of the gated values: those of out_proj's input if nothing is rotated."""
        return self.gated + self.gated_channel if self.rotation is None else self.rotation


@dataclass(frozen=True, kw_only=True)
class LayerFormats(BlockFormats):
    """Fraction bits of the tensors of a block with a selective scan.

    ``dt`` is that of x_proj's first rows; with heads, where dt comes from in_proj, it is SiLU's
    input format.
    """

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
    in_proj : rows of x, with heads those of B, C and dt, then those of z if the block has a gate;
        see :attr:`golden.configuration.NetworkShape.gate_row`
    out_proj : (d, e); its columns meet the rotated channels if the scheme rotates, and hold what
        :func:`golden.operations.hadamard.transform` makes of their rows, over e
    """

    norm_weight: Integers
    in_proj: Linear
    out_proj: Linear
    formats: BlockFormats


@dataclass(frozen=True, kw_only=True)
class ProjectedSelection:
    """How Mamba-1 selects: dt, B and C are projections of u, and dt's is projected again.

    Parameters
    ----------
    x_proj : rows of dt, B, C, (r + 2n, e)
    dt_proj : with bias, (e, r)
    """

    x_proj: Linear
    dt_proj: Linear


@dataclass(frozen=True, kw_only=True)
class HeadSelection:
    """How Mamba-2 selects: B and C are convolved beside x, dt is a row of in_proj a head.

    Parameters
    ----------
    dt_bias : added in front of softplus, in its input format, (h,)
    delta_low, delta_high : what the step size is clamped to, in its format
    product : fraction bits of ``y SiLU(z)``, which the gated norm reads, all channels alike
    gate_norm_weight : ``sqrt(E / G) w`` of the gated norm, (e,)
    gate_norm_fraction : its fraction bits
    """

    dt_bias: Integers
    delta_low: int
    delta_high: int
    product: int
    gate_norm_weight: Integers
    gate_norm_fraction: int


Selection = ProjectedSelection | HeadSelection


@dataclass(frozen=True, kw_only=True)
class Layer(Block):
    """One block with a selective scan in integers.

    Parameters
    ----------
    convolution : depthwise taps, oldest first, with bias, (c, K)
    selection : where step size, B and C come from, by family
    decay_rate : ``-A log2(e)``, unsigned (e, n), with heads one a head, (h, 1)
    skip : D in the scale of ``C h / u`` (e,)
    """

    convolution: Linear
    selection: Selection
    decay_rate: Integers
    skip: Integers
    formats: LayerFormats

    @property
    def projected(self) -> ProjectedSelection:
        """The projections of a Mamba-1 block; InputError for another."""
        if not isinstance(self.selection, ProjectedSelection):
            raise InputError("a block with heads has neither x_proj nor dt_proj")
        return self.selection

    @property
    def head_selection(self) -> HeadSelection:
        """The selection of a Mamba-2 block; InputError for another."""
        if not isinstance(self.selection, HeadSelection):
            raise InputError("a block without heads has neither dt_bias nor a gated norm")
        return self.selection

    @property
    def x_proj(self) -> Linear:
        """The projection of u to dt, B and C; InputError for a block with heads."""
        return self.projected.x_proj

    @property
    def dt_proj(self) -> Linear:
        """The projection of dt to step sizes; InputError for a block with heads."""
        return self.projected.dt_proj


@dataclass(frozen=True, kw_only=True)
class BlockShifts:
    """Bits that the requantizers of every kind of block drop; negative entries shift left.

    Vectors: z, scan_u, gated, rotated (e,); x and u, one entry a convolved channel; projected, one
    entry a row of the projection of u; out (d,). Scalars: norm, gate. ``rotated`` is None without
    rotation, z without a gate.
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
    formats = block.formats
    in_accumulator = block.in_proj.fraction_bits + formats.norm
    z = in_accumulator[shape.gate_row :] - ACTIVATION_INPUT_FRACTION
    values = {
        "x": in_accumulator[: shape.convolution_channels] - formats.x,
        "z": z if shape.gated else None,
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

    Vectors: convolution (c,); dt, one a step size; update, scan_output (e,); projected (r + 2n,),
    none with heads. Scalars: delta, argument, and normed, that of the gated norm, None without
    heads.
    """

    z: Integers
    convolution: Integers
    dt: Integers
    delta: int
    argument: int
    update: Integers
    scan_output: Integers
    normed: int | None = None

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
        activation_input = ACTIVATION_INPUT_FRACTION
        values = common_shifts(layer, shape, residual_fraction) | {
            "convolution": layer.convolution.fraction_bits + formats.x - activation_input,
            "delta": ACTIVATION_OUTPUT_FRACTION - formats.delta,
            "argument": formats.delta + formats.decay_rate - EXPONENT_FRACTION,
            "update": formats.delta
            + formats.scan_u
            + formats.b
            - (formats.state + scheme.decay_bits),
            "scan_output": formats.c + formats.state - formats.scan_output,
        }
        of_selection = _head_shifts if shape.heads else _projected_shifts
        values |= of_selection(layer, shape)
        return cls(**checked_shifts(values, layer, index))


def _projected_shifts(layer: Layer, shape: NetworkShape) -> dict[str, Any]:
    """Return the shifts that a Mamba-1 block's selection decides."""
    formats, r, n = layer.formats, shape.dt_rank, shape.d_state
    projected = np.repeat([formats.dt, formats.b, formats.c], [r, n, n])
    return {
        "projected": layer.x_proj.fraction_bits + formats.u - projected,
        "dt": layer.dt_proj.fraction_bits + formats.dt - ACTIVATION_INPUT_FRACTION,
        "gated": formats.scan_output + formats.gate - formats.before_rotation,
    }


def _head_shifts(layer: Layer, shape: NetworkShape) -> dict[str, Any]:
    """Return the shifts that a Mamba-2 block's selection decides."""
    formats, own = layer.formats, layer.head_selection
    rows = layer.in_proj.fraction_bits[shape.convolution_channels : shape.gate_row]
    # Behind the gated norm every channel has the same format, which validation guarantees.
    normed = int(np.ravel(formats.before_rotation)[0])
    return {
        "projected": np.zeros(0, np.int64),
        "dt": rows + formats.norm - formats.dt,
        "gated": formats.scan_output + formats.gate - own.product,
        "normed": NORMALIZED_FRACTION + own.gate_norm_fraction - normed,
    }


def norm_shift(weight_fraction: int, output_fraction: int, name: str) -> int:
    """Return the bits dropped after the weight of a norm, checked."""
    return int(checked_shift(name, NORMALIZED_FRACTION + weight_fraction - output_fraction))


def checked_shift(name: str, shift: Any) -> Any:
    """Return ``shift``, an integer or integers; InputError if the hardware cannot apply it."""
    low, high = SHIFT_LIMITS
    if np.size(shift) and (np.min(shift) < low or np.max(shift) > high):
        raise InputError(
            f"the requantizing shift of {name} spans {np.min(shift)}..{np.max(shift)}, outside "
            f"{low}..{high}; choose nearer fraction bits when quantizing"
        )
    return shift
