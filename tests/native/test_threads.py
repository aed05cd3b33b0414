"""One stream on several threads: the integers of one thread, in every bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from golden.artifact import load_program
from golden.builtin import FOLDER
from golden.errors import InputError
from golden.executor import Executor as GoldenExecutor
from golden.presets import PRESETS
from golden.program import Program
from golden.random_program import random_program
from golden.reference import ReferenceExecutor
from golden.scheme import SCHEMES
from golden.state import State
from native.executor import Context, Executor
from native.library import available_instructions
from tests.golden.test_executor import (
    WIDTHS,
    assert_equal_states,
    mamba1_shapes,
    random_tokens,
)

MICRO = PRESETS["micro"]
SHAPES = mamba1_shapes(
    vocabulary=st.integers(33, 70),
    d_model=st.integers(2, 40),
    d_inner=st.integers(33, 90) | st.sampled_from([40, 48, 64, 80, 96]),
    d_state=st.integers(1, 20),
    mlp=st.none(),
)


@st.composite
def shared_programs(draw) -> Program:
    """Return a language model that up to three threads can share, at any width."""
    scheme = draw(WIDTHS)
    narrow = scheme.projection_input_bits < 16
    scheme = replace(scheme, asymmetric=narrow and draw(st.booleans()))
    own = st.none() | st.integers(4, scheme.projection_input_bits)
    try:
        return random_program(draw(SHAPES), scheme, 1, draw(st.lists(own, max_size=3)))
    except InputError:
        reject()  # shifts, accumulators or a rotation beyond the hardware's


def check_tokens(context: Context, tokens: np.ndarray, golden) -> None:
    """A prefill and single tokens behind it give golden's logits, window and scan."""
    expected, state = golden.forward(tokens[None])
    cut = len(tokens) // 2
    assert np.array_equal(context.forward(tokens[:cut]), expected[0, :cut])
    for token, logits in zip(tokens[cut:].tolist(), expected[0, cut:], strict=True):
        assert np.array_equal(context.step(token), logits)
    assert_equal_states(context.save(), state)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("bytelm-*.safetensors")), ids=lambda p: p.stem)
def test_every_trained_program(path):
    program = load_program(path)
    executor, golden = Executor(program), GoldenExecutor(program)
    tokens = random_tokens(program, 1, 60)[0]
    for threads in (1, 2, 3):
        check_tokens(executor.context(threads=threads), tokens, golden)
    one, two = executor.context(), executor.context(threads=2)
    assert np.array_equal(two.generate(7, 100), one.generate(7, 100))
    assert_equal_states(two.save(), one.save())


@settings(max_examples=60)
@given(shared_programs(), st.integers(0, 99), st.integers(2, 30), st.data())
def test_any_shape_at_any_width(program, seed, length, data):
    executor = Executor(program, instructions=data.draw(st.sampled_from(available_instructions())))
    tokens = random_tokens(program, 1, length, seed)[0]
    for threads in (1, 2, 3):
        check_tokens(executor.context(threads=threads), tokens, ReferenceExecutor(program))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_a_vocabulary_too_large_for_a_table_of_tokens(scheme):
    program = random_program(replace(MICRO, vocabulary=1 << 13), scheme)
    context = Executor(program).context(threads=2)
    check_tokens(context, random_tokens(program, 1, 11)[0], GoldenExecutor(program))


def test_contexts_are_saved_restored_copied_and_reset():
    program = random_program(replace(MICRO, n_layer=2), SCHEMES["w8a8-h"])
    executor, golden = Executor(program), GoldenExecutor(program)
    tokens = random_tokens(program, 1, 12)[0]
    whole, state = golden.forward(tokens[None])
    first = executor.context(threads=2)
    assert np.array_equal(first.forward(tokens[:5]), whole[0, :5])
    saved = first.save()
    contexts = [first, first.copy(), executor.context(saved, threads=2), executor.context(saved)]
    for context in contexts:
        assert np.array_equal([context.step(int(t)) for t in tokens[5:]], whole[0, 5:])
        assert_equal_states(context.save(), state)
    first.restore(saved)  # rolls back
    assert np.array_equal(first.forward(tokens[5:]), whole[0, 5:])
    first.reset()
    assert_equal_states(first.save(), State.zeros(program, 1))
    assert np.array_equal(first.forward(tokens), whole[0])
    assert_equal_states(contexts[1].save(), state)


def test_many_contexts_take_turns():
    program = random_program(MICRO, SCHEMES["w8a8"])
    executor = Executor(program)
    contexts = [executor.context(threads=2) for _ in range(6)] + [executor.context()]
    for token in random_tokens(program, 1, 40)[0].tolist():
        logits = [context.step(token) for context in contexts]
        assert all(np.array_equal(own, logits[-1]) for own in logits)


def test_no_tokens_leave_the_state_alone():
    context = Executor(random_program(MICRO, SCHEMES["w8a8"])).context(threads=2)
    before = context.save()
    assert context.forward(np.zeros(0, int)).shape == (0, MICRO.vocabulary)
    assert context.generate(1, 0).shape == (0,)
    assert_equal_states(context.save(), before)


@pytest.mark.parametrize(
    ("shape", "threads", "message"),
    [
        (MICRO, 0, "threads = 0 is below 1; give 1 or more"),
        (MICRO, 3, "threads = 3 exceeds the program's 2 blocks of 16 channels or logits"),
        (replace(MICRO, mlp=24), 2, "threads = 2: several threads .* without an MLP"),
        (PRESETS["micro-mamba2"], 2, "threads = 2: several threads .* of Mamba-1 blocks only"),
    ],
)
def test_threads_that_cannot_share_a_program(shape, threads, message):
    executor = Executor(random_program(shape, SCHEMES["w8a8"]))
    with pytest.raises(InputError, match=message):
        executor.context(threads=threads)


def test_bad_input_of_a_context_of_threads():
    context = Executor(random_program(MICRO, SCHEMES["w8a8"])).context(threads=2)
    with pytest.raises(InputError, match=r"64 is outside 0\.\.63"):
        context.step(64)
    with pytest.raises(InputError, match=r"-1 is outside 0\.\.63"):
        context.generate(-1, 3)
    with pytest.raises(InputError, match="a probe sees the values of one thread"):
        context.forward([1], lambda *_: None)
    state = context.save()
    state.scan = state.scan[:, :, 1:]
    with pytest.raises(InputError, match="the state has 124 values, the program's has 128"):
        context.restore(state)
