"""Scale statistics: counts of clipped values and outliers, and the command's folder."""

import json

import numpy as np
import pytest

from golden.artifact import save_program
from golden.configuration import NetworkShape
from golden.random_program import random_program
from golden.scheme import SCHEMES
from model import statistics
from model.simulated_program import SimulatedProgram
from model.statistics import TensorStatistics
from tests.model.commands import run

SHAPE = NetworkShape(
    vocabulary=40, d_model=12, d_inner=20, d_state=4, d_conv=3, dt_rank=2, n_layer=2
)


def test_clipped_and_outlying_values_are_counted():
    before = np.array([[0.2, -0.5, 1.5, 7.4, 9.0, -20.0]]).T
    after = np.clip(np.rint(before), -8, 7)
    own = TensorStatistics()
    own.watch(before, after, np.ones(1))
    report = own.report()
    assert report["clipped"] == 2 / 6
    assert report["largest"] == 20.0
    assert report["outliers"] == 0.0
    assert sum(report["before"]) == sum(report["after"]) == 6
    assert max(np.flatnonzero(report["after"])) < max(np.flatnonzero(report["before"]))
    power, noise = np.square(before).sum(), np.square(before - after).sum()
    assert report["signal_to_noise_db"] == pytest.approx(10 * np.log10(power / noise))


def test_a_lone_large_value_is_an_outlier():
    values = np.ones((1000, 1))
    values[3] = 50.0
    own = TensorStatistics()
    own.watch(values, values, np.ones(1))
    assert own.report()["outliers"] == pytest.approx(1e-3)
    assert own.report()["signal_to_noise_db"] is None


@pytest.mark.parametrize("scheme", ["w8a8", "w8a8-h"])
def test_watching_changes_nothing_and_sees_every_requantizer(scheme):
    program = random_program(SHAPE, SCHEMES[scheme], seed=0)
    tokens = np.random.default_rng(0).integers(0, 40, (1, 50))
    layers = statistics.collect(program, tokens[0])
    names = {"x", "u", "gate", "projected", "gated", "scan_output", "residual"}
    assert set(layers[0]) == names | ({"before rotation"} if scheme.endswith("-h") else set())
    seen = []
    watched = SimulatedProgram(
        program, watch=lambda *site: lambda _before, after, steps: seen.append((site, after, steps))
    )
    assert np.array_equal(watched.start(1)(tokens), SimulatedProgram(program).start(1)(tokens))
    for _site, after, steps in seen:
        assert np.array_equal(np.rint(after / steps), after / steps)


def test_the_command_writes_json_and_plots(tmp_path, capsys):
    artifact, out = tmp_path / "p.safetensors", tmp_path / "s"
    save_program(random_program(SHAPE, SCHEMES["w4a5-se"], seed=1), artifact)
    done = run(
        statistics.application, capsys, "--artifact", artifact, "--bytes", 1100, "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "layer-0.svg", "layer-1.svg", "statistics.json", "summary.svg",
    ]  # fmt: skip
    report = json.loads((out / "statistics.json").read_text())
    assert report["layers"][1]["x"]["values"] == 1100 * 20
    bad = run(statistics.application, capsys, "--scheme", "w9", "--out", out)
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
