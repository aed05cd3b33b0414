"""What a program must satisfy: shapes, ranges, shifts, accumulators; each refusal by name."""

from dataclasses import replace

import numpy as np
import pytest

from golden.errors import InputError
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.scheme import SCHEMES
from golden.validation import validate

PROGRAM = random_program(PRESETS["micro"], SCHEMES["w8a8"])
FRONT = PROGRAM.token_embedding
LAYER = PROGRAM.layers[0]
FORMATS = LAYER.formats


def with_layer(**changes):
    return replace(PROGRAM, layers=(replace(LAYER, **changes),))


def with_front(**changes):
    return replace(PROGRAM, front=replace(FRONT, **changes))


def with_formats(**changes):
    return with_layer(formats=replace(FORMATS, **changes))


def with_value(array: np.ndarray, value: int) -> np.ndarray:
    changed = array.copy()
    changed.flat[0] = value
    return changed


ROTATED = random_program(PRESETS["micro"], SCHEMES["w8a8-h"])
ROTATED_LAYER = ROTATED.layers[0]


def test_a_format_of_the_rotation_without_one_is_refused():
    with pytest.raises(InputError, match="has 8 fraction bits before the rotation, scheme w8a8 "):
        validate(with_formats(rotation=8))
    formats = replace(ROTATED_LAYER.formats, rotation=None)
    program = replace(ROTATED, layers=(replace(ROTATED_LAYER, formats=formats),))
    with pytest.raises(InputError, match=r"has None fraction bits .* scheme w8a8-h rotates 12"):
        validate(program)


def test_a_size_that_cannot_be_rotated_is_refused():
    shape = replace(PRESETS["micro"], d_inner=28)
    with pytest.raises(InputError, match=r"no Hadamard transform of order 28; rotate a d_inner"):
        random_program(shape, SCHEMES["w8a8-h"])


def test_a_ternary_program_holds_nothing_below_minus_one():
    program = random_program(PRESETS["micro"], SCHEMES["ternary"])
    matrix = program.layers[0].in_proj
    low = replace(matrix, weight=with_value(matrix.weight, -2))
    layer = replace(program.layers[0], in_proj=low)
    with pytest.raises(InputError, match=r"layers.0.in_proj.weight holds -2, scheme ternary is"):
        validate(replace(program, layers=(layer,)))


def test_valid_program_passes_unchanged():
    assert validate(PROGRAM) is PROGRAM


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (with_front(table=FRONT.table[:-1]), r"embedding has shape \(63, 16\)"),
        (replace(PROGRAM, layers=()), "has 0 layers, its shape says 1"),
        (with_layer(skip=LAYER.skip[1:]), r"layers.0.skip has shape \(31,\)"),
        (with_layer(in_proj=LAYER.out_proj), r"in_proj.weight has shape \(16, 32\)"),
        (with_formats(state=FORMATS.state[:3]), r"formats.state has shape \(3,\)"),
    ],
)
def test_wrong_shape_is_refused(program, message):
    with pytest.raises(InputError, match=message):
        validate(program)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            with_front(table=with_value(FRONT.table, 128)),
            r"embedding spans .*128, outside -128\.\.127 of its 8-bit format",
        ),
        (
            with_layer(decay_rate=with_value(LAYER.decay_rate, -1)),
            r"decay_rate spans -1\.\..*outside 0\.\.1023",
        ),
        (
            with_layer(skip=with_value(LAYER.skip, 1 << 15)),
            r"skip spans .*32768, outside -32768\.\.32767",
        ),
        (
            with_front(shift=with_value(FRONT.shift, 14)),
            r"shifted embedding spans .* outside -131072\.\.131071 of the 18-bit residual",
        ),
    ],
)
def test_value_outside_its_format_is_refused(program, message):
    with pytest.raises(InputError, match=message):
        validate(program)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (with_formats(norm=60), "layer 0 x spans .*outside -12..31"),
        (with_formats(gate=40), r"layer 0 gate spans -17\.\.-17, outside -12\.\.31"),
        (with_formats(delta=-30), "layer 0 delta spans 53..53"),
        (replace(PROGRAM, logit_fraction=60), "head spans"),
        (replace(PROGRAM, final_norm_fraction=60), "final norm spans|head spans"),
    ],
)
def test_shift_outside_the_hardware_is_refused(program, message):
    with pytest.raises(InputError, match=message):
        validate(program)


def test_accumulator_that_could_overflow_is_refused():
    bias = with_value(LAYER.dt_proj.bias, (1 << 31) - 1)
    dt_proj = replace(LAYER.dt_proj, bias=bias)
    program = with_layer(selection=replace(LAYER.projected, dt_proj=dt_proj))
    with pytest.raises(InputError, match=r"dt_proj can accumulate up to 2147.*limit .* 2147483647"):
        validate(program)


def test_read_out_that_could_overflow_is_refused():
    scheme = replace(SCHEMES["w8a8"], state_bits=18)
    shape = replace(PRESETS["micro"], d_state=127)
    validate(random_program(shape, scheme))
    with pytest.raises(InputError, match=r"read-out can reach 21.*use fewer state bits"):
        random_program(replace(shape, d_state=128), scheme)


def test_missing_bias_is_refused():
    program = with_layer(convolution=replace(LAYER.convolution, bias=None))
    with pytest.raises(InputError, match="lacks the bias of convolution"):
        validate(program)
    dt_proj = replace(LAYER.dt_proj, bias=None)
    program = with_layer(selection=replace(LAYER.projected, dt_proj=dt_proj))
    with pytest.raises(InputError, match="lacks the bias of dt_proj"):
        validate(program)


def test_two_scales_of_one_stored_tensor_are_refused():
    scan_u = LAYER.formats.scan_u.copy()
    scan_u[3] += 1
    with pytest.raises(InputError, match=f"channel 3 of the scan input {scan_u[3]} fraction bits"):
        validate(with_formats(scan_u=scan_u))
