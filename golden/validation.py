"""Checks that a program is what it claims: shapes, ranges and accumulator widths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden.average import AverageLayer
from golden.configuration import FrameShape
from golden.errors import InputError
from golden.fixed_point import Integers, integer_range
from golden.layer import Block, BlockFormats, Layer, Linear
from golden.mlp import GatedMLP
from golden.operations import hadamard
from golden.operations.linear import accumulator_bound
from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_INPUT_FRACTION
from golden.program import FeatureEmbedding, Program
from golden.scheme import GROUP_SHIFT_BITS

ACCUMULATOR_BITS = 32


def _check(
    name: str, values: Integers, shape: tuple[int, ...], bits: int, *, signed: bool = True
) -> None:
    if values.shape != shape:
        raise InputError(
            f"{name} has shape {values.shape}, the program's sizes need {shape}; "
            "regenerate the artifact with model.quantize"
        )
    low, high = integer_range(bits, signed=signed)
    if values.size and (values.min() < low or values.max() > high):
        raise InputError(
            f"{name} spans {values.min()}..{values.max()}, outside {low}..{high} of its "
            f"{bits}-bit format; regenerate the artifact with model.quantize"
        )


def _check_groups(name: str, linear: Linear, group: int | None) -> None:
    """Check the shifts of groups of columns, which only rows of several groups have."""
    rows, columns = linear.weight.shape
    wanted = group is not None and columns > group
    if wanted != (linear.group_shift is not None) or (wanted and linear.group != group):
        raise InputError(
            f"{name} has shifts of groups of {linear.group} columns where the scheme has "
            f"weight_group = {group}; regenerate the artifact with model.quantize"
        )
    if linear.group_shift is not None and group is not None:
        sizes = (rows, -(-columns // group))
        _check(f"{name}.group_shift", linear.group_shift, sizes, GROUP_SHIFT_BITS, signed=False)


def _check_linear(
    name: str,
    linear: Linear,
    shape: tuple[int, int],
    bits: int,
    input_bits: int,
    group: int | None = None,
) -> None:
    _check(f"{name}.weight", linear.weight, shape, bits)
    _check(f"{name}.fraction_bits", linear.fraction_bits, shape[:1], 8)
    if linear.bias is not None:
        _check(f"{name}.bias", linear.bias, shape[:1], ACCUMULATOR_BITS)
    _check_groups(name, linear, group)
    bound = accumulator_bound(linear.integers, input_bits, linear.bias)
    if bound >= 1 << (ACCUMULATOR_BITS - 1):
        raise InputError(
            f"{name} can accumulate up to {bound}, the limit of an int{ACCUMULATOR_BITS} "
            f"accumulator is {(1 << (ACCUMULATOR_BITS - 1)) - 1}; use fewer weight bits"
        )


def _check_tokens_front(program: Program) -> None:
    """Check that every embedding row, shifted into the residual's scale, fits the residual."""
    shape, front = program.shape, program.token_embedding
    sizes = (shape.vocabulary, shape.d_model)
    _check("embedding", front.table, sizes, program.scheme.embedding_bits)
    _check("embedding shift", front.shift, sizes[:1], 5, signed=False)
    embedded = front.table << front.shift[:, None]  # V d
    low, high = integer_range(program.scheme.residual_bits)
    if embedded.min() < low or embedded.max() > high:
        raise InputError(
            f"the shifted embedding spans {embedded.min()}..{embedded.max()}, outside "
            f"{low}..{high} of the {program.scheme.residual_bits}-bit residual; "
            "quantize with fewer residual fraction bits"
        )


def _check_rotation(program: Program, formats: BlockFormats, name: str) -> None:
    """Check that a rotated layer has a format for it and a size that can be rotated."""
    scheme = program.scheme
    if (formats.rotation is None) != (scheme.rotation_bits is None):
        raise InputError(
            f"{name} has {formats.rotation} fraction bits before the rotation, scheme "
            f"{scheme.name} rotates {scheme.rotation_bits} bits; give both or neither"
        )
    if scheme.rotation_bits is not None:
        hadamard.factors(program.shape.d_inner)


def _check_rows(program: Program, frame: FrameShape) -> None:
    """Check the projection of the rows of a network with patches."""
    scheme, rows = program.scheme, program.feature_embedding.rows
    if (rows is None) != (frame.patch is None):
        raise InputError(
            "the program has patches without a projection of their rows, or the other way round; "
            "regenerate the artifact with model.quantize"
        )
    if rows is None or frame.patch is None:
        return
    if rows.linear.bias is None:
        raise InputError("the projection of rows lacks its bias; store zeros instead")
    sizes = (frame.patch.width, frame.features)
    _check_linear("rows", rows.linear, sizes, scheme.embedding_bits, scheme.feature_bits)
    _ = program.row_shift


