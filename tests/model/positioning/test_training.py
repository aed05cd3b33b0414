"""Windows of frames, replayed drives, and the budget of a run."""

import numpy as np
import pytest
import torch

from model.positioning.dataset import Windows, window_segments
from model.positioning.training import (
    PositioningOptions,
    PositioningTrainer,
    new_network,
    predict,
    window_rows,
)
from model.slim import SlimNetwork
from model.slim_configuration import slim_preset


def windows_of(rows=40, seed=0):
    generator = np.random.default_rng(seed)
    return Windows(
        features=generator.standard_normal((rows, 2100)).astype(np.float32),
        places=generator.standard_normal((rows, 2)).astype(np.float32),
        ends=np.arange(15, rows),
        segments=np.array([[0, rows - 1]] * (rows - 15)),
        starts=np.array([0, rows - 15]),
        names=("a",),
    )


def test_windows_are_the_frames_before_their_end():
    rows = window_rows(torch.tensor([20]), torch.tensor([[0, 30]]), 4, torch.tensor([1]))
    assert rows.tolist() == [[17, 18, 19, 20]]


def test_replayed_windows_end_in_the_same_frame_and_stay_in_their_drive():
    ends = torch.full((5,), 20)
    segments = torch.tensor([[14, 26]]).expand(5, 2)
    rows = window_rows(ends, segments, 4, torch.tensor([0, 2, -2, 3, -3]))
    assert rows.tolist() == [
        [20, 20, 20, 20],
        [14, 16, 18, 20],
        [26, 24, 22, 20],
        [14, 14, 17, 20],
        [26, 26, 23, 20],
    ]


def test_segments_end_at_gaps():
    assert window_segments(np.array([3, 5, 6, 9]), 10, (5,)).tolist() == [
        [0, 5],
        [0, 5],
        [6, 9],
        [6, 9],
    ]
    assert window_segments(np.array([3]), 10, ()).tolist() == [[0, 9]]


def test_predictions_are_those_of_single_windows():
    torch.manual_seed(0)
    network, windows = SlimNetwork(slim_preset("slim")), windows_of()
    found = predict(network, windows, batch=7)
    with torch.no_grad():
        single = network.eval()(torch.from_numpy(windows.features[None, 10:26]))
    torch.testing.assert_close(found[10:11], single)


def test_the_first_used_up_budget_counts():
    windows = windows_of()

    def steps_of(**budget):
        options = PositioningOptions(batch=4, **budget)
        trainer = PositioningTrainer(
            new_network(slim_preset("slim-k1"), options, windows), options, windows, windows, "cpu"
        )
        return sum(1 for _ in trainer.run())

    assert steps_of(steps=3) == 3
    assert steps_of(steps=3, minutes=10.0) == 3
    assert steps_of(steps=10**9, minutes=1e-3) < 10**9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": None}, "give steps or minutes"),
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"replay": -1}, "replay is -1"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
    ],
)
def test_bad_options_name_the_value(change, words):
    with pytest.raises(ValueError, match=words):
        PositioningOptions(**{"steps": 1} | change)
