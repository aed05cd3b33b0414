"""Piecewise scales: clusters, reordering, scale counts, and the table of storages."""

import json

import numpy as np
import pytest

from golden.artifact import save_program
from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.random_program import random_program
from golden.scheme import SCHEMES
from model import piecewise_scales as command
from model.channel_clusters import HEADS, cluster, piecewise_scales
from tests.model.commands import run

MAXIMA = np.random.default_rng(0).lognormal(0.0, 1.5, 256)


@pytest.mark.parametrize(
    ("groups", "heads", "dims"), [(1, 4, 4), (8, 2, 2), (8, 4, 4), (4, HEADS, 8), (1, 1, 1)]
)
def test_every_channel_has_the_scale_of_its_piece(groups, heads, dims):
    found = piecewise_scales(MAXIMA, groups, heads, dims, seed=1)
    assert found.count == groups * heads * dims
    assert sorted(found.order) == list(range(256))
    assert found.head_ranges.min() >= 1
    assert found.dim_ranges.min() >= 1
    assert (found.head_ranges.sum(axis=1) == HEADS).all()
    assert (found.dim_ranges.sum(axis=2) == 256 // groups // HEADS).all()
    magnitudes = found.channel_magnitudes()
    assert (magnitudes >= MAXIMA).all()
    # Every piece holds the channel that its scale comes from.
    assert np.isin(found.magnitudes.ravel(), MAXIMA).all()
    # In the new order the scales are ranges: heads repeat their range's row of dims.
    placed, start = magnitudes[found.order], 0
    for g in range(groups):
        for h in range(heads):
            row = np.repeat(found.magnitudes[g, h], found.dim_ranges[g, h])
            for _ in range(found.head_ranges[g, h]):
                assert np.array_equal(placed[start : start + len(row)], row)
                start += len(row)


def test_more_pieces_come_nearer_and_a_piece_a_channel_is_exact():
    def excess(*layout):
        return np.log2(piecewise_scales(MAXIMA, *layout, 0).channel_magnitudes() / MAXIMA).sum()

    assert excess(1, 1, 1) > excess(1, 4, 4) > excess(8, 4, 4)
    assert excess(8, HEADS, 4) == 0.0


def test_clusters_are_seeded_and_find_what_is_there():
    random = np.random.default_rng(5)
    centres = np.array([[0.0, 0.0], [5.0, 5.0], [10.0, 0.0]])
    points = np.concatenate([centre + random.normal(0, 0.1, (20, 2)) for centre in centres])
    labels = cluster(points, 3, seed=2)
    assert np.array_equal(labels, cluster(points, 3, seed=2))
    assert [len(set(labels[i : i + 20])) for i in (0, 20, 40)] == [1, 1, 1]
    assert len(set(labels)) == 3
    assert sorted(cluster(np.zeros((5, 1)), 5, seed=0)) == [0, 1, 2, 3, 4]


def test_channels_that_do_not_split_are_refused():
    with pytest.raises(InputError, match="100 channels do not split into 8 groups of 8 heads"):
        piecewise_scales(np.ones(100), 8, 2, 2, 0)
    with pytest.raises(InputError, match="4 clusters of 2 points"):
        piecewise_scales(np.ones(128), 8, 4, 4, 0)


def test_the_command_compares_storages(tmp_path, capsys, monkeypatch):
    shape = NetworkShape(
        vocabulary=40, d_model=12, d_inner=256, d_state=3, d_conv=3, dt_rank=2, n_layer=1
    )
    monkeypatch.setattr(command, "_CALIBRATION", (2, 128))
    artifact, out = tmp_path / "p.safetensors", tmp_path / "p.json"
    save_program(random_program(shape, SCHEMES["w8a8"], seed=1), artifact)
    options = ("--artifact", artifact, "--bytes", 1100, "--out", out)
    done = run(command.application, capsys, *options)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["storages"]
    assert [(row["storage"], row["scales_a_layer"], row["bits_a_value"]) for row in rows[:6]] == [
        ("one scale", 1, 4), ("dual scale, ratio 4", 2, 5), ("1x4x4", 16, 4), ("8x2x2", 32, 4),
        ("8x4x4", 128, 4), ("flat (head, dim) table", 256, 4),
    ]  # fmt: skip
    assert json.loads(run(command.application, capsys, *options, "--json").stdout)["seed"] == 0