def _check_features_front(program: Program, frame: FrameShape) -> None:
    """Check projection and position bias of a frame network."""
    scheme, d, front = program.scheme, program.shape.d_model, program.feature_embedding
    _check("features.channel", front.channel, (frame.features,), 8)
    _check("features.bias", front.bias, (frame.tokens, d), ACCUMULATOR_BITS)
    _check_rows(program, frame)
    # The largest bias of any position stands for all of them in the accumulator's bound.
    largest = np.abs(front.bias).max(axis=0)
    linear = replace(front.projection, bias=largest)
    sizes = (d, frame.embedded)
    _check_linear("features", linear, sizes, scheme.embedding_bits, scheme.feature_bits)
    _ = program.feature_shift


def _check_frame(program: Program, frame: FrameShape) -> None:
    """Check front and head of a frame network."""
    scheme, shape, pooled = program.scheme, program.shape, program.pooled
    front = isinstance(program.front, FeatureEmbedding)
    if not front or (pooled is None) != (frame.hidden is None):
        raise InputError(
            "the program's shape is a frame network's, but its front or head is another "
            "network's; regenerate the artifact with model.quantize"
        )
    if program.head.bias is None or (pooled is not None and pooled.hidden.bias is None):
        raise InputError("a frame network lacks the bias of hidden or head; store zeros instead")
    bits, inputs = scheme.head_weight_bits, scheme.activation_bits
    _check_features_front(program, frame)
    if pooled is not None and frame.hidden is not None:
        _check_linear("hidden", pooled.hidden, (frame.hidden, shape.d_model), bits, inputs)
        _ = program.hidden_shift, program.hidden_output_shift
    _check_linear("head", program.head, (shape.vocabulary, shape.head_inputs), bits, inputs)


def _check_language_model(program: Program) -> None:
    """Check front and head of a language model."""
    scheme, shape = program.scheme, program.shape
    if program.pooled is not None or program.head.bias is not None:
        raise InputError(
            "a language model has a hidden layer or a bias in its head; only frame networks "
            "have these, give the shape its frame"
        )
    _check_tokens_front(program)
    sizes = (shape.vocabulary, shape.d_model)
    _check_linear("head", program.head, sizes, scheme.head_weight_bits, scheme.activation_bits)


def _check_ternary(program: Program, matrices: dict[str, Linear], name: str) -> None:
    """Check that a ternary scheme's matrices hold nothing but -1, 0 and 1."""
    for matrix, linear in matrices.items() if program.scheme.ternary else ():
        if linear.weight.min() < -1:
            raise InputError(
                f"{name}.{matrix}.weight holds {linear.weight.min()}, scheme "
                f"{program.scheme.name} is ternary; round to -1, 0 and 1"
            )


def _check_widths(program: Program, block: Block, name: str) -> int:
    """Return the width of what a block's matrices read after checking it and the zero points."""
    shape, scheme, formats = program.shape, program.scheme, block.formats
    own, widest = formats.projection_bits, scheme.projection_input_bits
    if own is not None:
        if shape.frame is not None:
            raise InputError(
                f"{name} has projection_bits of its own; the blocks of a frame network have those "
                "of the scheme"
            )
        if not 4 <= own <= widest:
            raise InputError(
                f"{name} has projection_bits = {own}, outside 4..{widest} of scheme {scheme.name}; "
                "choose a width in that range"
            )
    if scheme.asymmetric and (shape.frame is not None or shape.heads is not None):
        raise InputError(
            f"scheme {scheme.name} is asymmetric, which is for Mamba-1 language models: no matrix "
            "of this network reads SiLU's output in a program with zero points; use a symmetric one"
        )
    if scheme.asymmetric != (formats.u_zero is not None):
        raise InputError(
            f"{name} has zero points and scheme {scheme.name} is symmetric, or the other way "
            "round; regenerate the artifact with model.quantize"
        )
    bits = widest if own is None else own
    if formats.u_zero is not None:
        sizes = (shape.convolution_channels,)
        _check(f"{name}.formats.u_zero", formats.u_zero, sizes, bits, signed=False)
    return bits


