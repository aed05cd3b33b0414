"""Frame networks: compiled blocks, definition, the network in float64, and what is refused."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from golden import command, vector_files, vectors
from golden.artifact import from_bytes, to_bytes
from golden.configuration import AverageShape, FrameShape, NetworkShape
from golden.errors import InputError
from golden.executor import Executor
from golden.fixed_point import to_real
from golden.frames import FrameExecutor, features_of
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.regenerate import application
from golden.scheme import SCHEMES
from golden.state import State
from golden.validation import validate
from tests.golden import float_network
from tests.golden.calibrated import calibrated_frame_program
from tests.golden.test_executor import WIDTHS

MARS = PRESETS["mars"]
PROGRAM = random_program(MARS, SCHEMES["w4a8"])
SHAPES = st.builds(
    NetworkShape,
    vocabulary=st.integers(2, 20),
    d_model=st.integers(2, 20),
    d_inner=st.integers(2, 20),
    d_state=st.integers(1, 9),
    d_conv=st.integers(2, 5),
    dt_rank=st.integers(1, 5),
    n_layer=st.integers(1, 3),
    frame=st.builds(
        FrameShape,
        features=st.integers(1, 24),
        tokens=st.integers(0, 5).map(lambda power: 1 << power),
        hidden=st.integers(1, 20),
    ),
)


def random_frames(program, frames: int, seed: int = 1) -> np.ndarray:
    frame, half = program.shape.frame, 1 << (program.scheme.feature_bits - 1)
    size = (frames, frame.tokens, frame.features)
    return np.random.default_rng(seed).integers(-half, half, size)


def probed(program, features) -> dict[tuple[str, int], np.ndarray]:
    seen = {}
    FrameExecutor(program).forward(features, lambda n, i, values: seen.update({(n, i): values}))
    return seen


@settings(max_examples=30)
@given(SHAPES, WIDTHS, st.integers(8, 16), st.integers(0, 99), st.integers(1, 3))
def test_compiled_equals_the_definition_at_any_width(shape, scheme, bits, seed, frames):
    try:
        program = random_program(shape, replace(scheme, feature_bits=bits), seed)
    except InputError:
        reject()  # shifts or accumulators beyond the hardware's
    features = random_frames(program, frames, seed)
    assert np.array_equal(
        FrameExecutor(program).forward(features), probed(program, features)["logits", -1]
    )


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_frames_do_not_meet(scheme):
    run = FrameExecutor(random_program(MARS, scheme))
    features = random_frames(run.program, 70)  # more than are computed at once
    whole = run.forward(features)
    assert whole.shape == (70, 57)
    assert np.array_equal(whole[::-1], run.forward(features[::-1]))
    assert np.array_equal(whole[33:34], run.forward(features[33:34]))
    assert run.forward(features[:0]).shape == (0, 57)


AVERAGES = NetworkShape(
    vocabulary=3, d_model=6, d_inner=8, d_state=1, d_conv=3, dt_rank=8, n_layer=2,
    frame=FrameShape(features=4, tokens=3), average=AverageShape(),
)  # fmt: skip


@pytest.mark.parametrize("shape", [MARS, AVERAGES], ids=["scan", "averages"])
def test_a_stream_goes_on_from_frame_to_frame(shape):
    program = random_program(shape, SCHEMES["w8a8"])
    frames, executor = random_frames(program, 4), FrameExecutor(program)
    stream = frames.reshape(-1, frames.shape[-1])
    whole = vectors.trace(program, stream, reset_at_last=False)
    state = State.zeros(program, 1)
    first, saved = executor.advance(frames[:3], state), state.copy()
    assert np.array_equal(first, whole.probes["logits"][:3])
    assert np.array_equal(executor.advance(frames[3:], state), whole.probes["logits"][3:])
    assert np.array_equal(state.scan, whole.state)
    assert np.array_equal(state.window, whole.window)
    # A saved state continues, and by policy only the first frame after it sees it.
    end = 3 * len(frames[0])
    later = vectors.trace(program, stream[end:], initial=saved, reset_at_last=False)
    for name, values in later.probes.items():
        assert np.array_equal(values, whole.probes[name][-len(values) :]), name
    mixed = vectors.trace(program, np.tile(stream[end:], (2, 1)), initial=saved).probes["logits"]
    assert np.array_equal(mixed, [whole.probes["logits"][3], executor.forward(frames[3:])[0]])
    assert not np.array_equal(mixed[0], mixed[1])


@pytest.mark.parametrize("reset_at_last", [True, False])
@pytest.mark.parametrize("shape", [MARS, AVERAGES], ids=["scan", "averages"])
def test_frames_of_interleaved_contexts_are_streams_of_their_own(shape, reset_at_last):
    program = random_program(shape, SCHEMES["w8a8"])
    stream = vectors.random_stimulus(program, 9, seed=2, contexts=3)
    rows = shape.frame.rows
    assert np.array_equal(stream.context, stream.context[::rows].repeat(rows))
    initial = State.zeros(program, 4)
    initial.scan[:] = np.arange(4)[:, None, None]
    whole = vectors.trace(
        program, stream.tokens, stream.last, stream.context,
        initial=initial, reset_at_last=reset_at_last,
    )  # fmt: skip
    for number in range(4):
        own = stream.context == number
        if number == 3:  # of no frame
            assert np.array_equal(whole.state[:, 3], initial.scan[:, 3])
            continue
        alone = vectors.trace(
            program, stream.tokens[own],
            initial=initial.member(number), reset_at_last=reset_at_last,
        )  # fmt: skip
        assert np.array_equal(whole.state[:, number], alone.state[:, 0])
        assert np.array_equal(whole.window[:, number], alone.window[:, 0])
        for name, values in alone.probes.items():
            rest = values.shape[1:]
            by_frame = whole.probes[name].reshape(9, -1, *rest)[own[::rows]]
            assert np.array_equal(by_frame.reshape(-1, *rest), values), name


def test_front_and_head_are_the_written_formulas():
    features = random_frames(PROGRAM, 2)
    seen, front, pooled = probed(PROGRAM, features), PROGRAM.front, PROGRAM.pooled
    total = features @ front.projection.weight.T + front.bias
    shifted = np.rint(total * 0.5**PROGRAM.feature_shift)  # exact in float64, half to even
    assert np.array_equal(seen["residual", -1], np.clip(shifted, -(1 << 17), (1 << 17) - 1))
    mean = seen["residual", MARS.n_layer - 1].mean(axis=1)
    assert np.array_equal(seen["pooled", -1], np.rint(mean))
    total = seen["hidden", -1] @ PROGRAM.head.weight.T + PROGRAM.head.bias
    assert np.array_equal(seen["logits", -1], np.clip(np.rint(total * 0.5**PROGRAM.head_shift),
                                                      -(1 << 15), (1 << 15) - 1))  # fmt: skip
    raw = to_real(
        seen["norm", -1] @ pooled.hidden.weight.T + pooled.hidden.bias,
        pooled.hidden.fraction_bits + PROGRAM.final_norm_fraction,
    )
    silu = np.ldexp(raw / (1 + np.exp(-raw)), pooled.hidden_fraction)
    assert np.abs(seen["hidden", -1] - np.clip(silu, -128, 127)).max() < 0.51


def decibels(scheme, seed: int) -> float:
    """Signal to quantization noise of the outputs, against the same weights in float64."""
    shape = replace(MARS, n_layer=1, d_inner=32)
    real = np.random.default_rng(seed).normal(size=(16, 20))
    program = random_program(shape, scheme, seed)
    integers = features_of(program, real)
    front = program.feature_embedding
    real = to_real(integers, front.fraction + front.channel)
    program = calibrated_frame_program(shape, scheme, real, seed)
    result = to_real(FrameExecutor(program).forward(integers[None])[0], program.logit_fraction)
    exact, _, _ = float_network.frame_outputs(program, real)
    assert not np.array_equal(result, exact)
    return 10.0 * np.log10((exact**2).sum() / ((result - exact) ** 2).sum())


@pytest.mark.parametrize(
    ("name", "least"), [("w8a8", 27), ("w4a8", 27), ("w4a5-se", 21), ("w4a8-h", 27)]
)
def test_outputs_are_near_the_float_network(name, least):
    # One block: behind a second one the noise of a random network says little.
    assert np.median([decibels(SCHEMES[name], seed) for seed in range(6)]) > least


def test_features_are_rounded_half_to_even_and_saturated():
    front = replace(PROGRAM.front, fraction=2, channel=np.array([0, 1, -1] + [0] * 17))
    program = replace(PROGRAM, front=front)
    values = np.zeros((1, 20))
    values[0, :4] = [0.125, 0.125, 3.0, 600.0]
    assert features_of(program, values)[0, :5].tolist() == [0, 1, 6, 2047, 0]


def test_an_artifact_gives_back_the_frame_network(tmp_path):
    data = to_bytes(PROGRAM)
    restored = from_bytes(data, tmp_path)
    assert to_bytes(restored) == data
    assert restored.shape == MARS
    features = random_frames(PROGRAM, 3)
    results = [FrameExecutor(p).forward(features) for p in (PROGRAM, restored)]
    assert np.array_equal(*results)


def with_front(**changes):
    return replace(PROGRAM, front=replace(PROGRAM.front, **changes))


LANGUAGE = random_program(PRESETS["micro"], SCHEMES["w4a8"])
HIDDEN = PROGRAM.pooled.hidden


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (with_front(bias=PROGRAM.front.bias[1:]), r"features.bias has shape \(15, 20\)"),
        (with_front(channel=PROGRAM.front.channel[1:]), r"features.channel has shape \(19,\)"),
        (
            with_front(bias=PROGRAM.front.bias * 0 + (1 << 31) - 500),
            "features can accumulate up to 21",
        ),
        (with_front(fraction=50), "shift of features spans .* outside -12..31"),
        (replace(PROGRAM, front=LANGUAGE.front), "front or head is another network's"),
        (replace(PROGRAM, pooled=None), "front or head is another network's"),
        (replace(PROGRAM, head=replace(PROGRAM.head, bias=None)), "lacks the bias of hidden or"),
        (
            replace(PROGRAM, pooled=replace(PROGRAM.pooled, hidden=PROGRAM.head)),
            r"hidden.weight has shape \(57, 96\), the program's sizes need \(96, 20\)",
        ),
        (
            replace(PROGRAM, pooled=replace(PROGRAM.pooled, hidden_fraction=40)),
            "hidden output spans -17..-17|head spans",
        ),
        (replace(PROGRAM, final_norm_fraction=-40), "final norm spans|hidden spans"),
        (replace(LANGUAGE, pooled=PROGRAM.pooled), "only frame networks have these"),
        (replace(LANGUAGE, head=PROGRAM.head), "only frame networks have these"),
        (replace(LANGUAGE, front=PROGRAM.front), "reads features and not tokens"),
    ],
)
def test_a_broken_program_is_refused(program, message):
    with pytest.raises(InputError, match=message):
        validate(program)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((2, 15, 20)), r"shape \(2, 15, 20\), the program reads \(frames, 16, 20\)"),
        (np.zeros((16, 20)), "give whole frames"),
        (np.full((1, 16, 20), 2048), r"span 2048..2048, outside -2048..2047 of 12 bits"),
    ],
)
def test_bad_features_are_refused(features, message):
    with pytest.raises(InputError, match=message):
        FrameExecutor(PROGRAM).forward(features)


def test_each_executor_names_the_other():
    with pytest.raises(InputError, match="the program is a frame network, it reads features"):
        Executor(PROGRAM).forward([[1]])
    with pytest.raises(InputError, match="the program is a language model, it reads tokens"):
        FrameExecutor(LANGUAGE).forward(np.zeros((1, 16, 20)))


def test_vectors_of_frames_hold_every_probe():
    stimulus = vectors.random_stimulus(PROGRAM, 3, seed=4)
    assert stimulus.tokens.shape == (48, 20)
    assert np.flatnonzero(stimulus.last).tolist() == [15, 31, 47]
    result = vectors.trace(PROGRAM, stimulus.tokens, stimulus.last)
    seen = probed(PROGRAM, stimulus.tokens.reshape(3, 16, 20))
    for (name, layer), values in seen.items():
        flat = values.reshape(-1, *values.shape[2:]) if values.ndim == 3 else values
        known = result.probes[name if layer < 0 else f"layer{layer}.{name}"]
        assert np.array_equal(known, flat), name
    assert result.probes["layer1.state"].shape == (48, 40, 8)
    assert np.array_equal(result.probes["layer1.state"][-1], result.state[1, 0])
    frames = {n for n, values in result.probes.items() if len(values) == 3}
    assert frames == {"pooled", "norm", "hidden", "logits"}
    without = vectors.trace(PROGRAM, stimulus.tokens, with_state=False)
    assert result.probes.keys() - without.probes.keys() == {"layer0.state", "layer1.state"}
    assert all(np.array_equal(v, result.probes[n]) for n, v in without.probes.items())
    assert np.array_equal(without.window, result.window)


def test_vector_files_of_frames_are_regenerated(tmp_path):
    artifact = tmp_path / "mars.safetensors"
    artifact.write_bytes(to_bytes(PROGRAM))
    words = ["--artifact", str(artifact), "--out", str(tmp_path), "--tokens", "2", "--seed", "5"]
    with pytest.raises(SystemExit, match="0"):
        command.run(application, words)
    path = tmp_path / vector_files.FILE_NAME
    stored = vector_files.load_vectors(path, artifact)
    stimulus = vectors.random_stimulus(PROGRAM, 2, 5)
    assert np.array_equal(stored.tokens, stimulus.tokens)
    outputs = FrameExecutor(PROGRAM).forward(stimulus.tokens.reshape(2, 16, 20))
    assert np.array_equal(stored.probes["logits"], outputs)
    artifact.write_bytes(to_bytes(random_program(MARS, SCHEMES["w4a8"], seed=1)))
    with pytest.raises(InputError, match="--tokens 2 --seed 5"):
        vector_files.load_vectors(path, artifact)


def test_a_stream_refuses_the_state_of_two():
    state, message = State.zeros(PROGRAM, 2), r"window has shape \(.*, 2, .*1 sequences .* need"
    with pytest.raises(InputError, match=message):
        FrameExecutor(PROGRAM).advance(random_frames(PROGRAM, 1), state)
    assert not state.scan.any()


def test_vector_files_of_contexts_go_on_from_frame_to_frame(tmp_path):
    artifact = tmp_path / "mars.safetensors"
    artifact.write_bytes(to_bytes(PROGRAM))
    words = ["--artifact", str(artifact), "--out", str(tmp_path), "--tokens", "5"]
    with pytest.raises(SystemExit, match="0"):
        command.run(application, [*words, "--contexts", "2"])
    path = tmp_path / vector_files.FILE_NAME
    stored = vector_files.load_vectors(path, artifact)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert (manifest["contexts"], manifest["reset_at_last"]) == (2, False)
    for number in range(2):
        own, state = stored.context[::16] == number, State.zeros(PROGRAM, 1)
        frames = stored.tokens.reshape(5, 16, 20)[own]
        outputs = FrameExecutor(PROGRAM).advance(frames, state)
        assert np.array_equal(stored.probes["logits"][own], outputs)
        assert np.array_equal(stored.state[:, number], state.scan[:, 0])


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ([0] * 15, r"context \(15,\) from 0 must give each of 32 tokens"),
        ([-1] * 32, "context .* from -1"),
        ([0] * 31 + [1], r"the rows of frame 1 have contexts \[0, 1\]; give all rows .* the same"),
        ([1] * 32, "context 1 occurs, but the initial state has 1 contexts"),
    ],
)
def test_contexts_that_are_not_of_whole_frames_are_refused(context, message):
    with pytest.raises(InputError, match=message):
        vectors.trace(PROGRAM, np.zeros((32, 20)), context=context, initial=State.zeros(PROGRAM, 1))


@pytest.mark.parametrize(
    ("features", "last", "message"),
    [
        (np.zeros((15, 20)), None, "whole frames of 16 rows, each 20 values"),
        (np.zeros((16, 19)), None, "whole frames"),
        (np.zeros(16), None, "whole frames"),
        (np.zeros((0, 20)), None, "whole frames"),
        (np.zeros((16, 20)), [1] * 16, "last must be 1 at every 16th row"),
    ],
)
def test_streams_that_are_no_frames_are_refused(features, last, message):
    with pytest.raises(InputError, match=message):
        vectors.trace(PROGRAM, features, last)
