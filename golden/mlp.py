"""The gated MLP behind a block's mixer in integers: weights, formats and the shifts between them.

``r += down(up SiLU(z))`` with ``[up, z] = fc1(norm(r))``: SwiGLU (Shazeer 2020,
arXiv:2002.05202). The norm is an RMSNorm of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from golden.fixed_point import Integers, requantize
from golden.layer import Linear, checked_shift, norm_shift
from golden.operations.activation import silu
from golden.operations.linear import accumulate
from golden.operations.normalization import rms_norm
from golden.piecewise import (
    ACTIVATION_INPUT_BITS,
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
)
from golden.scheme import Scheme

if TYPE_CHECKING:
    from golden.program import Tables

__all__ = ["GatedMLP", "MLPFormats", "MLPShifts", "gated_mlp"]


@dataclass(frozen=True, kw_only=True)
class MLPFormats:
    """Fraction bits of one MLP's tensors; vectors have one entry a hidden channel m.

    ``gated`` scales the input of down; ``gated_channel`` says by how many bits a channel is finer
    than that, as in :class:`golden.layer.LayerFormats`.
    """

    norm_weight: int
    norm: int
    gate: int
    up: Integers
    gated: int
    gated_channel: Integers


@dataclass(frozen=True, kw_only=True)
class GatedMLP:
    """One MLP in integers.

    Parameters
    ----------
    norm_weight : ``sqrt(D) w`` (d,)
    gate : z, SiLU's input, (m, d)
    up : what the gate multiplies, (m, d)
    down : back to the residual, (d, m)
    """

    norm_weight: Integers
    gate: Linear
    up: Linear
    down: Linear
    formats: MLPFormats


@dataclass(frozen=True, kw_only=True)
class MLPShifts:
    """Bits that each requantizer of an MLP drops; negative entries shift left.

    Vectors: z, up, gated (m,); out (d,). Scalars: norm, gate.
    """

    norm: int
    z: Integers
    gate: int
    up: Integers
    gated: Integers
    out: Integers

    @classmethod
    def of(cls, mlp: GatedMLP, residual_fraction: int, index: int) -> MLPShifts:
        """Derive the shifts of ``mlp``, that of block ``index``, from its formats.

        Raises
        ------
        InputError
            If the hardware cannot shift by that much; the message names block and tensor.
        """
        formats = mlp.formats
        values = {
            "z": mlp.gate.fraction_bits + formats.norm - ACTIVATION_INPUT_FRACTION,
            "gate": ACTIVATION_OUTPUT_FRACTION - formats.gate,
            "up": mlp.up.fraction_bits + formats.norm - formats.up,
            "gated": formats.up + formats.gate - (formats.gated + formats.gated_channel),
            "out": mlp.down.fraction_bits + formats.gated - residual_fraction,
        }
        name = f"layer {index} mlp"
        checked = {key: checked_shift(f"{name} {key}", shift) for key, shift in values.items()}
        return cls(norm=norm_shift(formats.norm_weight, formats.norm, f"{name} norm"), **checked)


def gated_mlp(
    mlp: GatedMLP,
    shifts: MLPShifts,
    residual: Integers,
    *,
    scheme: Scheme,
    inputs: int,
    tables: Tables,
    epsilon: int,
    show: Callable[[str, Integers], None],
) -> Integers:
    """Return the residual (b, l, d) behind the MLP.

    Parameters
    ----------
    mlp, shifts : weights, and the bits that requantizers drop
    residual : (b, l, d)
    scheme, inputs : widths, and that of what the matrices read
    tables, epsilon : non-linear units, the norm's epsilon
    show : called with the name of every probe and its values
    """
    norm = rms_norm(
        residual,
        mlp.norm_weight,
        epsilon=epsilon,
        shift=shifts.norm,
        bits=inputs,
        table=tables.reciprocal,
    )  # b l d
    show("mlp_norm", norm)
    z = requantize(accumulate(mlp.gate.integers, norm), shifts.z, ACTIVATION_INPUT_BITS)  # b l m
    gate = requantize(silu(z, tables.silu), shifts.gate, scheme.gate_bits)  # b l m
    show("mlp_gate", gate)
    up = requantize(accumulate(mlp.up.integers, norm), shifts.up, scheme.scan_output_bits)  # b l m
    show("up", up)
    gated = requantize(up * gate, shifts.gated, inputs)  # b l m
    show("mlp_gated", gated)
    total = accumulate(mlp.down.integers, gated)  # b l d
    out = requantize(total, shifts.out, scheme.residual_bits)
    residual = requantize(residual + out, 0, scheme.residual_bits)
    show("mlp_residual", residual)
    return residual
