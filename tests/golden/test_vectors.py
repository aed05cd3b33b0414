"""Golden vectors: committed files, the command that writes them, and what is refused."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from golden import command, vector_files, vectors
from golden.artifact import load_program, to_bytes
from golden.errors import InputError
from golden.executor import Executor
from golden.operations.scan import scan_step
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.regenerate import application
from golden.scheme import SCHEMES
from golden.state import State

COMMITTED = Path(__file__).parents[1] / "vectors"
LIMIT = 60_000  # bytes of a committed file


def artifact(scheme: str) -> Path:
    return COMMITTED / f"micro-{scheme}.safetensors"


def committed_vectors(scheme: str) -> Path:
    return COMMITTED / f"micro-{scheme}" / vector_files.FILE_NAME


def run(*words: object) -> object:
    with pytest.raises(SystemExit) as caught:
        command.run(application, [str(word) for word in words])
    return caught.value.code


@pytest.mark.parametrize("scheme", SCHEMES)
def test_committed_artifact_is_the_random_program(scheme):
    program = random_program(PRESETS["micro"], SCHEMES[scheme], seed=0)
    assert artifact(scheme).read_bytes() == to_bytes(program)
    assert artifact(scheme).stat().st_size < LIMIT


@pytest.mark.parametrize("scheme", SCHEMES)
def test_regeneration_is_byte_identical(scheme, tmp_path):
    assert run("--artifact", artifact(scheme), "--out", tmp_path) == 0
    written = (tmp_path / vector_files.FILE_NAME).read_bytes()
    assert written == committed_vectors(scheme).read_bytes()
    assert len(written) < LIMIT


@pytest.mark.parametrize("scheme", SCHEMES)
def test_committed_vectors_replay(scheme):
    stored = vector_files.load_vectors(committed_vectors(scheme), artifact(scheme))
    program = load_program(artifact(scheme))
    assert stored.last[:-1].any(), "a reset inside the stream is part of the test"
    fresh = vectors.trace(program, stored.tokens, stored.last, stored.context)
    assert fresh.probes.keys() == stored.probes.keys()
    for name, values in stored.probes.items():
        assert np.array_equal(values, fresh.probes[name]), name
    assert np.array_equal(stored.state, fresh.state)
    assert np.array_equal(stored.window, fresh.window)


def test_the_committed_schemes_differ():
    logits = [
        vector_files.load_vectors(committed_vectors(s), artifact(s)).probes["logits"]
        for s in SCHEMES
    ]
    assert len({values.tobytes() for values in logits}) == len(SCHEMES)


def test_probes_have_the_documented_names_and_shapes():
    shape, length = PRESETS["micro"], 6
    program = random_program(shape, SCHEMES["w4a5-se"])
    probes = vectors.trace(program, np.arange(length)).probes
    d, e, n = shape.d_model, shape.d_inner, shape.d_state
    inner = dict.fromkeys(
        ("x", "convolution", "u", "scan_u", "gate", "delta", "scan_output", "gated"), (e,)
    )
    inner |= {"norm": (d,), "projected": (shape.projected,), "residual": (d,), "state": (e, n)}
    expected = {f"layer0.{name}": (length, *rest) for name, rest in inner.items()}
    expected |= {"residual": (length, d), "norm": (length, d), "token": (length,)}
    expected["logits"] = (length, shape.vocabulary)
    assert {name: values.shape for name, values in probes.items()} == expected


@pytest.mark.parametrize("reset", [True, False])
def test_reset_policy(reset):
    program = random_program(PRESETS["micro"], SCHEMES["w8a8"])
    tokens, last = np.array([5, 6, 7, 8, 9]), [0, 1, 0, 0, 1]
    result = vectors.trace(program, tokens, last, reset_at_last=reset)
    pieces = np.split(tokens, [2]) if reset else [tokens]
    run_of = Executor(program).forward
    expected = np.concatenate([run_of(piece[None])[0][0] for piece in pieces])
    assert np.array_equal(result.probes["logits"], expected)
    _, state = run_of(pieces[-1][None])
    assert np.array_equal(result.state, state.scan)
    without = vectors.trace(program, tokens, last, with_state=False, reset_at_last=reset)
    assert "layer0.state" not in without.probes
    for name, values in without.probes.items():
        assert np.array_equal(values, result.probes[name]), name


def test_the_state_probe_is_what_the_recurrence_leaves():
    program = random_program(PRESETS["micro"], SCHEMES["w8a8"])
    probes = vectors.trace(program, np.arange(9)).probes
    shape, own = program.shape, program.scan_constants(0)
    state = np.zeros((shape.d_inner, shape.d_state), int)
    for t in range(9):
        _, b, c = np.split(
            probes["layer0.projected"][t], [shape.dt_rank, shape.dt_rank + shape.d_state]
        )
        delta, u = probes["layer0.delta"][t], probes["layer0.scan_u"][t]
        y, state = scan_step(state, delta, u, b, c, own)
        assert np.array_equal(probes["layer0.state"][t], state)
        assert np.array_equal(probes["layer0.scan_output"][t], y)


@pytest.mark.parametrize(
    ("tokens", "last"), [([], []), ([[1, 2]], [[0, 1]]), ([1, 2], [1]), (3, None)]
)
def test_streams_of_wrong_shape_are_refused(tokens, last):
    program = random_program(PRESETS["micro"], SCHEMES["w8a8"])
    with pytest.raises(InputError, match="must be one stream"):
        vectors.trace(program, tokens, last)


def test_text_runs_as_one_sequence_of_bytes(tmp_path):
    program = tmp_path / "bytes.safetensors"
    shape = PRESETS["micro"].__class__(**vars(PRESETS["micro"]) | {"vocabulary": 256})
    program.write_bytes(to_bytes(random_program(shape, SCHEMES["w8a8"])))
    assert run("--artifact", program, "--out", tmp_path, "--text", "Grüße") == 0
    result = vector_files.load_vectors(tmp_path / vector_files.FILE_NAME, program)
    assert bytes(result.tokens.tolist()) == "Grüße".encode()
    assert result.last.tolist() == [0] * 6 + [1]


def damaged_artifact(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / "damaged.safetensors"
    data = artifact("w8a8").read_bytes()
    if kind == "truncated":
        path.write_bytes(data[:-100])
    elif kind == "corrupt":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif kind == "version":
        path.write_bytes(data.replace(rb"\"version\": 3}", rb"\"version\": 9}"))
    elif kind == "text":
        path.write_text("not an artifact")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no artifact at"),
        ("truncated", "corrupt or truncated"),
        ("corrupt", "SHA-256"),
        ("version", "has version 9"),
        ("text", "not a program artifact"),
    ],
)
def test_bad_artifact_is_one_line_and_nothing_is_written(kind, message, tmp_path, capsys):
    path, out = damaged_artifact(kind, tmp_path), tmp_path / "out"
    assert run("--artifact", path, "--out", out) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tokens", "0"], "0 tokens are outside"),
        (["--tokens", "-3"], "-3 tokens are outside"),
        (["--seed", "-1"], "seed -1 is negative"),
        (["--text", ""], "text is empty"),
        (["--text", "zebra"], "outside 0..63"),
        (["--tokens", "many"], "a valid integer"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_written(words, message, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("--artifact", artifact("w8a8"), "--out", out, *words) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not out.exists()


def test_module_runs_as_a_command(tmp_path):
    words = ["--artifact", str(artifact("w8a8")), "--out", str(tmp_path), "--tokens", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "golden.regenerate", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=COMMITTED.parents[1],
    )
    assert "3 tokens, 16 probes" in done.stdout


def rewrite_manifest(source: Path, target: Path, **changes: object) -> None:
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    members["manifest.json"] = json.dumps(manifest | changes).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 9}, "has version 9, this release reads 2"),
        ({"magic": "other"}, "is not a scanwright-golden-vectors file"),
        ({"seed": 5}, "SHA-256 differs"),
    ],
)
def test_edited_vectors_are_refused_with_the_command(changes, message, tmp_path):
    target = tmp_path / "vectors.npz"
    rewrite_manifest(committed_vectors("w8a8"), target, **changes)
    with pytest.raises(InputError, match=message) as caught:
        vector_files.load_vectors(target, artifact("w8a8"))
    assert f"python -m golden.regenerate --artifact {artifact('w8a8')}" in str(caught.value)


def test_vectors_of_another_artifact_are_refused_with_the_command():
    with pytest.raises(InputError, match="belongs to another artifact") as caught:
        vector_files.load_vectors(committed_vectors("w8a8"), artifact("w4a8"))
    assert "--tokens 8 --seed 0 --contexts 1" in str(caught.value)


def test_every_damaged_byte_of_the_vectors_is_refused_or_harmless(tmp_path):
    data = committed_vectors("w8a8").read_bytes()
    good = vector_files.load_vectors(committed_vectors("w8a8"), artifact("w8a8"))
    target = tmp_path / "vectors.npz"
    for position in range(0, len(data), 97):
        target.write_bytes(data[:position] + bytes([data[position] ^ 0x20]) + data[position + 1 :])
        try:
            result = vector_files.load_vectors(target, artifact("w8a8"))
        except InputError:
            continue
        # Dates and permissions in the zip's headers carry no values.
        assert result.probes.keys() == good.probes.keys()
        assert all(np.array_equal(good.probes[name], v) for name, v in result.probes.items())


@pytest.mark.parametrize("length", [0, 10, 5000])
def test_truncated_vectors_are_refused(length, tmp_path):
    target = tmp_path / "vectors.npz"
    target.write_bytes(committed_vectors("w8a8").read_bytes()[:length])
    with pytest.raises(InputError, match=r"write it anew: python -m golden\.regenerate"):
        vector_files.load_vectors(target, artifact("w8a8"))


def test_missing_vectors_are_refused_with_the_command(tmp_path):
    with pytest.raises(InputError, match=r"no vectors at .*python -m golden.regenerate"):
        vector_files.load_vectors(tmp_path / "vectors.npz", artifact("w8a8"))
    with pytest.raises(InputError, match="no artifact at"):
        vector_files.load_vectors(committed_vectors("w8a8"), tmp_path / "none")


def test_interleaved_contexts_are_streams_of_their_own():
    program = random_program(PRESETS["micro"], SCHEMES["w8a8"])
    stream = vectors.random_stimulus(program, 24, 1, contexts=3)
    whole = vectors.trace(program, stream.tokens, stream.last, stream.context)
    for number in range(3):
        own = stream.context == number
        alone = vectors.trace(program, stream.tokens[own], stream.last[own])
        assert np.array_equal(whole.state[:, number], alone.state[:, 0])
        assert np.array_equal(whole.window[:, number], alone.window[:, 0])
        for name, values in alone.probes.items():
            assert np.array_equal(whole.probes[name][own], values), name


@pytest.mark.parametrize("context", [[0, -1], [0], [0, 1]])
def test_contexts_that_do_not_fit_the_stream_are_refused(context):
    program = random_program(PRESETS["micro"], SCHEMES["w8a8"])
    with pytest.raises(InputError, match="context"):
        vectors.trace(program, [1, 2], [0, 0], context, initial=State.zeros(program, 1))
