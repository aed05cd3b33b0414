"""Bits at a temperature, and that the stretches of a run are the text."""

import numpy as np
import pytest

from golden.presets import PRESETS
from golden.random_program import random_program
from golden.scheme import SCHEMES
from model.confidence import tempered_bits
from model.text_windows import cut_windows, integer_start, stretches, token_bits

TEXT = np.random.default_rng(3).integers(0, 64, 3 * 300 + 17)
PIECES = cut_windows(TEXT, 300)


@pytest.fixture(scope="module")
def start():
    return integer_start(random_program(PRESETS["micro"], SCHEMES["w8a8"]))


def scaled(start, factor):
    def begin(batch):
        step = start(batch)
        return lambda tokens: factor * step(tokens)

    return begin


def test_the_temperature_1_is_what_is_measured_elsewhere(start):
    assert tempered_bits(start, PIECES, (1.0,)) == pytest.approx(token_bits(start, PIECES).mean())


def test_a_network_that_is_twice_as_sure_needs_twice_the_temperature(start):
    temperatures = (0.5, 1.0, 1.5, 2.0)
    own = tempered_bits(start, PIECES, temperatures)
    surer = tempered_bits(scaled(start, 2.0), PIECES, tuple(2.0 * t for t in temperatures))
    assert np.array_equal(own, surer)
    assert len(set(own.tolist())) == len(temperatures)


def test_at_an_endless_temperature_every_token_is_as_likely(start):
    assert tempered_bits(start, PIECES, (1e12,)) == pytest.approx(np.log2(64))


def test_stretches_are_the_text_in_order_and_every_token_is_told(start):
    told = []
    found = [targets for targets, _ in stretches(start, PIECES, told.append)]
    assert sum(told) == TEXT.size
    first = np.concatenate(found[:2], axis=1)  # a batch of three windows in two stretches
    assert np.array_equal(first.ravel(), TEXT[:900])
    assert np.array_equal(found[2].ravel(), TEXT[900:])
