"""Shapes, schemes and presets: what is accepted, what is refused and how."""

from dataclasses import asdict, replace

import pytest

from golden.configuration import FrameShape, HeadShape, NetworkShape
from golden.errors import InputError
from golden.presets import PRESETS, find_preset
from golden.scheme import SCHEMES, Scheme, find_scheme

MICRO = asdict(PRESETS["micro"])
FRAME = asdict(PRESETS["mars"].frame)


@pytest.mark.parametrize("field", [name for name in MICRO if isinstance(MICRO[name], int)])
@pytest.mark.parametrize("value", [0, -1, 2.0, "8", None, (1 << 20) + 1])
def test_size_out_of_range_is_refused(field, value):
    with pytest.raises(InputError, match=rf"{field} = {value!r} is not an integer in"):
        NetworkShape(**MICRO | {field: value})


@pytest.mark.parametrize("value", [0, 1, 2.0, "8", (1 << 20) + 1])
def test_width_of_an_mlp_out_of_range_is_refused(value):
    with pytest.raises(InputError, match=rf"mlp = {value!r} is not an integer in 2\.\."):
        NetworkShape(**MICRO | {"mlp": value})


def test_frames_have_no_mlp():
    with pytest.raises(InputError, match="mlp = 8 in a frame network; only language models"):
        replace(PRESETS["mars"], mlp=8)


@pytest.mark.parametrize("field", ["features", "tokens", "hidden"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "8", (1 << 20) + 1])
def test_frame_size_out_of_range_is_refused(field, value):
    with pytest.raises(InputError, match=rf"{field} = {value!r} is not an integer in"):
        FrameShape(**FRAME | {field: value})


def test_frames_have_a_power_of_two_of_tokens():
    with pytest.raises(InputError, match="tokens = 12 is not a power of two; pad the frame"):
        FrameShape(**FRAME | {"tokens": 12})
    assert [FrameShape(**FRAME | {"tokens": t}).tokens_log2 for t in (1, 2, 16)] == [0, 1, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_inner": 36}, "d_inner = 36 is no multiple of the head size 8"),
        ({"heads": HeadShape(size=8, groups=3)}, "groups = 3 is no divisor of 4 heads"),
        ({"dt_rank": 2}, "dt_rank = 2 .* leave both out"),
        ({"frame": PRESETS["mars"].frame}, "frame networks have no heads"),
    ],
)
def test_heads_must_divide_the_channels(change, message):
    with pytest.raises(InputError, match=message):
        replace(PRESETS["micro-mamba2"], **change)


def test_head_sizes_are_checked():
    for field in ("size", "groups"):
        with pytest.raises(InputError, match=rf"{field} = 0 is not an integer in"):
            HeadShape(**{"size": 4, "groups": 1, field: 0})


def test_derived_sizes_of_both_families():
    first, second = PRESETS["bytelm"], PRESETS["mamba2-130m"]
    assert (first.step_sizes, first.convolution_channels, first.gate_row, first.projected) == (
        256,
        256,
        256,
        40,
    )
    assert (second.step_sizes, second.convolution_channels, second.gate_row) == (24, 1792, 1816)
    # in_proj of the public checkpoint has 3352 rows.
    assert second.gate_row + second.d_inner == 3352
    assert second.projected == 0


@pytest.mark.parametrize("value", [0, 40, 8.0])
@pytest.mark.parametrize(
    "field", ["weight_bits", "feature_bits", "state_bits", "decay_bits", "logit_bits"]
)
def test_width_out_of_range_is_refused(field, value):
    with pytest.raises(InputError, match=rf"{field} = {value!r} of scheme w8a8 is outside"):
        replace(SCHEMES["w8a8"], **{field: value})


def test_ternary_weights_take_two_bits():
    with pytest.raises(InputError, match="scheme w4a8 is ternary with weight_bits = 4; ternary"):
        replace(SCHEMES["w4a8"], ternary=True)
    assert SCHEMES["ternary"].weight_range == (-1, 1)
    assert SCHEMES["w4a8"].weight_range == (-8, 7)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InputError, match="unknown scheme 'w3a3'; choose one of w8a8, w4a8"):
        find_scheme("w3a3")
    with pytest.raises(InputError, match="unknown preset 'huge'; choose one of micro"):
        find_preset("huge")
    assert find_scheme("w8a8") is SCHEMES["w8a8"]
    assert find_preset("micro") is PRESETS["micro"]


def test_derived_widths():
    dual, plain = SCHEMES["w4a5-se"], SCHEMES["w8a8"]
    assert (dual.scan_storage_bits, dual.scan_input_bits) == (5, 6)
    assert (plain.scan_storage_bits, plain.scan_input_bits) == (8, 8)
    narrow = SCHEMES["w4a4-h"]
    assert (narrow.projection_input_bits, narrow.scan_input_bits, narrow.gated_bits) == (4, 8, 12)
    assert plain.update_bits == 12 + 12 + 2
    assert PRESETS["bytelm"].projected == 8 + 2 * 16
    assert (PRESETS["bytelm"].head_inputs, PRESETS["mars"].head_inputs) == (128, 96)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_group": 100}, "weight_group = 100 of scheme own is no power of two"),
        ({"weight_group": 2}, r"weight_group = 2 of scheme own is outside 4\.\.1024"),
        ({"weight_group": 8, "weight_bits": 2, "ternary": True}, "is ternary, a row of such"),
        ({"asymmetric": True, "projection_bits": 16}, "codes with zero points have 15 at most"),
        ({"head_bits": 17}, r"head_bits = 17 of scheme own is outside 4\.\.16"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Scheme(name="own", **options)
