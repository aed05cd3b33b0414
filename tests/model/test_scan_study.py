"""The study of the scan's numbers: its reference, its points, its rule and its command."""

import json
from dataclasses import replace

import numpy as np
import pytest

from golden.artifact import save_program
from golden.configuration import NetworkShape
from golden.piecewise import EXPONENT_SEGMENTS_LOG2
from golden.random_program import random_program
from golden.scheme import SCHEMES
from model import scan_study
from model.document_statistics import Difference
from model.simulated_program import SimulatedProgram
from model.simulated_scan import ScanWidths
from model.unit_tables import UnitTables, exponent_lines, silu_lines, softplus_lines
from tests.model.commands import run

SHAPE = NetworkShape(
    vocabulary=40, d_model=16, d_inner=24, d_state=4, d_conv=3, dt_rank=2, n_layer=2
)


@pytest.fixture(scope="module")
def program():
    return random_program(SHAPE, SCHEMES["w8a8"], seed=1)


def test_wider_scans_come_nearer_to_the_float_scan(program):
    tokens = np.random.default_rng(0).integers(0, SHAPE.vocabulary, (2, 300))
    exact = scan_study.float_tables(program)
    wanted = SimulatedProgram(program, widths=ScanWidths(), tables=exact).start(2)(tokens)

    def distance(**widths):
        found = SimulatedProgram(program, widths=ScanWidths(**widths), tables=exact).start(2)(
            tokens
        )
        return float(np.square(found - wanted).mean())

    for name in ("state", "delta", "scan_output"):
        errors = [distance(**{name: bits}) for bits in (4, 6, 9, 18)]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < errors[0]
    assert distance() == 0.0


def test_lines_approach_the_functions_and_equal_the_program_s_at_its_number(program):
    own = UnitTables.of(program)
    exact = scan_study.float_tables(program)
    errors = [np.abs(softplus_lines(k) - exact.softplus).max() for k in range(10)]
    assert errors == sorted(errors, reverse=True)
    assert np.abs(softplus_lines(9) - own.softplus).max() < 1e-5
    assert np.abs(silu_lines(9) - own.silu).max() < 1e-5
    assert np.abs(exponent_lines(EXPONENT_SEGMENTS_LOG2) - own.decay).max() < 4e-5
    # A chord's error falls by four with every halving of its length.
    assert np.abs(exponent_lines(6) - np.exp2(-np.arange(1 << 16) / 4096)).max() < 2e-5


def test_narrowest_asks_every_wider_width():
    def points(*highs):
        return [
            scan_study.StudyPoint("state", bits, 1.0, Difference(0.0, -1.0, high))
            for bits, high in zip((6, 8, 10, 12), highs, strict=True)
        ]

    assert scan_study.narrowest(points(3.0, 0.1, 0.1, 0.1)) == 8
    assert scan_study.narrowest(points(0.1, 0.3, 0.1, 0.1)) == 10
    assert scan_study.narrowest(points(0.1, 0.1, 0.1, 0.2)) is None


def test_the_narrowest_together_have_every_kind_s_own_width(program):
    limits = {"state": 7, "delta": 8, "decay": 9, "scan_output": 10}
    lines = {"exponent_segments": 2, "softplus_segments": 4}
    tokens = np.random.default_rng(1).integers(0, SHAPE.vocabulary, (2, 50))
    tables = replace(
        scan_study.float_tables(program), decay=exponent_lines(2), softplus=softplus_lines(4)
    )
    wanted = SimulatedProgram(program, widths=ScanWidths(**limits), tables=tables).start(2)(tokens)
    start = scan_study.narrowest_together(program, limits | lines)
    assert np.array_equal(start(2)(tokens), wanted)
    for name in limits | lines:
        assert scan_study.narrowest_together(program, limits | lines | {name: None}) is None


def test_the_command_writes_table_json_and_plot(program, tmp_path, capsys):
    artifact, out, plot = tmp_path / "p.safetensors", tmp_path / "s.json", tmp_path / "s.svg"
    save_program(program, artifact)
    options = ("--artifact", artifact, "--bytes", 1536, "--out", out, "--plot", plot)
    done = run(scan_study.application, capsys, *options)
    assert done.returncode == 0, done.stderr
    assert "as good as float" in done.stdout
    report = json.loads(out.read_text())
    assert report["sweeps"].keys() == {*scan_study.WIDTHS, *scan_study.SEGMENTS, "together"}
    together = report["narrowest_together"]
    assert (together is None) == (None in report["narrowest"].values())
    assert ("the narrowest together" in done.stdout) == (together is not None)
    first = plot.read_bytes()
    assert first.startswith(b"<?xml")
    again = run(scan_study.application, capsys, *options, "--json")
    assert json.loads(again.stdout) == report
    assert plot.read_bytes() == first


def test_bad_sizes_are_one_line(capsys):
    done = run(scan_study.application, capsys, "--preset", "nosuch")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
