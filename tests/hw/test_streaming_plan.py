"""Streaming plans: closed-form latencies, one value a cycle on every probe, limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.configuration import FrameShape, NetworkShape
from golden.errors import InputError
from golden.presets import find_preset
from golden.scheme import find_scheme
from hw.lanes import divisors
from hw.streaming.choice import choose_streaming


@st.composite
def frame_shapes(draw):
    return NetworkShape(
        vocabulary=draw(st.integers(2, 60)),
        d_model=draw(st.integers(2, 24)),
        d_inner=draw(st.integers(2, 48)),
        d_state=draw(st.integers(1, 8)),
        d_conv=draw(st.integers(2, 4)),
        dt_rank=draw(st.integers(1, 4)),
        n_layer=draw(st.integers(1, 4)),
        frame=FrameShape(
            features=draw(st.integers(1, 30)),
            tokens=draw(st.sampled_from([1, 2, 4, 16])),
            hidden=draw(st.integers(2, 99)),
        ),
    )


@settings(max_examples=40, deadline=None)
@given(frame_shapes(), st.sampled_from(["w8a8", "w4a8", "w4a5-se"]), st.data())
def test_no_two_values_of_a_probe_come_in_one_cycle(shape, scheme, data):
    """Tokens repeat every interval, so values of one probe must differ modulo the interval."""
    scan = data.draw(st.sampled_from(divisors(shape.d_state)))
    plan = choose_streaming(shape, find_scheme(scheme), scan=scan)
    for name, cycles in plan.probes.items():
        places = np.asarray(cycles) % plan.interval
        assert len(np.unique(places)) == len(places), name
    for name, cycles in plan.frame_probes.items():
        places = np.asarray(cycles) % plan.frame_interval
        assert len(np.unique(places)) == len(places), name
    assert plan.hop % shape.n_layer == 1 % shape.n_layer
    assert all(stage.duration <= plan.frame_interval for stage in plan.stages.values())
    for name in ("x", "z", "projected", "out"):
        assert plan.stages[name].duration <= plan.beat
    assert max(plan.utilisation.values()) <= 1


@settings(max_examples=20, deadline=None)
@given(frame_shapes())
def test_a_token_keeps_its_residual_until_its_last_block(shape):
    plan = choose_streaming(shape, find_scheme("w8a8"))
    held = int(plan.probes["residual"][-1]) - plan.load
    assert plan.slots["residual"] * plan.interval > held


def test_mars_takes_1280_cycles_a_frame():
    plan = choose_streaming(find_preset("mars"), find_scheme("w4a8"))
    assert plan.frame_interval == 16 * 2 * 40 == 1280
    assert plan.utilisation["arrays"] > 0.98


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("micro", {}, "the streaming organisation needs a frame network"),
        ("mars", {"scan": 3}, "scan lanes = 3 does not divide d_state = 8"),
        ("mars", {"scan": 0}, "scan lanes = 0 does not divide"),
        ("mars", {"beat": 39}, "a beat of 39 cycles is too short, .* need 40"),
    ],
)
def test_what_cannot_be_is_refused(preset, options, message):
    with pytest.raises(InputError, match=message):
        choose_streaming(find_preset(preset), find_scheme("w8a8"), **options)
