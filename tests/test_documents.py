"""Tables and figures in the documents are those that the commands write."""

import subprocess
import sys
from pathlib import Path

import pytest

from golden.artifact import load_program
from golden.builtin import QAT_SCHEMES, TRAINED_SCHEMES, builtin_path, load_builtin
from golden.presets import find_preset
from golden.scheme import SCHEMES
from model.accuracy_rows import scheme_of
from model.accuracy_table import page_files
from model.positioning.report import page_text


@pytest.mark.parametrize(
    "command",
    [
        ("bench.results", "--check", "README.md"),
        ("bench.peer", "--check", "README.md"),
        ("bench.families", "--check", "README.md", "--check", "docs/hardware.md"),
        ("bench.routed", "--figures", "bench/routed-slim.json", "--check", "docs/positioning.md"),
        ("bench.routed", "--check", "README.md"),
        ("docs.figures", "--check"),
    ],
    ids=" ".join,
)
def test_committed_documents_are_current(command):
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_positioning_page_is_that_of_its_report():
    page = Path("docs/positioning.md").read_text(encoding="utf-8")
    assert page_text(page, Path("docs/positioning.json")) == page


def test_accuracy_page_and_readme_are_those_of_the_records():
    for path, content in page_files().items():
        if path.suffix == ".md":
            assert path.read_bytes() == content, f"{path}: run python -m model.evaluate --table"
        else:  # another release of the drawing library writes other bytes
            assert path.is_file()


@pytest.mark.parametrize(
    ("scheme", "name"),
    [(scheme, scheme) for scheme in TRAINED_SCHEMES]
    + [(scheme, f"{scheme}-qat") for scheme in QAT_SCHEMES],
)
def test_built_in_programs_are_the_trained_ones(scheme, name):
    program = load_program(builtin_path("bytelm", name))
    assert program.shape == find_preset("bytelm")
    assert program.scheme == scheme_of(scheme)
    assert program.provenance["checkpoint"] == "bytelm.safetensors"


def test_a_scheme_with_only_a_trained_program_gets_that():
    program = load_builtin("bytelm", SCHEMES["ternary-h"])
    assert program.provenance["source"] == "model.qat"
    untrained = load_builtin("bytelm", SCHEMES["w4a8-h"])
    assert untrained.provenance["source"] == "model.quantize"
