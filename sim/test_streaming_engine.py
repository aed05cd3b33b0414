"""Streaming engines of drawn frame networks in Amaranth's simulator against golden."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.configuration import AverageShape, FrameShape, NetworkShape, PatchShape
from golden.random_program import random_program
from golden.scheme import SCHEMES
from golden.vectors import random_stimulus, trace
from hw.lanes import divisors
from hw.multiplier import Multipliers
from hw.parameter_memory import MemoryPlan
from hw.streaming import StreamingEngine, choose_streaming
from sim.streaming_bench import compare_streaming, run_streaming


@st.composite
def frames(draw):
    """Return a frame: rows or patches are its tokens, and a mean or all of them go to the head."""
    pooled, kernel = draw(st.booleans()), draw(st.integers(1, 4))
    patch = PatchShape(
        width=draw(st.integers(1, 5)), kernel=kernel, stride=draw(st.integers(1, kernel))
    )
    return FrameShape(
        features=draw(st.integers(1, 9)),
        tokens=draw(st.sampled_from([1, 2, 4] if pooled else [1, 2, 3, 5])),
        hidden=draw(st.integers(2, 9)) if pooled else None,
        patch=draw(st.sampled_from([None, patch])),
    )


@st.composite
def frame_networks(draw, schemes=("w8a8", "w4a5-se", "w4a8-h", "w4a4-h", "w4a16", "ternary")):
    """Return (program, plan) of a small frame network of either mixer."""
    average = draw(st.booleans())
    scheme = SCHEMES[draw(st.sampled_from(schemes))]
    inner = draw(st.integers(6, 14))
    if scheme.rotation_bits is not None:
        inner = draw(st.sampled_from([8, 12, 16, 20]))
    shape = NetworkShape(
        vocabulary=draw(st.integers(2, 9)),
        d_model=draw(st.integers(4, 9)),
        d_inner=inner,
        d_state=1 if average else draw(st.sampled_from([1, 2, 3, 4])),
        d_conv=draw(st.sampled_from([1, 3, 5]) if average else st.integers(2, 4)),
        dt_rank=inner if average else draw(st.integers(1, 3)),
        n_layer=draw(st.integers(1, 3)),
        frame=draw(frames()),
        average=AverageShape(gated=draw(st.booleans())) if average else None,
    )
    scan = draw(st.sampled_from(divisors(shape.d_state)))
    program = random_program(shape, scheme, seed=draw(st.integers(0, 1000)))
    plan = choose_streaming(shape, scheme, scan=scan)
    if draw(st.booleans()):
        plan = choose_streaming(shape, scheme, scan=scan, beat=plan.beat + draw(st.integers(0, 9)))
    return program, plan


def check(
    program,
    plan,
    *,
    seed,
    stall_seed=None,
    cut=False,
    multipliers=Multipliers.DSP,
    reset=None,
    contexts=1,
):
    """Run one engine on a few frames and compare every probe in value and cycle.

    With ``reset`` the engine is persistent, and that is its policy at the end of a frame.
    """
    stream = random_stimulus(program, 3 if contexts == 1 else 5, seed, contexts)
    features = stream.tokens.copy()
    if cut:
        features[np.random.default_rng(seed).random(len(features)) < 0.5] = 0
    expected = trace(
        program, features, stream.last, stream.context, reset_at_last=reset is not False
    )
    engine = StreamingEngine(
        program=program,
        plan=plan,
        realisation=MemoryPlan(multipliers=multipliers),
        persistent=reset is not None,
        contexts=contexts,
    )
    recording = run_streaming(engine, expected, stall_seed=stall_seed, cut=cut, reset_at_last=reset)
    compare_streaming(recording, program, expected, engine)
    return recording, engine


@settings(max_examples=8, deadline=None)
@given(frame_networks(), st.integers(0, 99))
def test_streaming_engine_equals_golden_at_full_speed(drawn, seed):
    program, plan = drawn
    recording, engine = check(program, plan, seed=seed)
    tokens, frame = engine.plan.shape.frame.tokens, engine.plan.frame_interval
    starts = np.array(recording.starts).reshape(-1, tokens)
    assert set(np.diff(starts).ravel().tolist()) <= {engine.plan.interval}
    assert set(np.diff(starts[:, 0]).tolist()) <= {frame}


@settings(max_examples=6, deadline=None)
@given(frame_networks(), st.integers(0, 99), st.sampled_from(sorted(Multipliers)))
def test_streaming_engine_equals_golden_under_stalls(drawn, seed, multipliers):
    program, plan = drawn
    check(program, plan, seed=seed, stall_seed=seed, cut=bool(seed % 2), multipliers=multipliers)


@settings(max_examples=6, deadline=None)
@given(
    frame_networks(), st.integers(0, 99), st.booleans(), st.booleans(), st.sampled_from([1, 2, 4])
)
def test_states_outlive_frames_by_policy_and_contexts_do_not_meet(
    drawn, seed, stalls, reset, contexts
):
    program, plan = drawn
    stall_seed = seed if stalls else None
    recording, engine = check(
        program, plan, seed=seed, stall_seed=stall_seed, reset=reset, contexts=contexts
    )
    if not stalls:
        begun = recording.starts[:: engine.plan.shape.frame.tokens]
        assert set(np.diff(begun).tolist()) == {engine.plan.frame_interval}


@pytest.mark.parametrize("d_inner", [16, 20])
def test_rotated_vectors_follow_each_other_without_a_gap(d_inner):
    shape = NetworkShape(
        vocabulary=3, d_model=5, d_inner=d_inner, d_state=2, d_conv=2, dt_rank=1, n_layer=3,
        frame=FrameShape(features=3, tokens=2, hidden=4),
    )  # fmt: skip
    program = random_program(shape, SCHEMES["w8a8-h"], seed=d_inner)
    _, engine = check(program, choose_streaming(shape, program.scheme, scan=2), seed=0)
    assert engine.plan.beat < 2 * d_inner
