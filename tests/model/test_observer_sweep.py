"""The sweep of observers: every setting, its report and its plot."""

import json

import pytest

from golden.configuration import NetworkShape
from model import observer_sweep
from model.checkpoint import checkpoint_bytes
from model.network_parameters import random_network
from tests.model.commands import run

SHAPE = NetworkShape(
    vocabulary=40, d_model=12, d_inner=20, d_state=4, d_conv=3, dt_rank=2, n_layer=2
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "net.safetensors"
    path.write_bytes(checkpoint_bytes(random_network(SHAPE, seed=3)))
    return path


def test_the_command_measures_every_setting(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(observer_sweep, "_BATCHES", 3)
    out, plot = tmp_path / "o.json", tmp_path / "o.svg"
    options = ("--checkpoint", checkpoint, "--bytes", 2048, "--bits", 4)
    done = run(observer_sweep.application, capsys, *options, "--out", out, "--plot", plot)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    rows = {f"{row['group']} {row['value']}": row for row in report["settings"]}
    assert len(rows) == len(list(observer_sweep.settings(4, 2))) == 20
    # The preset is a percentile of the same alpha and sigma.
    assert rows["observer seed"]["percent"] == rows["alpha 0.9995"]["percent"]
    assert rows["observer quamba"]["percent"] == rows["sigma 0.01"]["percent"]
    assert plot.read_bytes().startswith(b"<?xml")
    again = run(observer_sweep.application, capsys, *options, "--json")
    assert json.loads(again.stdout) == report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--bits", 9), "bits = 9 is outside 3..8"), (("--bytes", 0), "bytes = 0 is outside")],
)
def test_bad_input_is_one_line(checkpoint, capsys, arguments, message):
    done = run(observer_sweep.application, capsys, "--checkpoint", checkpoint, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
