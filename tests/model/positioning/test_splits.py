"""Splits: whole trajectories, disjoint, and windows that stay inside them."""

import numpy as np
import pytest

from golden.errors import InputError
from model.positioning.dataset import window_ends
from model.positioning.metrics import error_statistics, nearest_distance
from model.positioning.splits import SPLITS, make_split
from model.positioning.trajectories import Trajectory


def line(number, x):
    xy = np.stack([np.full(20, x), np.linspace(-1.0, 1.0, 20)], axis=1).astype(np.float32)
    return Trajectory(name=f"Grid{number}", kind="grid", xy=xy)


@pytest.fixture
def trajectories():
    order = np.random.default_rng(0).permutation(68)
    lines = [line(101 + i, 0.025 * place) for i, place in enumerate(order)]
    drives = [
        Trajectory(name=f"Random_{i}", kind="random", xy=lines[i].xy + 0.01) for i in range(3)
    ]
    return [*lines, *drives]


@pytest.mark.parametrize("name", SPLITS)
def test_every_trajectory_is_in_exactly_one_part(name, trajectories):
    split = make_split(name, trajectories)
    names = [trajectory for part in split.values() for trajectory in part]
    assert sorted(names) == sorted(t.name for t in trajectories)
    assert split["test-random"] == ["Random_0", "Random_1", "Random_2"]


def test_blocks_are_neighbours_and_no_line_of_training_lies_between(trajectories):
    split = make_split("block", trajectories)
    x = {t.name: float(t.xy[0, 0]) for t in trajectories}
    for part in ("validate", "test-lines"):
        own = sorted(x[name] for name in split[part])
        assert own[-1] - own[0] == pytest.approx(0.025 * (len(own) - 1))
        assert not [n for n in split["train"] if own[0] <= x[n] <= own[-1]]


def test_published_splits(trajectories):
    leave_out = make_split("leave-out", trajectories)
    assert leave_out["validate"] == ["Grid109", "Grid125"]
    assert leave_out["test-lines"] == ["Grid107", "Grid140"]
    assert len(leave_out["train"]) == 64
    parity = make_split("odd-even", trajectories)
    assert {int(name[4:]) % 2 for name in parity["test-lines"]} == {0}
    assert {int(name[4:]) % 2 for name in parity["train"]} == {1}


def test_splits_that_do_not_work_are_refused(trajectories):
    with pytest.raises(InputError, match="unknown split 'halves'; choose one of block"):
        make_split("halves", trajectories)
    with pytest.raises(InputError, match="leaves no trajectory to validate"):
        make_split("leave-out", trajectories[:3])
    with pytest.raises(InputError, match="leaves no trajectory"):
        make_split("block", trajectories[:2])
    nameless = Trajectory(name="line", kind="grid", xy=trajectories[0].xy)
    with pytest.raises(InputError, match="'line' has no number"):
        make_split("odd-even", [nameless])


def test_windows_have_their_context_and_no_gap():
    assert window_ends(18, ()).tolist() == [15, 16, 17]
    assert window_ends(15, ()).tolist() == []
    ends = window_ends(60, (20,))
    assert ends.tolist() == [15, 16, 17, 18, 19, 20, *range(36, 60)]


def test_statistics_are_those_of_the_errors():
    errors = np.arange(101) / 100.0
    assert error_statistics(errors) == pytest.approx(
        {"mean": 0.5, "median": 0.5, "p80": 0.8, "p90": 0.9}
    )
    places, training = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [3.0, 1.0]])
    assert nearest_distance(places, training) == pytest.approx(2.0)
