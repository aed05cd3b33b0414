"""The library without Python: its project compiles without a warning, and its example runs."""

import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

import cmake
import numpy as np
import pytest

from golden.artifact import load_program, save_program
from golden.executor import Executor
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.scheme import SCHEMES
from native.executor import available_instructions

SOURCE = Path(__file__).parents[2] / "native"
VECTORS = Path(__file__).parents[1] / "vectors"
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def built(folder: Path, *options: str) -> Path:
    """The example, built in ``folder``."""
    program = Path(cmake.CMAKE_BIN_DIR) / f"cmake{sysconfig.get_config_var('EXE')}"
    for words in (
        ["-S", SOURCE, "-B", folder, "-DSCANWRIGHT_WARNINGS=ON", *options],
        ["--build", folder],
    ):
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run_tokens"


def run(program: Path, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [program, *map(str, words)], capture_output=True, text=True, check=False, env=SANITIZERS
    )


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("sanitized"), "-DSCANWRIGHT_SANITIZE=ON")


@pytest.fixture(scope="module")
def race_checked(tmp_path_factory) -> Path:
    return built(tmp_path_factory.mktemp("races"), "-DSCANWRIGHT_SANITIZE_THREADS=ON")


def check_tokens(program: Path, artifact: Path, folder: Path, threads: int = 1) -> None:
    """Every instruction set prints the golden model's arg-max of every token."""
    golden = Executor(load_program(artifact))
    random = np.random.default_rng(0)
    lines = [random.integers(0, golden.program.shape.vocabulary, n) for n in (1, 30, 17)]
    expected = [golden.forward(line[None])[0][0].argmax(axis=-1) for line in lines]
    file = folder / "tokens.txt"
    file.write_text("".join(" ".join(map(str, line.tolist())) + "\n" for line in lines))
    for instructions in available_instructions():
        done = run(program, artifact, file, instructions, threads)
        assert done.stderr == ""
        assert done.returncode == 0
        printed = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
        assert printed == [line.tolist() for line in expected]


def check_refusals(program: Path, folder: Path) -> None:
    """Bad input of every kind ends with exit code 2 and one line."""
    artifact = VECTORS / "micro-w8a8.safetensors"
    data, tokens, cut = artifact.read_bytes(), folder / "tokens.txt", folder / "cut.safetensors"
    tokens.write_text("1 2 3\n")
    (folder / "words.txt").write_text("1 x\n")
    (folder / "large.txt").write_text("64\n")
    cut.write_bytes(data[: len(data) // 2])
    for words, message in (
        ((), "usage: run_tokens"),
        ((folder / "none", tokens), "no artifact at"),
        ((cut, tokens), "corrupt or truncated"),
        ((artifact, folder / "none"), "no tokens at"),
        ((artifact, folder / "words.txt"), "no number"),
        ((artifact, folder / "large.txt"), "token 64 is outside 0..63"),
        ((artifact, tokens, "sse1"), "instructions 'sse1' are unknown"),
        ((artifact, tokens, "portable", "x"), "threads 'x' are no positive number"),
        ((artifact, tokens, "portable", 3), "threads = 3 exceeds the program's 2 blocks"),
    ):
        done = run(program, *words)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.safetensors")), ids=lambda p: p.stem)
def test_the_example_prints_what_golden_computes(path, example, tmp_path):
    check_tokens(example, path, tmp_path)


@pytest.mark.slow
def test_the_example_refuses_bad_input(example, tmp_path):
    check_refusals(example, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.safetensors")), ids=lambda p: p.stem)
def test_sanitizers_find_nothing(path, sanitized, tmp_path):
    check_tokens(sanitized, path, tmp_path)


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
        done = run(sanitized, path, tmp_path / "tokens.txt")
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
