"""The C++ back end computes the golden model's integers, whatever the instruction set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from golden import vector_files, vectors
from golden.artifact import load_program
from golden.builtin import FOLDER
from golden.errors import InputError
from golden.executor import Executor as GoldenExecutor
from golden.frames import FrameExecutor as GoldenFrameExecutor
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.reference import ReferenceExecutor
from golden.scheme import SCHEMES
from golden.state import State
from native.executor import Executor
from native.frames import FrameExecutor
from native.library import available_instructions
from tests.golden.test_average_networks import average_shapes
from tests.golden.test_executor import WIDTHS, assert_equal_states, drawn_programs, random_tokens
from tests.golden.test_frames import SHAPES as FRAME_SHAPES

INSTRUCTIONS = available_instructions()
VECTORS = Path(__file__).parents[1] / "vectors"
MICRO = PRESETS["micro"]
every_instructions = pytest.mark.parametrize("instructions", INSTRUCTIONS)


def random_features(program, frames: int, seed: int = 1) -> np.ndarray:
    stimulus = vectors.random_stimulus(program, frames, seed)
    return stimulus.tokens.reshape(frames, -1, stimulus.tokens.shape[-1])


def recorded(run, inputs) -> dict:
    seen = {}
    run(inputs, probe=lambda name, layer, values: seen.update({(name, layer): values}))
    return seen


def assert_equal_values(own: dict, golden: dict) -> None:
    assert list(own) == list(golden)
    for key, values in golden.items():
        assert own[key].shape == values.shape, key
        assert np.array_equal(own[key], values), key


@every_instructions
@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.safetensors")), ids=lambda p: p.stem)
def test_every_committed_vector(path, instructions):
    stored = vector_files.load_vectors(path.with_suffix("") / vector_files.FILE_NAME, path)
    executor = Executor(load_program(path), instructions=instructions)
    contexts = [executor.context() for _ in range(stored.state.shape[1])]
    ended = [False] * len(contexts)
    for t, (token, number) in enumerate(zip(stored.tokens, stored.context, strict=True)):
        context = contexts[number]
        if ended[number]:
            context.reset()
        ended[number] = bool(stored.last[t])
        before, seen = context.save(), {}
        executor.forward(
            [[token]],
            before,
            lambda name, layer, values, seen=seen: seen.update(
                {name if layer < 0 else f"layer{layer}.{name}": values[0, 0]}
            ),
        )
        assert np.array_equal(context.step(int(token)), stored.probes["logits"][t])
        seen |= {f"layer{i}.state": scan[0] for i, scan in enumerate(context.save().scan)}
        assert seen.keys() == stored.probes.keys()
        for name, values in seen.items():
            assert np.array_equal(values, stored.probes[name][t]), name
    left = [context.save() for context in contexts]
    assert np.array_equal(np.concatenate([s.scan for s in left], axis=1), stored.state)
    assert np.array_equal(np.concatenate([s.window for s in left], axis=1), stored.window)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.safetensors")), ids=lambda p: p.stem)
def test_every_trained_program(path):
    program = load_program(path)
    if program.shape.frame is not None:
        features = random_features(program, 12)
        expected = GoldenFrameExecutor(program).forward(features)
        assert np.array_equal(FrameExecutor(program).forward(features), expected)
        return
    text = Path(__file__).read_bytes()[:300]
    tokens = np.frombuffer(text, np.uint8).reshape(2, -1).astype(np.int64)
    logits, state = Executor(program).forward(tokens)
    expected, expected_state = GoldenExecutor(program).forward(tokens)
    assert np.array_equal(logits, expected)
    assert_equal_states(state, expected_state)


@settings(max_examples=60)
@given(drawn_programs(), st.integers(0, 99), st.integers(1, 3), st.integers(1, 20), st.data())
def test_any_shape_at_any_width(program, seed, batch, length, data):
    tokens = random_tokens(program, batch, length, seed)
    executor = Executor(program, instructions=data.draw(st.sampled_from(INSTRUCTIONS)))
    own, own_state = executor.forward(tokens)
    expected, expected_state = ReferenceExecutor(program).forward(tokens)
    assert np.array_equal(own, expected)
    assert_equal_states(own_state, expected_state)


@every_instructions
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("preset", ["bytelm", "byte-mamba2", "bitbyte"])
def test_a_language_model_of_full_size(preset, scheme, instructions):
    program = random_program(PRESETS[preset], scheme)
    tokens = random_tokens(program, 1, 40 if preset == "bytelm" else 10)
    own, own_state = Executor(program, instructions=instructions).forward(tokens)
    expected, expected_state = GoldenExecutor(program).forward(tokens)
    assert own.dtype == expected.dtype
    assert np.array_equal(own, expected)
    assert_equal_states(own_state, expected_state)


@every_instructions
@pytest.mark.parametrize("preset", ["micro", "micro-mamba2"])
def test_a_vocabulary_too_large_for_a_table_of_tokens(preset, instructions):
    shape = replace(PRESETS[preset], vocabulary=1 << 13)
    program = random_program(shape, SCHEMES["w8a8"])
    tokens = random_tokens(program, 1, 11)
    own, own_state = Executor(program, instructions=instructions).forward(tokens)
    expected, expected_state = GoldenExecutor(program).forward(tokens)
    assert np.array_equal(own, expected)
    assert_equal_states(own_state, expected_state)


@every_instructions
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("preset", ["micro", "micro-mamba2"])
def test_probes_have_the_golden_names_and_values(preset, scheme, instructions):
    program = random_program(replace(PRESETS[preset], n_layer=2), scheme)
    tokens = random_tokens(program, 2, 11)
    own = recorded(Executor(program, instructions=instructions).forward, tokens)
    assert_equal_values(own, recorded(GoldenExecutor(program).forward, tokens))


@every_instructions
def test_values_of_the_mlp(instructions):
    program = random_program(replace(MICRO, mlp=24), SCHEMES["w4a8"])
    tokens = random_tokens(program, 2, 11)
    own = recorded(Executor(program, instructions=instructions).forward, tokens)
    assert ("mlp_gated", 0) in own
    assert_equal_values(own, recorded(GoldenExecutor(program).forward, tokens))


@settings(max_examples=50)
@given(FRAME_SHAPES | average_shapes(), WIDTHS, st.integers(0, 99), st.integers(1, 3), st.data())
def test_any_frame_network_at_any_width(shape, scheme, seed, frames, data):
    try:
        program = random_program(shape, scheme, seed)
    except InputError:
        reject()
    features = random_features(program, frames, seed)
    executor = FrameExecutor(program, instructions=data.draw(st.sampled_from(INSTRUCTIONS)))
    own, golden = recorded(executor.forward, features), GoldenFrameExecutor(program)
    assert_equal_values(own, recorded(golden.forward, features))
    assert np.array_equal(executor.forward(features), golden.forward(features))


@every_instructions
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("preset", ["mars", "slim-k2"])
def test_frames_and_their_probes(preset, scheme, instructions):
    program = random_program(PRESETS[preset], scheme)
    features = random_features(program, 3)
    own = FrameExecutor(program, instructions=instructions)
    golden = GoldenFrameExecutor(program)
    assert np.array_equal(own.forward(features), golden.forward(features))
    assert_equal_values(recorded(own.forward, features), recorded(golden.forward, features))


@every_instructions
def test_a_rotation_beyond_int32(instructions):
    shape = replace(MICRO, d_inner=1 << 14, d_state=1, dt_rank=1)
    scheme = replace(SCHEMES["w8a8-h"], name="wide", rotation_bits=18)
    program = random_program(shape, scheme)
    tokens = random_tokens(program, 1, 3)
    own, _ = Executor(program, instructions=instructions).forward(tokens)
    assert np.array_equal(own, ReferenceExecutor(program).forward(tokens)[0])


@every_instructions
@pytest.mark.parametrize("cuts", [[1], [3, 4], list(range(1, 19)), [2, 2, 7], [8, 16]])
def test_any_chunking_equals_the_whole(cuts, instructions):
    executor = Executor(random_program(MICRO, SCHEMES["w4a5-se-h"]), instructions=instructions)
    tokens = random_tokens(executor.program, 3, 19)
    whole, whole_state = executor.forward(tokens)
    state, pieces = None, []
    for piece in np.split(tokens, cuts, axis=1):
        logits, state = executor.forward(piece, state)
        pieces.append(logits)
    assert np.array_equal(np.concatenate(pieces, axis=1), whole)
    assert_equal_states(state, whole_state)


def test_contexts_are_saved_restored_copied_and_reset():
    program = random_program(MICRO, SCHEMES["w8a8"])
    executor, tokens = Executor(program), random_tokens(program, 1, 12)[0]
    whole, state = GoldenExecutor(program).forward(tokens[None])
    first, second = executor.context(), executor.context()
    assert np.array_equal(first.forward(tokens[:5]), whole[0, :5])
    second.restore(first.save())
    third = first.copy()
    for context in (first, second, third):
        assert np.array_equal([context.step(int(t)) for t in tokens[5:]], whole[0, 5:])
        assert_equal_states(context.save(), state)
    first.reset()
    assert_equal_states(first.save(), State.zeros(program, 1))
    assert np.array_equal(first.forward(tokens), whole[0])
    assert_equal_states(second.save(), state)


def test_a_state_of_the_golden_model_continues_here_and_back():
    program = random_program(MICRO, SCHEMES["w8a8"])
    tokens, golden, own = random_tokens(program, 2, 12), GoldenExecutor(program), Executor(program)
    whole, last = golden.forward(tokens)
    _, state = golden.forward(tokens[:, :5])
    before = state.copy()
    logits, after = own.forward(tokens[:, 5:9], state)
    assert_equal_states(state, before)  # the caller's state is not touched
    assert np.array_equal(logits, whole[:, 5:9])
    logits, state = own.step(tokens[:, 9], after)
    assert np.array_equal(logits, whole[:, 9])
    logits, state = golden.forward(tokens[:, 10:], state)
    assert np.array_equal(logits, whole[:, 10:])
    assert_equal_states(state, last)


def test_generating_takes_the_arg_max():
    program = random_program(MICRO, SCHEMES["w8a8"])
    golden, state, token, expected = GoldenExecutor(program), State.zeros(program, 1), 3, []
    for _ in range(30):
        logits, state = golden.step([token], state)
        token = int(logits[0].argmax())
        expected.append(token)
    context = Executor(program).context()
    assert context.generate(3, 30).tolist() == expected
    assert_equal_states(context.save(), state)


def test_no_tokens_leave_the_state_alone():
    executor = Executor(random_program(MICRO, SCHEMES["w8a8"]))
    _, state = executor.forward(random_tokens(executor.program, 2, 5))
    logits, after = executor.forward(np.zeros((2, 0), int), state)
    assert logits.shape == (2, 0, MICRO.vocabulary)
    assert_equal_states(state, after)