def _check_block(program: Program, block: Block, name: str) -> None:
    """Check what every kind of block has."""
    shape, scheme, formats = program.shape, program.scheme, block.formats
    d, e = shape.d_model, shape.d_inner
    inputs, weights = _check_widths(program, block, name), scheme.weight_bits
    _check(f"{name}.norm_weight", block.norm_weight, (d,), scheme.norm_weight_bits)
    group, rows = scheme.weight_group, shape.in_projected
    _check_linear(f"{name}.in_proj", block.in_proj, (rows, d), weights, inputs, group)
    _check_linear(f"{name}.out_proj", block.out_proj, (d, e), weights, inputs, group)
    c = shape.convolution_channels
    for tensor, size in (("x", c), ("u_channel", c), ("scan_u", e), ("gated_channel", e)):
        _check(f"{name}.formats.{tensor}", getattr(formats, tensor), (size,), 8)
    u = (formats.u + formats.u_channel)[:e]
    if not program.separate_scan_input and np.any(formats.scan_u != u):
        channel = int(np.flatnonzero(formats.scan_u != u)[0])
        raise InputError(
            f"{name} gives channel {channel} of the scan input {formats.scan_u[channel]} fraction "
            f"bits and of x_proj's {u[channel]}; scheme {scheme.name} stores one tensor, so they "
            "must be equal"
        )
    _check_rotation(program, formats, name)
    _check_ternary(program, {"in_proj": block.in_proj, "out_proj": block.out_proj}, name)


def _check_convolution(program: Program, convolution: Linear, name: str) -> None:
    shape, scheme = program.shape, program.scheme
    sizes = (shape.convolution_channels, shape.d_conv)
    bits, inputs = scheme.convolution_weight_bits, scheme.activation_bits
    _check_linear(f"{name}.convolution", convolution, sizes, bits, inputs)


def _check_projections(program: Program, layer: Layer, name: str) -> None:
    """Check the selection of a Mamba-1 block."""
    shape, scheme = program.shape, program.scheme
    inputs, weights = scheme.activation_bits, scheme.weight_bits
    sizes = (shape.projected, shape.d_inner)
    group = scheme.weight_group
    _check_linear(f"{name}.x_proj", layer.x_proj, sizes, weights, program.u_bits, group)
    sizes = (shape.d_inner, shape.dt_rank)
    _check_linear(f"{name}.dt_proj", layer.dt_proj, sizes, weights, inputs)
    _check_ternary(program, {"x_proj": layer.x_proj, "dt_proj": layer.dt_proj}, name)
    if layer.dt_proj.bias is None:
        raise InputError(f"{name} lacks the bias of dt_proj; store zeros instead")


def _check_heads(program: Program, layer: Layer, name: str) -> None:
    """Check the selection of a Mamba-2 block, and the formats that it fixes."""
    shape, scheme, formats = program.shape, program.scheme, layer.formats
    own = layer.head_selection
    _check(f"{name}.dt_bias", own.dt_bias, (shape.step_sizes,), ACTIVATION_INPUT_BITS)
    sizes = (shape.d_inner,)
    _check(f"{name}.gate_norm_weight", own.gate_norm_weight, sizes, scheme.norm_weight_bits)
    highest = integer_range(scheme.delta_bits, signed=False)[1]
    if not 0 <= own.delta_low <= own.delta_high <= highest:
        raise InputError(
            f"{name} clamps the step size to {own.delta_low}..{own.delta_high}, not a range in "
            f"0..{highest}; quantize with a dt_limit that delta's format holds"
        )
    states = shape.groups * shape.d_state
    wanted = np.repeat([formats.b, formats.c], states)
    found = (formats.u + formats.u_channel)[shape.d_inner :]
    if formats.dt != ACTIVATION_INPUT_FRACTION or np.any(found != wanted):
        raise InputError(
            f"{name} gives dt {formats.dt} fraction bits, which are "
            f"{ACTIVATION_INPUT_FRACTION} with heads, or B and C others in the convolution than "
            "in the scan; regenerate the artifact with model.quantize"
        )
    if formats.rotation is None and np.any(formats.gated_channel):
        raise InputError(
            f"{name} has channels of different format behind the gated norm; its weight levels "
            "them, use gated_channel = 0"
        )


def _check_layer(program: Program, layer: Layer, name: str) -> None:
    """Check what a block with a selective scan has besides."""
    shape, scheme, formats = program.shape, program.scheme, layer.formats
    e, n = shape.d_inner, shape.d_state
    _check_convolution(program, layer.convolution, name)
    rates = (shape.step_sizes, 1) if shape.heads else (e, n)
    _check(f"{name}.decay_rate", layer.decay_rate, rates, scheme.decay_rate_bits, signed=False)
    _check(f"{name}.skip", layer.skip, (e,), scheme.skip_bits)
    if layer.convolution.bias is None:
        raise InputError(f"{name} lacks the bias of convolution; store zeros instead")
    if shape.heads is None:
        _check_projections(program, layer, name)
    else:
        _check_heads(program, layer, name)
    for tensor in ("state", "scan_output"):
        _check(f"{name}.formats.{tensor}", getattr(formats, tensor), (e,), 8)
    scan_sum = (1 << (scheme.activation_bits - 1)) * (1 << (scheme.state_bits - 1)) * n + int(
        np.abs(layer.skip).max()
    ) * (1 << (scheme.scan_input_bits - 1))
    if scan_sum >= 1 << (ACCUMULATOR_BITS - 1):
        raise InputError(
            f"{name}'s read-out can reach {scan_sum}, the limit is "
            f"{(1 << (ACCUMULATOR_BITS - 1)) - 1}; use fewer state bits"
        )


