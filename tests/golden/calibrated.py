"""Random programs whose formats hold what a stream of tokens makes of them, so that little clips.

:func:`golden.random_program.random_program` saturates on purpose; here only rounding is left, which
is what a comparison with real arithmetic can judge.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from golden.configuration import NetworkShape
from golden.fixed_point import fraction_bits_for, to_fixed_point, to_real
from golden.layer import SHIFT_LIMITS, HeadSelection, Layer, Linear, ProjectedSelection
from golden.program import Program
from golden.random_program import random_program
from golden.scheme import Scheme
from golden.validation import validate
from tests.golden import float_network


def _rescaled(linear: Linear, before, after) -> Linear:
    """The same real bias where the input's fraction bits changed."""
    bias = to_real(linear.bias, linear.fraction_bits + before)
    return replace(linear, bias=to_fixed_point(bias, linear.fraction_bits + after, 32))


def _layer(scheme: Scheme, layer: Layer, seen: dict[str, np.ndarray]) -> Layer:
    old, bits = layer.formats, scheme.activation_bits

    def finest(name: str, width: int, axes: tuple[int, ...] | None = None):
        largest = 1.02 * np.abs(seen[name]).max(axis=axes)
        fraction = fraction_bits_for(largest, width)
        return fraction if axes else int(fraction)

    heads = isinstance(layer.selection, HeadSelection)
    mixed = "normed" if heads else "gated"
    u, e = finest("u", bits), len(old.scan_u)
    gated = finest(mixed if scheme.rotation_bits is None else "rotated", bits, (0,))
    dual = scheme.dual_scale
    b, c = finest("b", bits), finest("c", bits)
    u_channel = old.u_channel * 0
    u_channel[e:] = np.repeat([b - u, c - u], (len(u_channel) - e) // 2)
    formats = replace(
        old,
        norm=finest("norm", bits),
        x=finest("x", bits, (0,)),
        u=u,
        u_channel=u_channel,
        scan_u=old.scan_u * 0 + (finest("u", scheme.scan_input_bits) if dual else u),
        dt=old.dt if heads else finest("dt", bits),
        b=b,
        c=c,
        delta=finest("delta", scheme.delta_bits + 1),
        state=finest("state", scheme.state_bits, (0, 2)),
        scan_output=finest("scan_output", scheme.scan_output_bits, (0,)),
        gate=finest("gate", scheme.gate_bits),
        gated=int(gated.min()),
        gated_channel=gated * 0,
        rotation=finest(mixed, scheme.rotation_bits) if scheme.rotation_bits else None,
    )
    # The update shifts left by 12 bits at most, so a tiny state stays coarser than it could be.
    update = formats.delta + formats.scan_u + formats.b - scheme.decay_bits
    formats = replace(formats, state=np.minimum(formats.state, update - SHIFT_LIMITS[0]))
    skip = to_real(layer.skip, old.c + old.state - old.scan_u)
    skip_fraction = formats.c + formats.state - formats.scan_u
    if heads:
        limits = (layer.selection.delta_low, layer.selection.delta_high)
        low, high = to_fixed_point(
            to_real(np.array(limits), old.delta), formats.delta, scheme.delta_bits, signed=False
        ).tolist()
        product = finest("gated", scheme.residual_bits)
        selection = replace(layer.selection, delta_low=low, delta_high=high, product=product)
    else:
        dt_proj = _rescaled(layer.dt_proj, old.dt, formats.dt)
        selection = replace(layer.projected, dt_proj=dt_proj)
    return replace(
        layer,
        convolution=_rescaled(layer.convolution, old.x, formats.x),
        selection=selection,
        skip=to_fixed_point(skip, skip_fraction, scheme.skip_bits),
        formats=formats,
    )


def _tamed(layer: Layer) -> Layer:
    """Make B, C, dt and outputs smaller, so that their products have no long tails.

    The channels of u get one scale, which :func:`_layer` then fits.
    """
    formats = layer.formats
    one_scale = replace(
        formats,
        u_channel=formats.u_channel * 0,
        scan_u=formats.scan_u - formats.u_channel[: len(formats.scan_u)],
    )
    selection = layer.selection
    if isinstance(selection, ProjectedSelection):
        x_proj = replace(layer.x_proj, fraction_bits=layer.x_proj.fraction_bits + 1)
        selection = replace(selection, x_proj=x_proj)
    return replace(
        layer,
        formats=one_scale,
        selection=selection,
        out_proj=replace(layer.out_proj, fraction_bits=layer.out_proj.fraction_bits + 2),
    )


def calibrated_frame_program(
    shape: NetworkShape, scheme: Scheme, features: np.ndarray, seed: int = 0
) -> Program:
    """A random frame network whose formats fit the real features (T, F) of one frame."""
    program = random_program(shape, scheme, seed)
    program = replace(program, layers=tuple(_tamed(layer) for layer in program.layers))
    exact, seen, after = float_network.frame_outputs(program, features)
    layers = tuple(
        _layer(scheme, layer, tensors) for layer, tensors in zip(program.layers, seen, strict=True)
    )
    norm, hidden = (
        int(fraction_bits_for(1.02 * np.abs(after[name]).max(), scheme.activation_bits))
        for name in ("final_norm", "hidden")
    )
    pooled = program.pooled_head
    head = _rescaled(program.head, pooled.hidden_fraction, hidden)
    pooled = replace(
        pooled,
        hidden=_rescaled(pooled.hidden, program.final_norm_fraction, norm),
        hidden_fraction=hidden,
    )
    return validate(
        replace(
            program,
            layers=layers,
            final_norm_fraction=norm,
            pooled=pooled,
            head=head,
            logit_fraction=int(fraction_bits_for(1.1 * np.abs(exact).max(), scheme.logit_bits)),
        )
    )


def calibrated_program(
    shape: NetworkShape, scheme: Scheme, tokens: np.ndarray, seed: int = 0
) -> Program:
    """A random program whose formats fit the one sequence ``tokens``, (l,)."""
    program = random_program(shape, scheme, seed)
    program = replace(program, layers=tuple(_tamed(layer) for layer in program.layers))
    exact, seen = float_network.logits(program, tokens)
    layers = tuple(
        _layer(scheme, layer, tensors) for layer, tensors in zip(program.layers, seen, strict=True)
    )
    logit_fraction = int(fraction_bits_for(1.1 * np.abs(exact).max(), scheme.logit_bits))
    return validate(replace(program, layers=layers, logit_fraction=logit_fraction))
