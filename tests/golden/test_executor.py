"""The compiled executor, its definition, and the network in float64."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from golden import kernels
from golden.compiled import POSITIONS
from golden.configuration import HeadShape, NetworkShape
from golden.errors import InputError
from golden.executor import Executor
from golden.fixed_point import to_real
from golden.operations.normalization import reciprocal_root
from golden.presets import PRESETS
from golden.program import Program
from golden.random_program import random_program, standard_tables
from golden.reference import ReferenceExecutor
from golden.scheme import SCHEMES, DualScale, Scheme
from golden.state import State
from tests.golden import float_network
from tests.golden.calibrated import calibrated_program

MICRO = PRESETS["micro"]


def random_tokens(program, batch: int, length: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, program.shape.vocabulary, (batch, length))


def assert_equal_states(left: State, right: State) -> None:
    assert np.array_equal(left.scan, right.scan)
    assert np.array_equal(left.window, right.window)


def mamba1_shapes(**sizes) -> st.SearchStrategy[NetworkShape]:
    """Return shapes of Mamba-1 networks; ``sizes`` are strategies in place of the usual ones."""
    usual = {
        "vocabulary": st.integers(2, 20),
        "d_model": st.integers(2, 20),
        "d_inner": st.integers(2, 40) | st.sampled_from([12, 16, 20, 24, 40]),
        "d_state": st.integers(1, 9),
        "d_conv": st.integers(2, 5),
        "dt_rank": st.integers(1, 5),
        "n_layer": st.integers(1, 3),
        "mlp": st.none() | st.integers(2, 30),
    }
    return st.builds(NetworkShape, **usual | sizes)


MAMBA1_SHAPES = mamba1_shapes()
MAMBA2_SHAPES = st.builds(
    lambda size, groups, heads, **sizes: NetworkShape(
        d_inner=size * groups * heads, heads=HeadShape(size=size, groups=groups), **sizes
    ),
    size=st.integers(2, 8),
    groups=st.integers(1, 3),
    heads=st.integers(1, 3),
    vocabulary=st.integers(2, 20),
    d_model=st.integers(2, 20),
    d_state=st.integers(1, 9) | st.just(128),
    d_conv=st.integers(2, 5),
    n_layer=st.integers(1, 3),
)
SHAPES = MAMBA1_SHAPES | MAMBA2_SHAPES
WIDTHS = st.builds(
    Scheme,
    name=st.just("drawn"),
    weight_bits=st.integers(2, 8),
    embedding_bits=st.integers(4, 8) | st.integers(4, 16),
    head_bits=st.none() | st.integers(4, 16),
    convolution_weight_bits=st.integers(4, 8),
    activation_bits=st.integers(4, 8),
    projection_bits=st.none() | st.integers(4, 16),
    residual_bits=st.integers(10, 18),
    norm_weight_bits=st.integers(8, 16),
    decay_rate_bits=st.integers(4, 16),
    delta_bits=st.integers(4, 16),
    decay_bits=st.integers(4, 16),
    state_bits=st.integers(6, 18),
    skip_bits=st.integers(8, 16),
    scan_output_bits=st.integers(6, 18),
    gate_bits=st.integers(6, 18),
    logit_bits=st.integers(8, 20),
    dual_scale=st.none()
    | st.builds(DualScale, code_bits=st.integers(2, 8), ratio_log2=st.integers(0, 4)),
    rotation_bits=st.none() | st.integers(8, 18),
)


@st.composite
def drawn_programs(draw) -> Program:
    """Return a language model of any shape at any width, also of single blocks' matrices."""
    shape, scheme = draw(SHAPES), draw(WIDTHS)
    narrow = shape.heads is None and scheme.projection_input_bits < 16
    scheme = replace(
        scheme,
        asymmetric=narrow and draw(st.booleans()),
        weight_group=draw(st.sampled_from([None, 4, 16])),
    )
    own = st.none() | st.integers(4, scheme.projection_input_bits)
    try:
        return random_program(
            shape, scheme, draw(st.integers(0, 99)), draw(st.lists(own, max_size=3))
        )
    except InputError:
        reject()  # shifts, accumulators or a rotation beyond the hardware's


@settings(max_examples=80)
@given(drawn_programs(), st.integers(0, 99), st.integers(1, 3), st.integers(1, 9))
def test_compiled_equals_the_definition_at_any_width(program, seed, batch, length):
    tokens = random_tokens(program, batch, length, seed)
    fast, fast_state = Executor(program).forward(tokens)
    slow, slow_state = ReferenceExecutor(program).forward(tokens)
    assert np.array_equal(fast, slow)
    assert_equal_states(fast_state, slow_state)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("preset", ["bytelm", "byte-mamba2"])