def _check_average(program: Program, layer: AverageLayer, name: str) -> None:
    """Check what a block with a moving average has besides."""
    shape, scheme, e = program.shape, program.scheme, program.shape.d_inner
    if (layer.convolution is None) == shape.convolved:
        raise InputError(
            f"{name} lacks a convolution or has one that its shape does not; d_conv is "
            f"{shape.d_conv}, and 1 is none"
        )
    if layer.dt_proj.bias is None or (layer.convolution and layer.convolution.bias is None):
        raise InputError(f"{name} lacks the bias of convolution or dt_proj; store zeros instead")
    if layer.convolution is not None:
        _check_convolution(program, layer.convolution, name)
    elif np.any(layer.formats.x != ACTIVATION_INPUT_FRACTION):
        raise InputError(
            f"{name}'s x has other than {ACTIVATION_INPUT_FRACTION} fraction bits, but without a "
            "convolution it is SiLU's input"
        )
    sizes = (e, e)
    _check_linear(
        f"{name}.dt_proj", layer.dt_proj, sizes, scheme.weight_bits, scheme.projection_input_bits
    )
    _check_ternary(program, {"dt_proj": layer.dt_proj}, name)


def _check_layers(program: Program) -> None:
    """Check the blocks, which must all be of the kind that the shape says."""
    if program.shape.average is None:
        for index, layer in enumerate(program.scan_layers):
            _check_block(program, layer, f"layers.{index}")
            _check_layer(program, layer, f"layers.{index}")
        return
    if program.tables.sigmoid is None:
        raise InputError(
            "the program lacks the table of the sigmoid, which a moving average needs; "
            "regenerate the artifact with model.quantize"
        )
    for index, average in enumerate(program.average_layers):
        _check_block(program, average, f"layers.{index}")
        _check_average(program, average, f"layers.{index}")


def _check_mlp(program: Program, mlp: GatedMLP, index: int) -> None:
    shape, scheme = program.shape, program.scheme
    assert shape.mlp is not None  # checked by validate
    d, h = shape.d_model, shape.mlp
    weights, inputs = scheme.weight_bits, program.projection_bits(index)
    name = f"mlps.{index}"
    _check(f"{name}.norm_weight", mlp.norm_weight, (d,), scheme.norm_weight_bits)
    for matrix, sizes in (("gate", (h, d)), ("up", (h, d)), ("down", (d, h))):
        linear: Linear = getattr(mlp, matrix)
        _check_linear(f"{name}.{matrix}", linear, sizes, weights, inputs, scheme.weight_group)
        if linear.bias is not None:
            raise InputError(f"{name}.{matrix} has a bias; an MLP has none, train without")
        _check_ternary(program, {matrix: linear}, name)
    for tensor in ("up", "gated_channel"):
        _check(f"{name}.formats.{tensor}", getattr(mlp.formats, tensor), (h,), 8)


def validate(program: Program) -> Program:
    """Return ``program`` after checking every tensor's shape, range, shift and accumulator width.

    Raises
    ------
    InputError
        Naming the tensor, the offending value, the limit and the remedy.
    """
    shape, scheme = program.shape, program.scheme
    if len(program.layers) != shape.n_layer:
        raise InputError(
            f"the program has {len(program.layers)} layers, its shape says {shape.n_layer}; "
            "regenerate the artifact with model.quantize"
        )
    found = None if program.mlps is None else len(program.mlps)
    if found != (None if shape.mlp is None else shape.n_layer):
        raise InputError(
            f"the program has {found} MLPs, its shape says mlp = {shape.mlp} behind each of "
            f"{shape.n_layer} mixers; regenerate the artifact with model.quantize"
        )
    if shape.frame is None:
        _check_language_model(program)
    elif scheme.weight_group is not None:
        raise InputError(
            f"scheme {scheme.name} has groups of weights, which only language models have; "
            "quantize a frame network without"
        )
    else:
        _check_frame(program, shape.frame)
    _check(
        "final_norm_weight", program.final_norm_weight, (shape.d_model,), scheme.norm_weight_bits
    )
    _check_layers(program)
    for index, mlp in enumerate(program.mlps or ()):
        _check_mlp(program, mlp, index)
    # The derived shifts raise on their own when they leave the hardware's range.
    _ = program.shifts, program.mlp_shifts, program.head_shift, program.final_norm_shift
    return program
