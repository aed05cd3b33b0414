"""Sampling of tokens from integer logits."""

import numpy as np
import pytest

from golden.errors import InputError
from golden.sampling import Sampler

LOGITS = np.array([0, 1024, -512, 1536])


def test_zero_temperature_takes_the_first_largest():
    sampler = Sampler(logit_fraction=9, temperature=0.0, seed=0)
    assert sampler.choose(LOGITS) == 3
    assert sampler.choose([5, 7, 7]) == 1


def test_same_seed_draws_the_same_tokens_with_the_softmax_frequencies():
    first, second = (Sampler(logit_fraction=9, temperature=1.0, seed=4) for _ in range(2))
    drawn = [first.choose(LOGITS) for _ in range(4000)]
    assert drawn == [second.choose(LOGITS) for _ in range(4000)]
    expected = np.exp(LOGITS / 512) / np.exp(LOGITS / 512).sum()
    # Four standard deviations of a binomial frequency.
    bound = 4 * np.sqrt(expected * (1 - expected) / 4000)
    assert np.all(np.abs(np.bincount(drawn, minlength=4) / 4000 - expected) < bound)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_impossible_temperature_is_refused(temperature):
    with pytest.raises(InputError, match="temperature"):
        Sampler(logit_fraction=9, temperature=temperature, seed=0)
