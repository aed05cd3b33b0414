"""The integer program: every number the network needs, with its format, and nothing else.

A program is written by the quantizer, stored by :mod:`golden.artifact`, executed by
:mod:`golden.executor` and built into hardware by `hw`. Fraction bits are stored; the shifts that
the machine applies are derived from them here, once, for golden model and hardware alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from golden.average import AverageLayer, AverageShifts
from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.fixed_point import Integers, offset_range
from golden.layer import (
    Layer,
    LayerShifts,
    Linear,
    checked_shift,
    norm_shift,
)
from golden.mlp import GatedMLP, MLPShifts
from golden.operations.scan import ScanConstants
from golden.piecewise import (
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
    LinearTable,
)
from golden.scheme import Scheme


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Coefficients of the non-linear units, shared by all layers; sigmoid of moving averages."""

    silu: LinearTable
    softplus: LinearTable
    exponent: LinearTable
    reciprocal: LinearTable
    sigmoid: LinearTable | None = None


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
class RowProjection:
    """How each row of a frame is projected before patches of rows become tokens.

    A row becomes ``(linear x) >> row_shift``, rounded half to even and saturated to the width of
    features.

    Parameters
    ----------
    linear : with bias, (C, F)
    fraction : fraction bits of the result
    """

    linear: Linear
    fraction: int


