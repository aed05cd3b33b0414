"""The library without Python: its project compiles without a warning, and its examples run."""

import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import cmake
import numpy as np
import pytest

from golden.artifact import load_program, save_program
from golden.builtin import builtin_path
from golden.configuration import NetworkShape
from golden.executor import Executor
from golden.frames import FrameExecutor
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.scheme import SCHEMES, Scheme
from golden.state import State
from native.library import available_instructions
from tests.native.test_executor import random_features

SOURCE = Path(__file__).parents[2] / "native"
VECTORS = Path(__file__).parents[1] / "vectors"
FRAME_PRESETS = ["mars", "slim-k1", "slim-k2"]
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def built(folder: Path, *options: str) -> Path:
    """Where the examples are, built in ``folder``."""
    program = Path(cmake.CMAKE_BIN_DIR) / f"cmake{sysconfig.get_config_var('EXE')}"
    for words in (
        ["-S", SOURCE, "-B", folder, "-DSCANWRIGHT_WARNINGS=ON", *options],
        ["--build", folder],
    ):
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(program: Path, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [program, *map(str, words)], capture_output=True, text=True, check=False, env=SANITIZERS
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("sanitized"), "-DSCANWRIGHT_SANITIZE=ON")


@pytest.fixture(scope="module")
def race_checked(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("races"), "-DSCANWRIGHT_SANITIZE_THREADS=ON")


def printed(examples: Path, name: str, *words: object) -> list[list[int]]:
    """The lines of numbers that an example prints."""
    done = run(examples / name, *words)
    assert done.stderr == ""
    assert done.returncode == 0
    return [[int(word) for word in line.split()] for line in done.stdout.splitlines()]


def check_tokens(examples: Path, artifact: Path, folder: Path, threads: int = 1) -> None:
    """Every instruction set prints the golden model's arg-max of every token."""
    golden = Executor(load_program(artifact))
    random = np.random.default_rng(0)
    lines = [random.integers(0, golden.program.shape.vocabulary, n) for n in (1, 30, 17)]
    expected = [golden.forward(line[None])[0][0].argmax(axis=-1) for line in lines]
    file = folder / "tokens.txt"
    file.write_text("".join(" ".join(map(str, line.tolist())) + "\n" for line in lines))
    for instructions in available_instructions():
        lines = printed(examples, "run_tokens", artifact, file, instructions, threads)
        assert lines == [line.tolist() for line in expected]


def check_frames(examples: Path, shape: NetworkShape, scheme: Scheme, folder: Path) -> None:
    """Every instruction set prints the golden model's outputs of two streams of frames."""
    program = random_program(shape, scheme)
    artifact, file = folder / "program.safetensors", folder / "frames.txt"
    save_program(program, artifact)
    frames, golden = random_features(program, 7), FrameExecutor(program)
    text, expected = "", []
    for stream in (frames[:4], frames[4:]):
        text += "".join(" ".join(map(str, frame.ravel().tolist())) + "\n" for frame in stream)
        text += "\n"
        expected += [*golden.advance(stream, State.zeros(program, 1)).tolist(), []]
    file.write_text(text)
    for instructions in available_instructions():
        assert printed(examples, "run_frames", artifact, file, instructions) == expected


def check_refusals(examples: Path, folder: Path) -> None:
    """Bad input of every kind ends with exit code 2 and one line."""
    artifact, network = VECTORS / "micro-w8a8.safetensors", builtin_path("slim-k1", "w8a8")
    data, cut = artifact.read_bytes(), folder / "cut.safetensors"
    cut.write_bytes(data[: len(data) // 2])
    row = "2048 " * load_program(network).shape.frame.features
    lines = {"tokens": "1 2 3", "words": "1 x", "large": "64", "wide": row}
    for name, line in lines.items():
        (folder / name).write_text(line + "\n")
    tokens, words, large, wide, none = (folder / name for name in (*lines, "none"))
    for name, arguments, message in (
        ("run_tokens", (), "usage: run_tokens"),
        ("run_tokens", (none, tokens), "no artifact at"),
        ("run_tokens", (cut, tokens), "corrupt or truncated"),
        ("run_tokens", (artifact, none), "no tokens at"),
        ("run_tokens", (artifact, words), "no number"),
        ("run_tokens", (artifact, large), "token 64 is outside 0..63"),
        ("run_tokens", (network, tokens), "the program is a frame network"),
        ("run_tokens", (artifact, tokens, "sse1"), "instructions 'sse1' are unknown"),
        ("run_tokens", (artifact, tokens, "portable", "x"), "threads 'x' are no positive number"),
        ("run_tokens", (artifact, tokens, "portable", 3), "exceeds the program's 2 blocks"),
        ("run_frames", (network,), "usage: run_frames"),
        ("run_frames", (artifact, tokens), "is a language model; run it by run_tokens"),
        ("run_frames", (network, none), "no frames at"),
        ("run_frames", (network, words), "no number"),
        ("run_frames", (network, tokens), "a frame has 3 features, the program reads 1 rows of"),
        ("run_frames", (network, wide), "feature 2048 is outside -2048..2047"),
    ):
        done = run(examples / name, *arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.safetensors")), ids=lambda p: p.stem)
def test_tokens_give_what_golden_computes(path, release, tmp_path):
    check_tokens(release, path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["w8a8", "w4a5-se-h"])
@pytest.mark.parametrize("preset", FRAME_PRESETS)
def test_frames_give_what_golden_computes(preset, scheme, release, tmp_path):
    check_frames(release, PRESETS[preset], SCHEMES[scheme], tmp_path)


@pytest.mark.slow
def test_the_examples_refuse_bad_input(release, tmp_path):
    check_refusals(release, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.safetensors")), ids=lambda p: p.stem)
def test_sanitizers_find_nothing(path, sanitized, tmp_path):
    check_tokens(sanitized, path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["w8a8", "w4a5-se-h"])
@pytest.mark.parametrize("preset", FRAME_PRESETS)
def test_sanitizers_find_nothing_in_frames(preset, scheme, sanitized, tmp_path):
    check_frames(sanitized, PRESETS[preset], SCHEMES[scheme], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["w8a8", "w4a8-h"])
def test_threads_race_for_nothing(scheme, race_checked, tmp_path):
    artifact = tmp_path / "program.safetensors"
    shape = replace(PRESETS["micro"], n_layer=3, d_inner=48)
    save_program(random_program(shape, SCHEMES[scheme]), artifact)
    for threads in (2, 3):
        check_tokens(race_checked, artifact, tmp_path, threads)


@pytest.mark.slow
def test_sanitizers_find_nothing_in_damaged_files(sanitized, tmp_path):
    check_refusals(sanitized, tmp_path)
    data = (VECTORS / "micro-w8a8.safetensors").read_bytes()
    header_end = 8 + int.from_bytes(data[:8], "little")
    random = np.random.default_rng(0)
    (tmp_path / "tokens.txt").write_text("1 2 3\n")
    path = tmp_path / "damaged.safetensors"
    for _ in range(60):
        damaged = bytearray(data)
        damaged[random.integers(0, header_end)] = random.integers(0, 256)
        path.write_bytes(bytes(damaged[: random.integers(1, len(damaged) + 1)]))
        done = run(sanitized / "run_tokens", path, tmp_path / "tokens.txt")
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
