"""Weights that swing between two integers are held, others are not."""

import numpy as np
import pytest
import torch
from torch import nn

from golden.errors import InputError
from model.quantized_parts import Stored
from model.weight_freezing import WeightFreezing


def network(bits=4):
    return nn.ModuleList([Stored(np.array([2, -3, 1]), 5, bits), Stored(np.array([[9]]), 5, 8)])


def set_integers(stored, *values):
    with torch.no_grad():
        stored.master.copy_(torch.tensor(values, dtype=torch.float64) / stored.unit)


def train(stored, freezing, updates, progress):
    """Let one weight swing between 2 and, two thirds of the time, 3; let one rise slowly."""
    for update in range(updates):
        swinging = 2.4 if update // 10 % 3 == 0 else 2.6
        set_integers(stored, swinging, -3.0 + 6.0 * update / updates, 1.2)
        freezing.advance(progress)


def test_a_weight_that_swings_is_held_where_it_is_most_of_the_time():
    watched, other = own = network()
    # It turns twice in thirty updates; the average needs a while to learn of that.
    freezing = WeightFreezing(own, limit=0.055)
    train(watched, freezing, 1500, progress=1.0)
    assert freezing.state["held"].tolist() == [1.0, 0.0, 0.0]
    assert freezing.share == pytest.approx(1 / 3)
    assert watched.integers().tolist() == [3, 3, 1]
    held = watched.master[0].item()
    assert held == 3.0 / 8.0
    # What the optimizer does to it from here on is undone, the others go on.
    set_integers(watched, -5.0, 6.0, 1.4)
    set_integers(other, [11.0])
    freezing.advance(0.5)
    assert watched.master.tolist() == [held, 6.0 / 8.0, 1.4 / 8.0]
    assert other.integers().tolist() == [[11]]


@pytest.mark.parametrize(("progress", "held"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_limit_falls_over_the_run(progress, held):
    own = network()
    freezing = WeightFreezing(own, limit=0.055)
    assert freezing.limit(0.0) == pytest.approx(20.0 * freezing.limit(1.0))
    train(own[0], freezing, 1500, progress)
    assert freezing.state["held"].tolist() == [held, 0.0, 0.0]


def test_a_network_without_weights_of_few_bits_is_refused():
    with pytest.raises(InputError, match=r"freezing is 0\.01, but no weight has 16 integers"):
        WeightFreezing(network(bits=8), 0.01)
