"""Networks with a moving average, patches and a head on all tokens: golden against real numbers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.artifact import from_bytes, to_bytes
from golden.configuration import AverageShape, FrameShape, NetworkShape, PatchShape
from golden.errors import InputError
from golden.fixed_point import to_real
from golden.frames import FrameExecutor
from golden.operations.linear import centred_convolution
from golden.operations.moving_average import average_decay, average_step, moving_average
from golden.random_program import random_program, standard_tables
from golden.scheme import SCHEMES
from golden.vectors import random_stimulus, trace


@st.composite
def average_shapes(draw):
    """Return the shape of a small network with a moving average and any front and head."""
    kernel = draw(st.integers(1, 4))
    patch = PatchShape(
        width=draw(st.integers(1, 5)), kernel=kernel, stride=draw(st.integers(1, kernel))
    )
    pooled = draw(st.booleans())
    inner = draw(st.integers(4, 12))
    return NetworkShape(
        vocabulary=draw(st.integers(2, 4)),
        d_model=draw(st.integers(4, 9)),
        d_inner=inner,
        d_state=1,
        d_conv=draw(st.sampled_from([1, 1, 3, 5])),
        dt_rank=inner,
        n_layer=draw(st.integers(1, 3)),
        frame=FrameShape(
            features=draw(st.integers(1, 9)),
            tokens=draw(st.sampled_from([1, 2, 4] if pooled else [1, 2, 3, 5])),
            hidden=draw(st.integers(2, 6)) if pooled else None,
            patch=draw(st.sampled_from([None, patch, patch])),
        ),
        average=AverageShape(gated=draw(st.booleans())),
    )


def rotatable(shape):
    return replace(shape, d_inner=8, dt_rank=8)


@settings(max_examples=25, deadline=None)
@given(average_shapes(), st.sampled_from(["w8a8", "w4a8", "w4a5-se", "w4a4-h"]), st.integers(0, 99))
def test_compiled_equals_definition_and_artifact_keeps_everything(shape, name, seed):
    scheme = SCHEMES[name]
    if scheme.rotation_bits is not None:
        shape = rotatable(shape)
    program = random_program(shape, scheme, seed)
    data = to_bytes(program)
    again = from_bytes(data, "memory")
    assert to_bytes(again) == data
    features = random_stimulus(program, 5, seed).tokens
    frames = features.reshape(5, shape.frame.rows, -1)
    made = trace(program, features).probes["logits"]
    np.testing.assert_array_equal(FrameExecutor(again).forward(frames), made)


def test_average_is_two_products_rounded_once():
    random = np.random.default_rng(0)
    state, v = random.integers(-2048, 2048, (2, 4000))
    decay = random.integers(0, 4097, 4000)
    exact = (decay * state + (4096 - decay) * v) / 4096
    made = average_step(state, decay, v, 12)
    np.testing.assert_array_equal(made, np.rint(exact))
    assert (made >= np.minimum(state, v)).all()
    assert (made <= np.maximum(state, v)).all()


def test_decay_spans_zero_to_one():
    table = standard_tables(average=True).sigmoid
    ends = np.array([-(1 << 17), 0, (1 << 17) - 1])
    for bits in (4, 12, 16):
        assert average_decay(ends, table, bits).tolist() == [0, 1 << (bits - 1), 1 << bits]


def test_averages_match_the_recurrence_in_float64():
    """Rounding moves the state by half a step a token, which the decay then shrinks."""
    random = np.random.default_rng(1)
    decay = random.integers(0, 4097, (3, 200, 6))
    v = random.integers(-2048, 2048, (3, 200, 6))
    made, last = moving_average(np.zeros((3, 6), np.int64), decay, v, 12)
    weight, state, bound = to_real(decay, 12), np.zeros((3, 6)), np.zeros((3, 6))
    for t in range(v.shape[1]):
        state = weight[:, t] * state + (1 - weight[:, t]) * v[:, t]
        bound = weight[:, t] * bound + 0.5
        assert (np.abs(made[:, t] - state) <= bound + 1e-9).all()
    np.testing.assert_array_equal(last, made[:, -1])


def test_centred_convolution_is_numpys_same():
    random = np.random.default_rng(2)
    x, weight = random.integers(-128, 128, (2, 7, 3)), random.integers(-128, 128, (3, 5))
    made = centred_convolution(x, weight, np.array([1, 2, 3]))
    for b in range(2):
        for e in range(3):
            expected = np.convolve(x[b, :, e], weight[e, ::-1], mode="same") + e + 1
            np.testing.assert_array_equal(made[b, :, e], expected)


def test_patches_overlap_as_their_stride_says():
    shape = NetworkShape(
        vocabulary=2, d_model=4, d_inner=4, d_state=1, d_conv=1, dt_rank=4, n_layer=1,
        frame=FrameShape(features=3, tokens=3, patch=PatchShape(width=2, kernel=4, stride=2)),
        average=AverageShape(),
    )  # fmt: skip
    program = random_program(shape, SCHEMES["w8a8"])
    features = random_stimulus(program, 1, 0).tokens
    before = trace(program, features)
    features[-1] = 0
    after = trace(program, features)
    same = before.probes["residual"] == after.probes["residual"]
    assert same.all(axis=1).tolist() == [True, True, False]
    assert before.probes["rows"].shape == (8, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_conv": 4}, "d_conv = 4 is even"),
        ({"d_state": 2}, "d_state = 2 and dt_rank = 4"),
        ({"dt_rank": 3}, "one state a channel and a projection of full rank: 1 and 4"),
        ({"frame": None}, "mixes frames only"),
    ],
)
def test_shapes_that_no_moving_average_has(change, message):
    arguments = {
        "vocabulary": 2, "d_model": 4, "d_inner": 4, "d_state": 1, "d_conv": 1, "dt_rank": 4,
        "n_layer": 1, "frame": FrameShape(features=3, tokens=3), "average": AverageShape(),
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        NetworkShape(**arguments | change)


def test_a_program_must_be_of_its_shape():
    shape = NetworkShape(
        vocabulary=2, d_model=4, d_inner=4, d_state=1, d_conv=1, dt_rank=4, n_layer=1,
        frame=FrameShape(features=3, tokens=3), average=AverageShape(),
    )  # fmt: skip
    program = random_program(shape, SCHEMES["w8a8"])
    for change, message in (
        ({"tables": standard_tables()}, "lacks the table of the sigmoid"),
        ({"shape": replace(shape, d_conv=3)}, "lacks a convolution"),
        ({"shape": replace(shape, average=None, d_conv=2)}, "no selective scan"),
    ):
        with pytest.raises(InputError, match=message):
            to_bytes(replace(program, **change))