def test_compiled_equals_the_definition_on_a_language_model(preset, scheme):
    program = random_program(PRESETS[preset], scheme)
    tokens = random_tokens(program, 2, 40 if preset == "bytelm" else 10)
    fast, fast_state = Executor(program).forward(tokens)
    slow, slow_state = ReferenceExecutor(program).forward(tokens)
    assert fast.dtype == slow.dtype == np.int64
    assert np.array_equal(fast, slow)
    assert_equal_states(fast_state, slow_state)


@pytest.mark.parametrize("d_inner", [2, 4, 32, 12, 24, 20, 80])
def test_compiled_equals_the_definition_at_every_kind_of_rotation(d_inner):
    program = random_program(replace(MICRO, d_inner=d_inner), SCHEMES["w4a5-se-h"])
    tokens = random_tokens(program, 2, 20)
    seen = {}
    slow, slow_state = ReferenceExecutor(program).forward(
        tokens, probe=lambda name, layer, values: seen.update({(name, layer): values})
    )
    fast, fast_state = Executor(program).forward(tokens)
    assert np.array_equal(fast, slow)
    assert_equal_states(fast_state, slow_state)
    assert seen["gated", 0].max() > 127 >= seen["rotated", 0].max()


def test_products_beyond_float32_are_exact():
    shape = replace(MICRO, d_model=1100)
    program = random_program(shape, SCHEMES["w8a8"])
    layer = program.layers[0]
    full = replace(layer.in_proj, weight=np.full_like(layer.in_proj.weight, -128))
    program = replace(program, layers=(replace(layer, in_proj=full),))
    tokens = random_tokens(program, 1, 2)
    fast, _ = Executor(program).forward(tokens)
    slow, _ = ReferenceExecutor(program).forward(tokens)
    assert np.abs(full.weight).sum(axis=1).max() << 7 >= 1 << 24
    assert np.array_equal(fast, slow)


def test_a_probe_receives_what_the_definition_computes():
    program = random_program(MICRO, SCHEMES["w4a5-se"])
    tokens = random_tokens(program, 2, 5)
    seen = {}
    logits, _ = Executor(program).forward(
        tokens, probe=lambda name, layer, values: seen.update({(name, layer): values})
    )
    assert np.array_equal(seen["logits", -1], logits)
    assert np.array_equal(seen["token", -1], logits.argmax(axis=-1))
    assert seen["scan_u", 0].min() >= 0
    assert seen["scan_u", 0].max() < 1 << 5
    assert np.array_equal(logits, Executor(program).forward(tokens)[0])


@pytest.mark.parametrize("executor", [Executor, ReferenceExecutor])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("cuts", [[1], [3, 4], [1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 7]])
def test_any_chunking_equals_the_whole(executor, scheme, cuts):
    run = executor(random_program(MICRO, scheme))
    tokens = random_tokens(run.program, 3, 9)
    whole, whole_state = run.forward(tokens)
    state, pieces = None, []
    for piece in np.split(tokens, cuts, axis=1):
        logits, state = run.forward(piece, state)
        pieces.append(logits)
    assert np.array_equal(np.concatenate(pieces, axis=1), whole)
    assert_equal_states(state, whole_state)


def test_steps_and_blocks_equal_the_whole():
    run = Executor(random_program(MICRO, SCHEMES["w8a8"]))
    tokens = random_tokens(run.program, 3, POSITIONS)  # three blocks of positions
    whole, whole_state = run.forward(tokens)
    state = State.zeros(run.program, 3)
    for t in range(tokens.shape[1]):
        before = state.copy()
        logits, after = run.step(tokens[:, t], state)
        assert_equal_states(state, before)  # the caller's state is not touched
        state = after
        assert np.array_equal(logits, whole[:, t])
    assert_equal_states(state, whole_state)


def test_rows_of_a_batch_do_not_meet():
    run = Executor(random_program(MICRO, SCHEMES["w4a5-se"]))
    tokens = random_tokens(run.program, 4, 12)
    whole, _ = run.forward(tokens)
    for row, logits in zip(tokens, whole, strict=True):
        assert np.array_equal(run.forward(row[None])[0][0], logits)


def test_no_tokens_leave_the_state_alone():
    run = Executor(random_program(MICRO, SCHEMES["w8a8"]))
    _, state = run.forward(random_tokens(run.program, 2, 5))
    logits, after = run.forward(np.zeros((2, 0), int), state)
    assert logits.shape == (2, 0, MICRO.vocabulary)
    assert_equal_states(state, after)