@dataclass(frozen=True, kw_only=True)
class FeatureEmbedding:
    """How a frame network's feature vectors enter the residual stream.

    Token t of a frame becomes ``(projection x + bias[t]) >> feature_shift``, rounded half to even
    and saturated to the residual's width; x is row t, or with patches the P projected rows from
    row ``S t`` on, one after the other.

    Parameters
    ----------
    projection : without bias, (d, F), or with patches (d, P C)
    bias : one learned row a position in the frame, in the accumulator's scale, (T, d)
    fraction : fraction bits of the features
    channel : by how many bits a feature is finer than that (the projection's columns are coarser
        by the same power of two, so that one accumulator sums them), (F,)
    rows : projection of the features in front of patches; None without patches
    """

    projection: Linear
    bias: Integers
    fraction: int
    channel: Integers
    rows: RowProjection | None = None

    @property
    def projected_fraction(self) -> int:
        """Fraction bits of what ``projection`` reads."""
        return self.fraction if self.rows is None else self.rows.fraction


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
    last residual over the tokens, final norm, ``pooled`` and head. Without ``pooled`` the final
    norm is taken of every token, and the head reads those of all tokens, one after the other.

    Parameters
    ----------
    front : what writes the residual stream, by the kind of network
    residual_fraction : fraction bits of the residual stream
    final_norm_weight, final_norm_weight_fraction, final_norm_fraction : norm before the head
    pooled : hidden layer of a frame network whose head has one; else None
    mlps : the MLP behind each block's mixer; None if the shape has none
    head : (V, d) without bias; of a frame network (V, H) or (V, T d) with bias
    logit_fraction : fraction bits of the logits
    provenance : where the program came from: seed, data, checkpoint hash (JSON values)
    """

    shape: NetworkShape
    scheme: Scheme
    layers: tuple[Layer | AverageLayer, ...]
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
    mlps: tuple[GatedMLP, ...] | None = None

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
        """The hidden layer of a frame network; InputError for a network without."""
        if self.pooled is None:
            raise InputError("the program's head has no hidden layer and does not pool tokens")
        return self.pooled

    @property
    def row_projection(self) -> RowProjection:
        """The projection of a frame's rows; InputError for a network without patches."""
        rows = self.feature_embedding.rows
        if rows is None:
            raise InputError("the program's tokens are no patches of projected rows")
        return rows

    @property
    def scan_layers(self) -> tuple[Layer, ...]:
        """The blocks of a network with a selective scan; InputError for others."""
        layers = tuple(layer for layer in self.layers if isinstance(layer, Layer))
        if len(layers) < len(self.layers):
            raise InputError("the program's blocks have a moving average and no selective scan")
        return layers

    @property
    def average_layers(self) -> tuple[AverageLayer, ...]:
        """The blocks of a network with a moving average; InputError for others."""
        layers = tuple(layer for layer in self.layers if isinstance(layer, AverageLayer))
        if len(layers) < len(self.layers):
            raise InputError("the program's blocks have a selective scan and no moving average")
        return layers

    @cached_property
    def row_shift(self) -> Integers:
        """Bits dropped from the accumulators of a projected row, (C,)."""
        rows = self.row_projection
        accumulator = rows.linear.fraction_bits + self.feature_embedding.fraction
        return checked_shift("rows", accumulator - rows.fraction)

    @cached_property
    def feature_shift(self) -> Integers:
        """Bits dropped from the accumulators of a frame network's features, (d,)."""
        front = self.feature_embedding
        accumulator = front.projection.fraction_bits + front.projected_fraction
        shift = accumulator - self.residual_fraction
        return checked_shift("features", shift)

    @cached_property
    def hidden_shift(self) -> Integers:
        """Bits dropped in front of SiLU in a frame network's hidden layer, (H,)."""
        accumulator = self.pooled_head.hidden.fraction_bits + self.final_norm_fraction
        return checked_shift("hidden", accumulator - ACTIVATION_INPUT_FRACTION)

    @cached_property
    def hidden_output_shift(self) -> int:
        """Bits dropped behind SiLU in a frame network's hidden layer."""
        shift = ACTIVATION_OUTPUT_FRACTION - self.pooled_head.hidden_fraction
        return int(checked_shift("hidden output", shift))

    @property
    def shifts(self) -> tuple[LayerShifts, ...] | tuple[AverageShifts, ...]:
        """The requantizing shifts of every block, checked against the hardware's limits."""
        return self.scan_shifts if self.shape.average is None else self.average_shifts

    @cached_property
    def scan_shifts(self) -> tuple[LayerShifts, ...]:
        """The shifts of the blocks of a network with a selective scan."""
        return tuple(
            LayerShifts.of(layer, self.shape, self.scheme, self.residual_fraction, index)
            for index, layer in enumerate(self.scan_layers)
        )

    @cached_property
    def average_shifts(self) -> tuple[AverageShifts, ...]:
        """The shifts of the blocks of a network with a moving average."""
        return tuple(
            AverageShifts.of(layer, self.shape, self.scheme, self.residual_fraction, index)
            for index, layer in enumerate(self.average_layers)
        )

    @cached_property
    def mlp_shifts(self) -> tuple[MLPShifts, ...]:
        """The requantizing shifts of every MLP, checked; empty if the shape has none."""
        return tuple(
            MLPShifts.of(mlp, self.residual_fraction, index)
            for index, mlp in enumerate(self.mlps or ())
        )

    @cached_property
    def head_shift(self) -> Integers:
        """Bits dropped from the head's accumulators, (V,)."""
        inputs = self.pooled.hidden_fraction if self.pooled else self.final_norm_fraction
        return checked_shift("head", self.head.fraction_bits + inputs - self.logit_fraction)

    @cached_property
    def final_norm_shift(self) -> int:
        """Bits dropped after the weight of the final norm."""
        return norm_shift(self.final_norm_weight_fraction, self.final_norm_fraction, "final norm")

    def projection_bits(self, index: int) -> int:
        """Return the width of what the matrices of block ``index`` read."""
        own = self.layers[index].formats.projection_bits
        return self.scheme.projection_input_bits if own is None else own

    @property
    def hybrid(self) -> bool:
        """Whether a block's matrices read another width than the scheme's."""
        return any(layer.formats.projection_bits is not None for layer in self.layers)

    @property
    def u_bits(self) -> int:
        """Width that holds u: what x_proj reads, or what the scan does where there is no x_proj."""
        scheme = self.scheme
        if self.shape.heads:
            return scheme.activation_bits
        return scheme.projection_input_bits + scheme.asymmetric

    def u_range(self, index: int) -> tuple[Integers, Integers]:
        """Return least and largest integer of u in block ``index``, scalars or one a channel."""
        zero = self.layers[index].formats.u_zero
        bits = self.u_bits if self.shape.heads else self.projection_bits(index)
        return offset_range(bits, 1 << (bits - 1) if zero is None else zero)

    @property
    def separate_scan_input(self) -> bool:
        """Whether the scan's input is another tensor than u (Q7): dual scale or another range."""
        scheme = self.scheme
        if scheme.dual_scale is not None or self.u_bits != scheme.scan_input_bits:
            return True
        return scheme.asymmetric or (self.hybrid and self.shape.heads is None)

    def mixed_bits(self, index: int) -> int:
        """Return the width of what a mixer hands to out_proj, or to the rotation before it."""
        rotated = self.scheme.rotation_bits
        return self.projection_bits(index) if rotated is None else rotated

    @property
    def gated_bits(self) -> int:
        """Width of a gated value: with heads that of the residual stream, as a norm reads it."""
        return self.scheme.residual_bits if self.shape.heads else self.scheme.gated_bits

    def scan_constants(self, index: int) -> ScanConstants:
        """Return the constants of layer ``index``'s scan."""
        layer, shifts = self.scan_layers[index], self.scan_shifts[index]
        scheme, heads = self.scheme, self.shape.heads
        return ScanConstants(
            rate=np.repeat(layer.decay_rate, heads.size, axis=0) if heads else layer.decay_rate,
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
