"""The generate command: what it writes, that it is repeatable, and what bad input gets."""

import hashlib
import json
import subprocess
import sys

import pytest

from golden.artifact import load_program, save_program
from golden.configuration import NetworkShape
from golden.random_program import random_program
from golden.scheme import find_scheme
from golden.vector_files import load_vectors


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "hw.generate", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def design(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated") / "design"
    done = run("--preset", "micro", "--scheme", "w4a5-se", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_same_command_writes_the_same_bytes(design, tmp_path):
    again = tmp_path / "again"
    assert run("--preset", "micro", "--scheme", "w4a5-se", "--out", again).returncode == 0
    assert contents(again) == contents(design)


def test_manifest_describes_every_file(design):
    manifest = json.loads((design / "manifest.json").read_text())
    for key in ("version", "preset", "scheme", "top", "predicted_cycles_per_token"):
        assert key in manifest
    files = contents(design)
    del files["manifest.json"]
    assert manifest["files"] == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    program = design / "golden" / "program.safetensors"
    assert manifest["artifact_sha256"] == hashlib.sha256(program.read_bytes()).hexdigest()
    assert (design / "rtl" / f"{manifest['top']}.v").is_file()


def test_golden_vectors_belong_to_the_program(design):
    program = design / "golden" / "program.safetensors"
    vectors = load_vectors(design / "golden" / "vectors.npz", program)
    assert vectors.probes["logits"].shape == (4, load_program(program).shape.vocabulary)


def test_an_artifact_of_any_shape_is_generated_under_any_name(tmp_path):
    shape = NetworkShape(
        vocabulary=11, d_model=6, d_inner=9, d_state=2, d_conv=2, dt_rank=1, n_layer=1
    )
    artifact = tmp_path / "own.safetensors"
    save_program(random_program(shape, find_scheme("w4a8"), seed=2), artifact)
    out = tmp_path / "out"
    done = run(
        "--preset", "own", "--scheme", "w4a8", "--artifact", artifact, "--mac-lanes", 3,
        "--scan-lanes", 1, "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "manifest.json").read_text())["top"] == "own_w4a8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "nosuch", "--scheme", "w8a8"), "unknown preset 'nosuch'"),
        (("--preset", "micro", "--scheme", "w1a1"), "unknown scheme 'w1a1'"),
        (("--preset", "micro", "--scheme", "w8a8", "--mac-lanes", "7"), "does not divide"),
        (("--preset", "micro", "--scheme", "w8a8", "--mac-lanes", "0"), "does not divide"),
        (("--preset", "micro", "--scheme", "w8a8", "--dense-trits"), "no ternary weights"),
        (("--preset", "micro", "--scheme", "w8a8", "--persistent"), "--persistent is for frame"),
        (("--preset", "micro", "--scheme", "w8a8", "--scan-lanes", "3"), "does not divide"),
        (("--preset", "micro", "--scheme", "w8a8", "--tokens", "0"), "0"),
        (("--preset", "micro", "--scheme", "w8a8", "--artifact", "no.file"), "no artifact at"),
        (("--preset", "micro", "--scheme", "w8a8", "--wrong-option"), "--wrong-option"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, message, tmp_path):
    out = tmp_path / "out"
    done = run(*arguments, "--out", out)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_scheme_that_is_not_the_artifacts_is_refused(tmp_path):
    artifact = tmp_path / "micro.safetensors"
    shape = NetworkShape(
        vocabulary=11, d_model=6, d_inner=9, d_state=2, d_conv=2, dt_rank=1, n_layer=1
    )
    save_program(random_program(shape, find_scheme("w4a8"), seed=2), artifact)
    done = run(
        "--preset", "own", "--scheme", "w8a8", "--artifact", artifact, "--out", tmp_path / "o"
    )
    assert done.returncode == 2
    assert "was quantized as w4a8, not w8a8" in done.stderr