@pytest.mark.parametrize("executor", [Executor, ReferenceExecutor])
@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[0, 64]], r"tokens span 0\.\.64, outside 0\.\.63"),
        ([[-1]], r"tokens span -1\.\.-1, outside 0\.\.63"),
        ([1, 2], "1 dimensions, 2 are needed"),
    ],
)
def test_bad_tokens_are_refused(executor, tokens, message):
    with pytest.raises(InputError, match=message):
        executor(random_program(MICRO, SCHEMES["w8a8"])).forward(tokens)


@pytest.mark.parametrize("executor", [Executor, ReferenceExecutor])
def test_a_state_of_another_batch_or_program_is_refused(executor):
    program = random_program(MICRO, SCHEMES["w8a8"])
    with pytest.raises(InputError, match=r"window has shape .* 2 sequences of this program need"):
        executor(program).forward([[1], [2]], State.zeros(program, 1))
    wider = random_program(replace(MICRO, d_state=2 * MICRO.d_state), SCHEMES["w8a8"])
    with pytest.raises(InputError, match=r"scan has shape .* 1 sequences of this program need"):
        executor(program).forward([[1]], State.zeros(wider, 1))


def test_compiled_reciprocal_root_equals_the_definition():
    table = standard_tables().reciprocal
    powers = np.int64(1) << np.arange(53)
    totals = np.concatenate([np.arange(1, 1 << 12), powers - 1, powers, powers + 1])
    totals = totals[totals > 0]
    root, half_exponent = reciprocal_root(totals, table)
    compiled = [kernels.reciprocal_root(int(t), table.base, table.slope) for t in totals]
    assert [r for r, _ in compiled] == root.tolist()
    assert [h for _, h in compiled] == half_exponent.tolist()


def quality(scheme: Scheme, shape: NetworkShape = MICRO, *, length: int = 64) -> float:
    """Signal to quantization noise of the logits in dB, against the same weights in float64."""
    tokens = np.random.default_rng(5).integers(0, shape.vocabulary, length)
    program = calibrated_program(shape, scheme, tokens)
    integer = to_real(Executor(program).forward(tokens[None])[0][0], program.logit_fraction)
    exact, _ = float_network.logits(program, tokens)
    assert not np.array_equal(integer, exact)  # quantized output differs from float (Q14)
    return 10.0 * np.log10((exact**2).sum() / ((integer - exact) ** 2).sum())


@pytest.mark.parametrize(
    ("name", "decibels"),
    [
        ("w8a8", 33),
        ("w4a8", 32),
        ("w4a5-se", 25),
        ("w8a8-h", 33),
        ("w4a8-h", 32),
        ("w4a5-se-h", 25),
    ],
)
def test_logits_are_near_the_float_network(name, decibels):
    assert quality(SCHEMES[name]) > decibels


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    ("name", "decibels"), [("w8a8", 27), ("w4a8", 27), ("w4a5-se", 17), ("w8a8-h", 27)]
)
def test_logits_of_mamba2_are_near_the_float_network(name, decibels, groups):
    shape = replace(PRESETS["micro-mamba2"], heads=HeadShape(size=8, groups=groups))
    assert quality(SCHEMES[name], shape) > decibels


@pytest.mark.parametrize("limits", [(0, 40), (200, 4095), (300, 300)])
def test_the_limits_of_the_step_size_are_those_of_mamba2(limits):
    program = random_program(PRESETS["micro-mamba2"], SCHEMES["w8a8"])
    layer = program.layers[0]
    low, high = limits
    selection = replace(layer.head_selection, delta_low=low, delta_high=high)
    program = replace(program, layers=(replace(layer, selection=selection),))
    seen = {}
    Executor(program).forward(
        random_tokens(program, 2, 30), probe=lambda name, _, values: seen.update({name: values})
    )
    assert seen["delta"].min() == low or low == 0
    assert seen["delta"].max() == high or high == 4095
    tokens = random_tokens(program, 2, 30)
    fast, slow = Executor(program).forward(tokens), ReferenceExecutor(program).forward(tokens)
    assert np.array_equal(fast[0], slow[0])
    assert_equal_states(fast[1], slow[1])


def test_every_bit_of_the_activations_brings_the_logits_nearer():
    results = [quality(replace(SCHEMES["w8a8"], activation_bits=bits)) for bits in range(4, 9)]
    # An ideal quantizer gains 6 dB a bit.
    assert all(later > earlier + 3 for earlier, later in pairwise(results))
    assert results[-1] > results[0] + 20


@pytest.mark.parametrize("width", ["delta_bits", "gate_bits", "scan_output_bits", "state_bits"])
def test_inner_widths_bring_the_logits_nearer(width):
    narrow, wide = (quality(replace(SCHEMES["w8a8"], **{width: bits})) for bits in (6, 14))
    assert wide > narrow + 1
