"""The integer program: every number the network needs, with its format, and nothing else.

A program is written by the quantizer, stored by :mod:`golden.artifact`, executed by
:mod:`golden.executor` and built into hardware by `hw`. Fraction bits are stored; the shifts that
the machine applies are derived from them here, once, for golden model and hardware alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from golden.configuration import NetworkShape, Scheme
from golden.errors import InputError
from golden.fixed_point import Integers
from golden.operations.normalization import NORMALIZED_FRACTION
from golden.operations.scan import ScanConstants
from golden.piecewise import (
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
    EXPONENT_FRACTION,
    LinearTable,
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
class Tables:
    """Coefficients of the non-linear units, shared by all layers."""

    silu: LinearTable
    softplus: LinearTable
    exponent: LinearTable
    reciprocal: LinearTable


@dataclass(frozen=True, kw_only=True)
class TokenEmbedding:
    """How a language model's tokens enter the residual stream: ``table[token] << shift[token]``.

    Parameters
    ----------
    table : one row a token, (V, d)
    shift : left shift of a row into the residual's scale, (V,)
    """

    table: Integers
    shift: Integers


@dataclass(frozen=True, kw_only=True)
class FeatureEmbedding:
    """How a frame network's feature vectors enter the residual stream.

    Token t of a frame becomes ``(projection x + bias[t]) >> feature_shift``, rounded half to even
    and saturated to the residual's width.

    Parameters
    ----------
    projection : without bias, (d, F)
    bias : one learned row a position in the frame, in the accumulator's scale, (T, d)
    fraction : fraction bits of the features
    channel : by how many bits a feature is finer than that (the projection's columns are coarser
        by the same power of two, so that one accumulator sums them), (F,)
    """

    projection: Linear
    bias: Integers
    fraction: int
    channel: Integers


@dataclass(frozen=True, kw_only=True)
class PooledHead:
    """The hidden layer between the mean over a frame's tokens and the head: ``silu(W x + bias)``.

    Parameters
    ----------
    hidden : with bias, (H, d)
    hidden_fraction : fraction bits of SiLU's output, the head's input
    """

    hidden: Linear
    hidden_fraction: int


@dataclass(frozen=True, kw_only=True)
class Program:
    """A whole network in integers.

    A language model runs token by token: ``front`` (:class:`TokenEmbedding`), blocks, final norm,
    head. A frame network starts every frame from a state of zeros and runs ``front``
    (:class:`FeatureEmbedding`) and the blocks token by token; then, once a frame, the mean of the
    last residual over the tokens, final norm, ``pooled`` and head.

    Parameters
    ----------
    front : what writes the residual stream, by the kind of network
    residual_fraction : fraction bits of the residual stream
    final_norm_weight, final_norm_weight_fraction, final_norm_fraction : norm before the head
    pooled : hidden layer of a frame network; None for a language model
    head : (V, d) without bias; of a frame network (V, H) with bias
    logit_fraction : fraction bits of the logits
    provenance : where the program came from: seed, data, checkpoint hash (JSON values)
    """

    shape: NetworkShape
    scheme: Scheme
    layers: tuple[Layer, ...]
    tables: Tables
    front: TokenEmbedding | FeatureEmbedding
    residual_fraction: int
    final_norm_weight: Integers
    final_norm_weight_fraction: int
    final_norm_fraction: int
    head: Linear
    logit_fraction: int
    provenance: dict[str, object]
    pooled: PooledHead | None = None

    @property
    def token_embedding(self) -> TokenEmbedding:
        """The front of a language model; InputError for a frame network."""
        if not isinstance(self.front, TokenEmbedding):
            raise InputError(
                "the program is a frame network, it reads features and not tokens; "
                "run it with golden.frames.FrameExecutor"
            )
        return self.front

    @property
    def feature_embedding(self) -> FeatureEmbedding:
        """The front of a frame network; InputError for a language model."""
        if not isinstance(self.front, FeatureEmbedding):
            raise InputError(
                "the program is a language model, it reads tokens and not features; "
                "run it with golden.executor.Executor"
            )
        return self.front

    @property
    def pooled_head(self) -> PooledHead:
        """The hidden layer of a frame network; InputError for a language model."""
        if self.pooled is None:
            raise InputError("the program is a language model; only frame networks pool tokens")
        return self.pooled

    @cached_property
    def feature_shift(self) -> Integers:
        """Bits dropped from the accumulators of a frame network's features, (d,)."""
        front = self.feature_embedding
        shift = front.projection.fraction_bits + front.fraction - self.residual_fraction
        return _checked("features", shift)

    @cached_property
    def hidden_shift(self) -> Integers:
        """Bits dropped in front of SiLU in a frame network's hidden layer, (H,)."""
        accumulator = self.pooled_head.hidden.fraction_bits + self.final_norm_fraction
        return _checked("hidden", accumulator - ACTIVATION_INPUT_FRACTION)

    @cached_property
    def hidden_output_shift(self) -> int:
        """Bits dropped behind SiLU in a frame network's hidden layer."""
        shift = ACTIVATION_OUTPUT_FRACTION - self.pooled_head.hidden_fraction
        return int(_checked("hidden output", shift))

    @cached_property
    def shifts(self) -> tuple[LayerShifts, ...]:
        """The requantizing shifts of every layer, checked against the hardware's limits."""
        return tuple(LayerShifts.of(self, layer, index) for index, layer in enumerate(self.layers))

    @cached_property
    def head_shift(self) -> Integers:
        """Bits dropped from the head's accumulators, (V,)."""
        inputs = self.pooled.hidden_fraction if self.pooled else self.final_norm_fraction
        return _checked("head", self.head.fraction_bits + inputs - self.logit_fraction)

    @cached_property
    def final_norm_shift(self) -> int:
        """Bits dropped after the weight of the final norm."""
        return _norm_shift(self.final_norm_weight_fraction, self.final_norm_fraction, "final norm")

    def scan_constants(self, index: int) -> ScanConstants:
        """Return the constants of layer ``index``'s scan."""
        layer, shifts, scheme = self.layers[index], self.shifts[index], self.scheme
        return ScanConstants(
            rate=layer.decay_rate,
            skip=layer.skip,
            argument_shift=shifts.argument,
            update_shift=shifts.update,
            output_shift=shifts.scan_output,
            decay_bits=scheme.decay_bits,
            state_bits=scheme.state_bits,
            update_bits=scheme.update_bits,
            output_bits=scheme.scan_output_bits,
            table=self.tables.exponent,
        )


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
    def of(cls, program: Program, layer: Layer, index: int) -> LayerShifts:
        """Derive the shifts of ``layer`` from its formats.

        Raises
        ------
        InputError
            If a shift is outside :data:`SHIFT_LIMITS`; the message names layer and tensor.
        """
        formats, shape, scheme = layer.formats, program.shape, program.scheme
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
            "out": layer.out_proj.fraction_bits + formats.gated - program.residual_fraction,
        }
        if formats.rotation is not None:
            values["rotated"] = formats.rotation - gated
        checked = {name: _checked(f"layer {index} {name}", s) for name, s in values.items()}
        norm = _norm_shift(formats.norm_weight, formats.norm, f"layer {index} norm")
        return cls(norm=norm, **checked)


def _norm_shift(weight_fraction: int, output_fraction: int, name: str) -> int:
    return int(_checked(name, NORMALIZED_FRACTION + weight_fraction - output_fraction))


def _checked(name: str, shift: Any) -> Any:
    low, high = SHIFT_LIMITS
    if np.min(shift) < low or np.max(shift) > high:
        raise InputError(
            f"the requantizing shift of {name} spans {np.min(shift)}..{np.max(shift)}, outside "
            f"{low}..{high}; choose nearer fraction bits when quantizing"
        )
    return shift
