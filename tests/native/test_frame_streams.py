"""Frames that continue a stream: the golden model's outputs and states, in C++ and across."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from golden import vectors
from golden.builtin import load_builtin, trained_schemes
from golden.errors import InputError
from golden.frames import FrameExecutor as GoldenFrameExecutor
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.scheme import SCHEMES
from golden.state import State
from native.frames import FrameExecutor
from native.library import available_instructions
from tests.golden.test_average_networks import average_shapes
from tests.golden.test_executor import WIDTHS, assert_equal_states
from tests.golden.test_frames import SHAPES
from tests.native.test_executor import random_features

INSTRUCTIONS = available_instructions()
STREAMS = 3
ACTIONS = ["advance", "advance", "advance in place", "change sides", "copy", "roll back", "reset"]


@settings(max_examples=60)
@given(
    SHAPES | average_shapes(),
    WIDTHS,
    st.integers(0, 99),
    st.sampled_from(INSTRUCTIONS),
    st.lists(
        st.tuples(st.integers(0, STREAMS - 1), st.sampled_from(ACTIONS)), min_size=3, max_size=16
    ),
)
def test_streams_of_any_frame_network_take_turns(shape, scheme, seed, instructions, plan):
    try:
        program = random_program(shape, scheme, seed)
    except InputError:
        reject()  # shifts or accumulators beyond the hardware's
    own, golden = FrameExecutor(program, instructions=instructions), GoldenFrameExecutor(program)
    contexts = [own.context() for _ in range(STREAMS)]
    states = [State.zeros(program, 1) for _ in range(STREAMS)]
    kept = states[0].copy()
    for turn, (stream, action) in enumerate(plan):
        frames = random_features(program, 1 + turn % 3, seed + turn)
        context, state = contexts[stream], states[stream]
        if action == "advance":
            assert np.array_equal(context.advance(frames), golden.advance(frames, state))
        elif action == "advance in place":
            before = context.save()
            assert np.array_equal(own.advance(frames, before), golden.advance(frames, state))
            context.restore(before)
        elif action == "change sides":
            states[stream] = context.save()
            context.restore(state)
        elif action == "copy":
            other = (stream + 1) % STREAMS
            contexts[other], states[other] = context.copy(), state.copy()
        elif action == "roll back":
            context.restore(kept)
            states[stream] = kept.copy()
        else:
            context.reset()
            states[stream] = State.zeros(program, 1)
        if turn % 4 == 0:
            kept = contexts[stream].save()
    for context, state in zip(contexts, states, strict=True):
        assert_equal_states(context.save(), state)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("preset", ["mars", "slim-k1", "slim-k2"])
def test_a_stream_at_every_scheme(preset, scheme, instructions):
    program = random_program(PRESETS[preset], scheme)
    frames, state = random_features(program, 4), State.zeros(program, 1)
    context = FrameExecutor(program, instructions=instructions).context()
    expected = GoldenFrameExecutor(program).advance(frames, state)
    assert np.array_equal(np.concatenate([context.advance(f[None]) for f in frames]), expected)
    assert_equal_states(context.save(), state)
    assert state.scan.any()


@pytest.mark.parametrize(
    ("preset", "scheme"),
    [(preset, s) for preset in ("mars", "slim", "slim-k1") for s in trained_schemes(preset)],
)
def test_a_stream_of_a_trained_program(preset, scheme):
    program = load_builtin(preset, SCHEMES[scheme])
    frames = random_features(program, 6)
    own, golden = FrameExecutor(program), GoldenFrameExecutor(program)
    state = State.zeros(program, 1)
    whole = golden.advance(frames, state)
    assert not np.array_equal(whole, golden.forward(frames))
    # Golden's state continues here, and the other way.
    first, second = State.zeros(program, 1), own.context()
    golden.advance(frames[:2], first)
    assert np.array_equal(own.advance(frames[2:], first), whole[2:])
    assert_equal_states(first, state)
    assert np.array_equal(second.advance(frames[:3]), whole[:3])
    saved, third = second.save(), second.copy()
    assert np.array_equal(golden.advance(frames[3:], saved), whole[3:])
    assert_equal_states(saved, state)
    assert np.array_equal(third.advance(frames[3:]), whole[3:])
    assert np.array_equal(second.advance(frames[3:]), whole[3:])
    second.reset()
    assert np.array_equal(second.advance(frames), whole)
    assert_equal_states(second.save(), state)


@pytest.mark.parametrize("preset", ["mars", "slim-k1", "slim-k2"])
def test_probes_of_a_stream_are_golden_s(preset):
    program = random_program(PRESETS[preset], SCHEMES["w8a8"])
    frames, seen = random_features(program, 3), {}
    FrameExecutor(program).context().advance(
        frames,
        lambda name, layer, values: seen.update(
            {name if layer < 0 else f"layer{layer}.{name}": values}
        ),
    )
    stream = frames.reshape(-1, frames.shape[-1])
    expected = vectors.trace(program, stream, reset_at_last=False, with_state=False).probes
    assert seen.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(seen[name].reshape(values.shape), values), name


def test_no_frames_leave_the_state_alone():
    program = random_program(PRESETS["mars"], SCHEMES["w8a8"])
    frames, context = random_features(program, 2), FrameExecutor(program).context()
    context.advance(frames)
    before = context.save()
    assert context.advance(frames[:0]).shape == (0, program.shape.vocabulary)
    assert_equal_states(context.save(), before)


def test_bad_frames_leave_the_state_alone():
    program = random_program(PRESETS["mars"], SCHEMES["w8a8"])
    frames, own = random_features(program, 2), FrameExecutor(program)
    context = own.context()
    context.advance(frames)
    before, state = context.save(), context.save()
    frames[1, -1, -1] = 1 << (program.scheme.feature_bits - 1)
    for advance in (context.advance, lambda bad: own.advance(bad, state)):
        with pytest.raises(InputError, match=r"features span .* saturate them to that range"):
            advance(frames)
        with pytest.raises(InputError, match="the program reads \\(frames, 16, 20\\)"):
            advance(frames[:, 1:])
    assert_equal_states(context.save(), before)
    assert_equal_states(state, before)


@pytest.mark.parametrize(
    ("preset", "activation_bits", "bits"),
    [("mars", 8, 12), ("slim-k1", 8, 12), ("slim-k1", 14, 14)],
)
def test_a_state_of_another_program(preset, activation_bits, bits):
    scheme = replace(SCHEMES["w8a8"], activation_bits=activation_bits)
    program = random_program(PRESETS[preset], scheme)
    own, state = FrameExecutor(program), State.zeros(program, 1)
    state.scan[0, 0, 0, 0] = (1 << (bits - 1)) - 1
    assert_equal_states(own.context(state).save(), state)
    state.scan[0, 0, 0, 0] += 1
    with pytest.raises(InputError, match=f"holds {1 << (bits - 1)}, beyond its {bits} bits"):
        own.advance(random_features(program, 1), state)
    with pytest.raises(InputError, match=r"has \d+ values, the program's has \d+; restore what"):
        own.context(State.zeros(program, 2))
