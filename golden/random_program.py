"""Seeded random programs of any shape and scheme: test material and the `micro` preset.

Weights follow Mamba's initialisation, formats are chosen from the variances that follow from it,
so that every unit works in its useful range and some values saturate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from golden.average import AverageLayer
from golden.configuration import FrameShape, NetworkShape
from golden.fixed_point import Integers, fraction_bits_for, to_fixed_point
from golden.layer import (
    BlockFormats,
    HeadSelection,
    Layer,
    LayerFormats,
    Linear,
    ProjectedSelection,
    Selection,
)
from golden.mlp import GatedMLP, MLPFormats
from golden.operations import hadamard
from golden.piecewise import (
    ACTIVATION_INPUT_BITS,
    ACTIVATION_INPUT_FRACTION,
    activation_table,
    exponent_table,
    reciprocal_table,
    sigmoid_correction,
    silu_correction,
    softplus_correction,
)
from golden.program import (
    FeatureEmbedding,
    PooledHead,
    Program,
    RowProjection,
    Tables,
    TokenEmbedding,
)
from golden.scheme import GROUP_SHIFT_BITS, Scheme
from golden.validation import validate

_LARGEST_RATE = 16.0
"""Mamba-2 draws ``-A`` from 1 to 16."""


def standard_tables(*, average: bool = False) -> Tables:
    """Return the tables that every program of this version carries, or every ``average`` one."""
    return Tables(
        silu=activation_table(silu_correction),
        softplus=activation_table(softplus_correction),
        exponent=exponent_table(),
        reciprocal=reciprocal_table(),
        sigmoid=activation_table(sigmoid_correction) if average else None,
    )


def quantize_rows(weight: np.ndarray, bits: int) -> tuple[Integers, Integers]:
    """Return ``(integers, fraction_bits)`` with the finest exponent a row that does not clip."""
    fraction = fraction_bits_for(np.abs(weight).max(axis=1), bits)
    return to_fixed_point(weight, fraction[:, None], bits), fraction


class _RandomProgram:
    """Draws the parts of one program from one generator, in a fixed order."""

    def __init__(
        self, shape: NetworkShape, scheme: Scheme, seed: int, widths: Sequence[int | None]
    ) -> None:
        self._shape = shape
        self._scheme = scheme
        self._widths = iter(widths)
        self._random = np.random.default_rng(seed)
        self._scales = np.random.default_rng(seed + 2)

    def linear(self, rows: int, columns: int, bits: int, gain: float = 1.0) -> Linear:
        weight = self._random.normal(0.0, gain / np.sqrt(columns), (rows, columns))
        integers, fraction = quantize_rows(weight, bits)
        return Linear(weight=integers, fraction_bits=fraction)

    def norm_weight(self, size: int, groups: int = 1) -> tuple[Integers, int]:
        bits = self._scheme.norm_weight_bits
        weight = np.sqrt(size // groups) * self._random.uniform(0.6, 1.4, size)
        fraction = int(fraction_bits_for(weight.max(), bits))
        return to_fixed_point(weight, fraction, bits), fraction

    def matrix(self, rows: int, columns: int, gain: float = 1.0, *, grouped: bool = True) -> Linear:
        """Draw a matrix of the blocks in the scheme's weights, and scales of its groups."""
        scheme = self._scheme
        linear = self.linear(rows, columns, scheme.weight_bits, gain)
        linear = replace(linear, weight=np.clip(linear.weight, *scheme.weight_range))
        group = scheme.weight_group
        if not grouped or group is None or columns <= group:
            return linear
        shift = self._scales.integers(0, 1 << GROUP_SHIFT_BITS, (rows, -(-columns // group)))
        fraction = linear.fraction_bits + 1
        return replace(linear, fraction_bits=fraction, group_shift=shift, group=group)

    def jitter(self, center: int, size: int | None = None) -> Integers:
        return center + self._random.integers(-1, 2, size or self._shape.d_inner)

    @property
    def spread(self) -> int:
        """Bits by which a rotation widens the deviation of a gated value: about sqrt(E)."""
        return hadamard.growth(self._shape.d_inner) // 2 if self._scheme.rotation_bits else 0

    def common_formats(self, norm_weight: int, x: Integers, gated: Integers) -> BlockFormats:
        scheme, shape = self._scheme, self._shape
        own, e = next(self._widths, None), shape.d_inner
        inputs = scheme.projection_input_bits if own is None else own
        spare, wide = inputs - 8, scheme.activation_bits - 8
        u, u_channel = 5 + (wide if shape.heads else spare), self._scales.integers(-1, 2, e)
        scan_u = (3 if scheme.dual_scale else 5 + wide) + u_channel
        # B and C are channels of u with heads, all of one format.
        u_channel = np.pad(u_channel, (0, shape.convolution_channels - e))
        zero: Integers | None = None
        if scheme.asymmetric:
            # Below SiLU's least value, around it, or so far up that the largest saturate.
            zero = self._scales.integers(0, 1 << (inputs - 1), e, endpoint=True)
            u += 1
        rotated = scheme.rotation_bits is not None
        return BlockFormats(
            norm_weight=norm_weight,
            norm=5 + spare,
            x=x,
            u=u,
            u_channel=u_channel,
            scan_u=scan_u,
            gate=scheme.gate_bits - 4,
            gated=4 + spare - self.spread,
            gated_channel=gated,
            rotation=scheme.gated_bits - 4 if rotated else None,
            projection_bits=own,
            u_zero=zero,
        )

    def formats(self, norm_weight: int) -> LayerFormats:
        scheme, shape, spare = self._scheme, self._shape, self._scheme.activation_bits - 8
        heads, channels = shape.heads is not None, shape.convolution_channels
        x, state = self.jitter(5 + spare, channels), self.jitter(scheme.state_bits - 3)
        scan_output = self.jitter(scheme.scan_output_bits - 4)
        gated = self.jitter(1)
        if heads and scheme.rotation_bits is None:
            gated = np.zeros_like(gated)
        common = self.common_formats(norm_weight, x, gated)
        rate = (_LARGEST_RATE if heads else float(shape.d_state)) * np.log2(np.e)
        return LayerFormats(
            **vars(common),
            dt=ACTIVATION_INPUT_FRACTION if heads else 5 + spare,
            b=5 + spare,
            c=5 + spare,
            # The rate is unsigned, so it may use the bit that a signed format spends on the sign.
            decay_rate=int(fraction_bits_for(1.2 * rate, scheme.decay_rate_bits + 1)),
            delta=scheme.delta_bits - 2,
            state=state,
            scan_output=scan_output,
        )

    def layer(self) -> Layer:
        shape, scheme, random = self._shape, self._scheme, self._random
        e, c, n = shape.d_inner, shape.convolution_channels, shape.d_state
        norm_weight, norm_fraction = self.norm_weight(shape.d_model)
        formats = self.formats(norm_fraction)
        in_proj = self.matrix(shape.in_projected, shape.d_model, gain=1.5)
        taps = self.linear(c, shape.d_conv, scheme.convolution_weight_bits, gain=1.5)
        dt_proj = self.matrix(e, shape.dt_rank, grouped=False) if shape.dt_rank else None
        delta = np.exp(random.uniform(np.log(1e-3), np.log(0.5), shape.step_sizes))
        dt_bias = delta + np.log(-np.expm1(-delta))
        if shape.heads is None:
            rate = np.arange(1, n + 1) * np.log2(np.e) * random.uniform(0.5, 1.1, (e, n))
        else:
            rate = np.log2(np.e) * random.uniform(1.0, _LARGEST_RATE, (shape.step_sizes, 1))
        skip_fraction = formats.c + formats.state - formats.scan_u
        return Layer(
            norm_weight=norm_weight,
            in_proj=in_proj,
            convolution=Linear(
                weight=taps.weight,
                fraction_bits=taps.fraction_bits,
                bias=to_fixed_point(
                    random.uniform(-0.5, 0.5, c), taps.fraction_bits + formats.x, 32
                ),
            ),
            selection=self._selection(dt_proj, dt_bias, formats),
            decay_rate=to_fixed_point(
                rate, formats.decay_rate, scheme.decay_rate_bits, signed=False
            ),
            skip=to_fixed_point(random.uniform(0.5, 1.5, e), skip_fraction, scheme.skip_bits),
            out_proj=self.matrix(shape.d_model, e, gain=2.0**-self.spread),
            formats=formats,
        )

    def _selection(
        self, dt_proj: Linear | None, dt_bias: np.ndarray, formats: LayerFormats
    ) -> Selection:
        shape, scheme, random = self._shape, self._scheme, self._random
        if dt_proj is not None:
            return ProjectedSelection(
                x_proj=self.matrix(shape.projected, shape.d_inner, gain=1.5),
                dt_proj=Linear(
                    weight=dt_proj.weight,
                    fraction_bits=dt_proj.fraction_bits,
                    bias=to_fixed_point(dt_bias, dt_proj.fraction_bits + formats.dt, 32),
                ),
            )
        weight, fraction = self.norm_weight(shape.d_inner, shape.groups)
        limits = [random.uniform(0.0, 0.01), random.uniform(0.5, 4.0)]
        low, high = to_fixed_point(limits, formats.delta, scheme.delta_bits, signed=False).tolist()
        return HeadSelection(
            dt_bias=to_fixed_point(dt_bias, ACTIVATION_INPUT_FRACTION, ACTIVATION_INPUT_BITS),
            delta_low=low,
            delta_high=high,
            product=scheme.residual_bits - 6,
            gate_norm_weight=weight,
            gate_norm_fraction=fraction,
        )

    def average_layer(self) -> AverageLayer:
        shape, scheme = self._shape, self._scheme
        e = shape.d_inner
        norm_weight, norm_fraction = self.norm_weight(shape.d_model)
        x = np.full(e, ACTIVATION_INPUT_FRACTION)
        if shape.convolved:
            x = self.jitter(scheme.activation_bits - 3)
        formats = self.common_formats(norm_fraction, x, self.jitter(1))
        if not shape.gated:
            formats = replace(formats, gate=0)
        convolution: Linear | None = None
        if shape.convolved:
            taps = self.linear(e, shape.d_conv, scheme.convolution_weight_bits, gain=1.5)
            convolution = self._with_bias(taps, formats.x, 0.5)
        return AverageLayer(
            norm_weight=norm_weight,
            in_proj=self.matrix(shape.in_projected, shape.d_model, gain=1.5),
            convolution=convolution,
            dt_proj=self._with_bias(self.matrix(e, e, gain=3.0, grouped=False), formats.u, 2.0),
            out_proj=self.matrix(shape.d_model, e, gain=2.0**-self.spread),
            formats=formats,
        )

    def _with_bias(self, linear: Linear, fraction: int | Integers, size: float) -> Linear:
        bias = self._random.uniform(-size, size, len(linear.weight))
        return replace(linear, bias=to_fixed_point(bias, linear.fraction_bits + fraction, 32))

    def mlp(self, hidden: int) -> GatedMLP:
        """Draw the MLP behind a mixer."""
        scheme, d = self._scheme, self._shape.d_model
        spare = scheme.projection_input_bits - 8
        norm_weight, norm_fraction = self.norm_weight(d)
        up, channel = self._random.integers(-1, 2, (2, hidden))
        return GatedMLP(
            norm_weight=norm_weight,
            gate=self.matrix(hidden, d, gain=1.5),
            up=self.matrix(hidden, d, gain=1.5),
            down=self.matrix(d, hidden),
            formats=MLPFormats(
                norm_weight=norm_fraction,
                norm=5 + spare,
                gate=scheme.gate_bits - 5,
                up=scheme.scan_output_bits - 4 + up,
                gated=4 + spare,
                gated_channel=1 + channel,
            ),
        )


def _biased(
    linear: Linear, input_fraction: int, random: np.random.Generator, size: float
) -> Linear:
    """Return ``linear`` with a random bias of the given deviation."""
    bias = random.normal(0.0, size, len(linear.weight))
    integers = to_fixed_point(bias, linear.fraction_bits + input_fraction, 32)
    return replace(linear, bias=integers)


def _token_embedding(
    shape: NetworkShape, scheme: Scheme, residual_fraction: int, seed: int
) -> TokenEmbedding:
    rows = np.random.default_rng(seed + 1).normal(0.0, 1.0, (shape.vocabulary, shape.d_model))
    # No row is finer than the residual stream that it is shifted into.
    finest = fraction_bits_for(np.abs(rows).max(axis=1), scheme.embedding_bits)
    fraction = np.minimum(finest, residual_fraction)
    table = to_fixed_point(rows, fraction[:, None], scheme.embedding_bits)
    return TokenEmbedding(table=table, shift=residual_fraction - fraction)


def _feature_embedding(
    shape: NetworkShape, frame: FrameShape, scheme: Scheme, seed: int
) -> FeatureEmbedding:
    """Return a front for features of deviation one, with four deviations of range."""
    random = np.random.default_rng(seed + 1)
    fraction = scheme.feature_bits - 3
    channel, rows = random.integers(-1, 2, frame.features), None
    columns, inputs = np.exp2(-channel), frame.features
    if frame.patch is not None:
        weight = random.normal(0.0, inputs**-0.5, (frame.patch.width, inputs)) * columns
        integers, exponent = quantize_rows(weight, scheme.embedding_bits)
        linear = Linear(weight=integers, fraction_bits=exponent)
        rows = RowProjection(
            linear=_biased(linear, fraction, random, 0.5), fraction=scheme.feature_bits - 3
        )
        columns, inputs = np.ones(frame.embedded), frame.embedded
    weight = random.normal(0.0, inputs**-0.5, (shape.d_model, inputs)) * columns
    integers, exponent = quantize_rows(weight, scheme.embedding_bits)
    bias = random.normal(0.0, 0.5, (frame.tokens, shape.d_model))
    return FeatureEmbedding(
        projection=Linear(weight=integers, fraction_bits=exponent),
        bias=to_fixed_point(bias, exponent + (rows.fraction if rows else fraction), 32),
        fraction=fraction,
        channel=channel,
        rows=rows,
    )


def random_program(
    shape: NetworkShape, scheme: Scheme, seed: int = 0, widths: Sequence[int | None] = ()
) -> Program:
    """Return a valid program with random weights; the same arguments give the same program.

    Shapes with a frame give frame networks, others language models.

    Parameters
    ----------
    widths : of what the first blocks' matrices read, None where it is the scheme's
    """
    draw = _RandomProgram(shape, scheme, seed, widths)
    frame, biases = shape.frame, np.random.default_rng(seed + 3)
    residual_fraction = scheme.residual_bits - 6
    final_norm_fraction = scheme.activation_bits - 3
    front: TokenEmbedding | FeatureEmbedding
    pooled: PooledHead | None = None
    if frame is None:
        front = _token_embedding(shape, scheme, residual_fraction, seed)
    else:
        front = _feature_embedding(shape, frame, scheme, seed)
    layer = draw.layer if shape.average is None else draw.average_layer
    layers = tuple(layer() for _ in range(shape.n_layer))
    mlps = None
    if shape.mlp is not None:
        mlps = tuple(draw.mlp(shape.mlp) for _ in range(shape.n_layer))
    final_norm_weight, final_fraction = draw.norm_weight(shape.d_model)
    if frame is not None and frame.hidden is not None:
        hidden = draw.linear(frame.hidden, shape.d_model, scheme.head_weight_bits, gain=1.5)
        pooled = PooledHead(
            hidden=_biased(hidden, final_norm_fraction, biases, 0.5),
            hidden_fraction=scheme.activation_bits - 3,
        )
    head = draw.linear(shape.vocabulary, shape.head_inputs, scheme.head_weight_bits)
    if frame is not None:
        inputs = final_norm_fraction if pooled is None else pooled.hidden_fraction
        head = _biased(head, inputs, biases, 0.5)
    return validate(
        Program(
            shape=shape,
            scheme=scheme,
            layers=layers,
            tables=standard_tables(average=shape.average is not None),
            front=front,
            residual_fraction=residual_fraction,
            final_norm_weight=final_norm_weight,
            final_norm_weight_fraction=final_fraction,
            final_norm_fraction=final_norm_fraction,
            pooled=pooled,
            mlps=mlps,
            head=head,
            logit_fraction=scheme.logit_bits - 4,
            provenance={"source": "golden.random_program", "seed": seed},
        )
    )
