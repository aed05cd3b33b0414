"""Range observers against their formulas, and what bad batches get."""

import math

import numpy as np
import pytest

from golden.errors import InputError
from model.range_observers import (
    ALPHAS,
    OBSERVERS,
    AciqObserver,
    EntropyObserver,
    LearnedObserver,
    MinMaxObserver,
    MseObserver,
    OutlierObserver,
    PercentileObserver,
    asymmetric_range,
    layer_alpha,
    make_observer,
    percentile_observer,
)

LEVELS = 7


@pytest.fixture(scope="module")
def outliers():
    """Laplace values with a few large ones."""
    values = np.random.default_rng(0).laplace(0.0, 1.0, 20_000)
    values[:5] = 60.0
    return values


def observed(observer, values):
    for batch in np.array_split(values, 8):
        observer.observe(batch)
    return observer.magnitude


def error(values, magnitude, levels=LEVELS):
    step = magnitude / levels
    return np.square(np.clip(np.rint(values / step), -levels, levels) * step - values).mean()


def test_presets_and_policy_are_the_texts():
    assert (percentile_observer("seed").alpha, percentile_observer("seed").sigma) == (0.9995, 0.1)
    assert percentile_observer("quamba").sigma == 0.01
    assert percentile_observer("seed", 0.999, 0.5).alpha == ALPHAS[0]
    assert [layer_alpha(i, 6) for i in range(6)] == [1.0, 1.0, 0.9999, 0.9999, 0.9995, 0.9995]
    assert percentile_observer("seed").scale.__self__.magnitude is None
    observer = PercentileObserver(1.0, 0.1)
    observer.observe(np.array([-2.54]))
    assert observer.scale(8) == 2.54 / 127


def test_sigma_forgets_the_first_batch(outliers):
    slow, fast = (observed(PercentileObserver(1.0, sigma), outliers) for sigma in (0.01, 1.0))
    assert slow > 50.0
    assert fast == np.abs(np.array_split(outliers, 8)[-1]).max()


def test_min_max_clips_nothing(outliers):
    assert observed(MinMaxObserver(), outliers) == 60.0


def test_mse_and_learned_ranges_are_nearly_the_best(outliers):
    best = min(error(outliers, m) for m in np.linspace(1.0, 60.0, 2000))
    for observer in (MseObserver(LEVELS), LearnedObserver(LEVELS)):
        assert error(outliers, observed(observer, outliers)) < 1.05 * best
    assert error(outliers, 60.0) > 2.0 * best


@pytest.mark.parametrize(("levels", "clip"), [(3, 3.89), (7, 5.03), (127, 9.89)])
def test_aciq_finds_the_published_clipping_of_laplace(levels, clip):
    """Banner et al., table 1, counts ``2**bits`` codes, a symmetric format one less."""
    values = np.random.default_rng(1).laplace(0.0, 2.0, 400_000)
    values[0] = 100.0
    found = observed(AciqObserver(levels), values) / np.abs(values).mean()
    assert math.isclose(found, clip, rel_tol=0.12)


def test_aciq_recognises_a_normal_distribution():
    values = np.random.default_rng(2).normal(0.0, 3.0, 400_000)
    values[0] = 100.0
    found = observed(AciqObserver(LEVELS), values) / 3.0
    assert math.isclose(found, 2.55, rel_tol=0.05)


def test_entropy_clips_what_min_max_keeps(outliers):
    found = observed(EntropyObserver(LEVELS), outliers)
    assert found < 30.0
    assert error(outliers, found) < error(outliers, 60.0)


def test_entropy_without_outliers_keeps_the_range():
    values = np.random.default_rng(3).uniform(-1.0, 1.0, 50_000)
    assert observed(EntropyObserver(127), values) > 0.95


def test_outlier_aware_range_puts_the_quantile_at_120(outliers):
    observer = OutlierObserver(127)
    observer.observe(outliers[:10_000])
    wanted = np.quantile(np.abs(outliers[:10_000]), 0.99) / 120
    # The observer's quantile is that of a third of the values.
    assert math.isclose(observer.scale(8), wanted, rel_tol=0.08)


@pytest.mark.parametrize("name", OBSERVERS)
def test_every_observer_survives_zeros_and_refuses_nonsense(name):
    observer = make_observer(name, LEVELS)
    assert observer.magnitude is None
    with pytest.raises(InputError, match="has seen no batch"):
        observer.scale(4)
    observer.observe(np.zeros((3, 4)))
    assert observer.magnitude == 0.0
    with pytest.raises(InputError, match="batch is empty"):
        observer.observe(np.zeros(0))
    with pytest.raises(InputError, match="holds 2 NaN or infinite values of 3"):
        observer.observe(np.array([1.0, np.nan, -np.inf]))
    observer.observe(np.ones(5))
    assert observer.magnitude > 0.0


def test_unknown_observers_are_named():
    with pytest.raises(InputError, match="unknown observer 'best'; choose one of min-max"):
        make_observer("best", 7)
    with pytest.raises(InputError, match=r"alpha = 1\.5 is outside"):
        PercentileObserver(1.5)


def test_asymmetric_codes_follow_their_formula():
    values = np.concatenate([np.linspace(-0.28, 9.0, 1000), [500.0]])
    chosen = asymmetric_range(values, 0.9985)
    codes = np.clip(np.rint(values / chosen.scale + chosen.zero_point), 0, 255)
    assert np.array_equal(chosen(values), (codes - chosen.zero_point) * chosen.scale)
    assert chosen(np.zeros(1))[0] == 0.0
    # One-sided values get nearly twice the codes of a symmetric format of the same width.
    inside = values[:1000]
    symmetric = 9.0 / 127
    halved = np.square(np.rint(inside / symmetric) * symmetric - inside).mean()
    assert np.square(chosen(inside) - inside).mean() < 0.4 * halved
    assert asymmetric_range(np.zeros(4), 1.0)(np.zeros(4)).tolist() == [0.0] * 4
