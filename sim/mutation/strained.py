"""The network and the streams of the mutation test: small, and strained so that no fault hides."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from golden import vectors
from golden.configuration import HeadShape, NetworkShape
from golden.layer import Layer, Linear
from golden.program import Program, TokenEmbedding
from golden.random_program import random_program
from golden.scheme import Scheme, find_scheme
from golden.validation import validate
from hw.lanes import Lanes
from hw.schedule import Schedule
from sim.cosimulation import Stimulus

SHAPE = NetworkShape(
    vocabulary=48, d_model=16, d_inner=32, d_state=4, d_conv=4, dt_rank=3, n_layer=2, mlp=20
)
"""Two layers, two steps a channel, groups of rows that are not full, an odd rank."""

LANES = Lanes(mac=8, scan=2)
SCHEME = "w4a5-se-h"
TERNARY = Scheme(name="strained-ternary", weight_bits=2, ternary=True, projection_bits=4)
"""Matrices read 4 bits and the head 8, so that every norm and u has two widths."""
QUIET, LOUD = 0, 1
"""Tokens whose embedding is next to nothing, and next to the residual's limit."""

STEADY = 31
"""Channel whose step size depends on nothing: the softplus of -1."""

_TOKENS = (LOUD, 7, QUIET, 31, 7, 12, 46, LOUD, 3, 20, QUIET, 40, 22, 5)
_LAST = (0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0)
_MARGIN = 400


def _amplified(linear: Linear, channels: slice, bits: int) -> Linear:
    """Return ``linear`` with the results of ``channels`` larger by ``2**bits``."""
    fraction = linear.fraction_bits.copy()
    fraction[channels] -= bits
    return dataclasses.replace(linear, fraction_bits=fraction)


def _steady(linear: Linear, input_fraction: int) -> Linear:
    """Return dt_proj with the channel :data:`STEADY`."""
    weight, bias = linear.weight.copy(), np.array(linear.bias)
    weight[STEADY] = 0
    bias[STEADY] = -1 << int(linear.fraction_bits[STEADY] + input_fraction)
    return dataclasses.replace(linear, weight=weight, bias=bias)


def _strained_layer(layer: Layer, number: int) -> Layer:
    """Drive SiLU beyond its table, step size and state into saturation, codes below -7."""
    formats = layer.formats
    if number:
        formats = dataclasses.replace(formats, scan_u=np.full_like(formats.scan_u, 7))
    return dataclasses.replace(
        layer,
        convolution=_amplified(layer.convolution, slice(0, 4), 4),
        selection=dataclasses.replace(
            layer.projected,
            dt_proj=_steady(_amplified(layer.dt_proj, slice(2, 8), 4), formats.dt),
        ),
        formats=formats,
    )


def _embedding(program: Program) -> TokenEmbedding:
    """Return the embedding with the quiet and the loud token."""
    front = program.token_embedding
    rows, shift = front.table.copy(), front.shift.copy()
    signs = np.where(rows < 0, -1, 1)
    rows[QUIET], shift[QUIET] = 8 * signs[QUIET], 3
    rows[LOUD], shift[LOUD] = 127 * signs[LOUD], program.scheme.residual_bits - 8
    return TokenEmbedding(table=rows, shift=shift)


def strained_program() -> Program:
    """Return a random program in which rare cases are common.

    Every logit occurs twice, so that the arg-max has to choose the first of two largest ones.
    """
    program = random_program(SHAPE, find_scheme(SCHEME), seed=3)
    half = SHAPE.vocabulary // 2
    head = Linear(
        weight=np.tile(program.head.weight[:half], (2, 1)),
        fraction_bits=np.tile(program.head.fraction_bits[:half], 2),
    )
    return validate(
        dataclasses.replace(
            program,
            front=_embedding(program),
            head=head,
            layers=tuple(_strained_layer(layer, i) for i, layer in enumerate(program.scan_layers)),
        )
    )


def strained_heads() -> Program:
    """Return a random Mamba-2 program whose step sizes reach both of their limits."""
    shape = dataclasses.replace(SHAPE, dt_rank=0, mlp=None, heads=HeadShape(size=4, groups=2))
    program = random_program(shape, find_scheme("w4a5-se"), seed=3)

    def strained(layer: Layer) -> Layer:
        own, rows = layer.head_selection, layer.in_proj.fraction_bits.copy()
        rows[shape.convolution_channels : shape.gate_row] -= 3
        rows[shape.convolution_channels] -= 4  # the first head's dt saturates
        selection = dataclasses.replace(own, delta_low=200, delta_high=3000)
        in_proj = dataclasses.replace(layer.in_proj, fraction_bits=rows)
        return dataclasses.replace(layer, in_proj=in_proj, selection=selection)

    layers = tuple(strained(layer) for layer in program.scan_layers)
    return validate(dataclasses.replace(program, front=_embedding(program), layers=layers))


def strained_ternary() -> Program:
    """Return a random ternary program whose weights fill several banks of block memories.

    Most of them are the head's, six digits each. The blocks' norms are large, so that they
    saturate.
    """
    shape = dataclasses.replace(SHAPE, vocabulary=288, d_model=32, d_inner=64, mlp=None)
    program = random_program(shape, TERNARY, seed=3)
    layers = tuple(
        dataclasses.replace(
            layer, formats=dataclasses.replace(layer.formats, norm=layer.formats.norm + 2)
        )
        for layer in program.scan_layers
    )
    return validate(dataclasses.replace(program, front=_embedding(program), layers=layers))


def strained_formats() -> Program:
    """Return a random program with groups of weights, zero points and a narrow block.

    The last group of a row of its MLPs is not full.
    """
    scheme = dataclasses.replace(find_scheme("w4a8"), asymmetric=True, weight_group=4)
    shape = dataclasses.replace(SHAPE, mlp=18)
    program = random_program(shape, scheme, seed=3, widths=(5, None))
    return validate(dataclasses.replace(program, front=_embedding(program)))


@dataclass(frozen=True)
class Scenario:
    """One stream and the values that golden expects.

    Parameters
    ----------
    name : for reports
    stimulus : what is played
    trace : golden's values
    saved : golden's words of every state that the stream's host saves
    """

    name: str
    stimulus: Stimulus
    trace: vectors.Trace
    saved: dict[str, list[list[int]]] = dataclasses.field(default_factory=dict)


def scenarios(program: Program, schedule: Schedule, length: int | None = None) -> list[Scenario]:
    """Return the streams in the order of playing: full speed, then stalls that keep the state.

    Parameters
    ----------
    program : what plays
    schedule : of its design
    length : tokens of a stream; without it all
    """
    tokens, last = list(_TOKENS[:length]), list(_LAST[:length])
    busy = len(tokens) * schedule.interval + schedule.latency + _MARGIN
    full = Stimulus(tokens=tokens, last=last, vocabulary=program.shape.vocabulary, watchdog=busy)
    stalled = dataclasses.replace(
        full,
        stall_seed=5,
        longest_stall=2 * schedule.interval,
        reset_at_last=False,
        watchdog=3 * busy,
    )
    return [
        Scenario(
            name,
            stimulus,
            vectors.trace(program, tokens, last, reset_at_last=stimulus.reset_at_last),
        )
        for name, stimulus in (("full speed", full), ("stalls, state kept", stalled))
    ]
