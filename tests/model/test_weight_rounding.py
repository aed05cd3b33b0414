"""Weight rounding: compensation within and between rows, free scales, and what it is given."""

import numpy as np
import pytest
import torch

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.scheme import SCHEMES
from model.float_simulation import FloatNetwork
from model.layer_widths import LayerWidths, hybrid_scheme, read_layer_widths
from model.network_parameters import extract_parameters, random_network
from model.outliers import plant_outliers
from model.sensitivity import measure_sensitivity
from model.weight_rounding import round_groups, round_rows

SHAPE = NetworkShape(
    vocabulary=40, d_model=12, d_inner=20, d_state=4, d_conv=3, dt_rank=2, n_layer=2
)
LIMITS = (-8, 7)


def spread(random, size):
    """Return second moments whose eigenvalues span three decades."""
    basis = np.linalg.qr(random.normal(size=(size, size)))[0]
    return basis @ np.diag(np.geomspace(1e-3, 1.0, size)) @ basis.T


def cost(rounded, weight, moments, sensitivity):
    """Return ``tr(M E H E^T)``."""
    error = rounded.real / rounded.factor[:, None] - weight
    return float(np.trace(sensitivity @ error @ moments @ error.T))


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    return random.normal(size=(24, 32)), spread(random, 32), spread(random, 24)


def test_compensation_within_and_between_rows_both_pay(problem):
    weight, moments, sensitivity = problem
    plain = round_rows(weight, LIMITS, moments, compensate=False)
    rows = round_rows(weight, LIMITS, moments)
    both = round_rows(weight, LIMITS, moments, sensitivity=sensitivity)
    costs = [cost(made, weight, moments, sensitivity) for made in (plain, rows, both)]
    assert costs[1] < 0.7 * costs[0]
    assert costs[2] < 0.7 * costs[1]
    for made in (plain, rows, both):
        assert made.weight.min() >= -8
        assert made.weight.max() <= 7


def test_factors_are_reported_and_only_taken_where_they_are_given(problem):
    weight, moments, _ = problem
    factors = np.full((24, 4), np.nan)
    factors[:12] = np.exp2(np.arange(4) / 4)
    factors[12:, 0] = 1.0
    made = round_rows(weight, LIMITS, moments, factors=factors)
    assert set(made.factor[12:]) == {1.0}
    assert len(set(made.factor[:12])) > 1
    without = round_rows(weight, LIMITS, moments)
    identity = np.eye(24)
    assert cost(made, weight, moments, identity) < cost(without, weight, moments, identity)


def test_ternary_rows_hold_three_values(problem):
    weight, moments, _ = problem
    assert set(np.unique(round_rows(weight, (-1, 1), moments).weight)) == {-1, 0, 1}


def test_finer_groups_of_scales_come_nearer(problem):
    weight, moments, sensitivity = problem
    weight = weight * np.geomspace(1.0, 16.0, 4).repeat(8)
    costs = [
        cost(made, weight, moments, sensitivity)
        for made in (
            round_rows(weight, LIMITS, moments),
            round_groups(weight, LIMITS, moments, group=32),
            round_groups(weight, LIMITS, moments, group=8, power_of_two=True),
            round_groups(weight, LIMITS, moments, group=8),
        )
    ]
    assert costs == sorted(costs, reverse=True)


def test_sensitivity_is_the_gradient_of_the_drawn_loss():
    network = random_network(SHAPE, seed=1)
    targets = np.random.default_rng(0).integers(0, 40, (6, 16))
    found = measure_sensitivity(network, targets, seed=0)
    again = measure_sensitivity(network, targets, seed=0)
    for own, same in zip(found, again, strict=True):
        assert own.in_proj.shape == (40, 40)
        assert own.x_proj.shape == (10, 10)
        assert own.dt_proj.shape == (20, 20)
        assert np.array_equal(own.out_proj, same.out_proj)
        assert np.linalg.eigvalsh(own.out_proj).min() > -1e-9
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0]
    turned = found[0].rotated(rotation).out_proj
    assert np.allclose(np.linalg.eigvalsh(turned), np.linalg.eigvalsh(found[0].out_proj))
    assert not any(torch.is_grad_enabled() and p.grad is not None for p in network.parameters())


def test_planted_outliers_keep_the_function_and_are_outliers():
    parameters = extract_parameters(random_network(SHAPE, seed=2))
    planted = plant_outliers(parameters, 2, seed=0)
    tokens = np.random.default_rng(0).integers(0, 40, (2, 30))
    exact = FloatNetwork(parameters).forward(tokens)
    assert np.allclose(FloatNetwork(planted).forward(tokens), exact, atol=1e-5)
    for before, after in zip(parameters.layers, planted.layers, strict=True):
        ratio = after.norm_weight / before.norm_weight
        assert sorted(ratio)[-3:] == pytest.approx([1.0, 32.0, 32.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"5": 8}', "names layer 5, the network has layers 0..4; name one of these"),
        ('{"x": 8}', "names layer x, the network"),
        ('{"0": 9}', r"gives layer 0 9 bits of weights, outside 2..8"),
        ('{"0": {"activations": 3}}', r"gives layer 0 3 bits of activations, outside 4..16"),
        ('{"0": {"weight": 4}}', "gives layer 0 a width of 'weight'; choose of weights, activ"),
        ('{"0": true}', "gives layer 0 True bits"),
        ("[8]", "holds no JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_bad_layer_file_is_refused(text, message, tmp_path):
    path = tmp_path / "layers.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_layer_widths(path, 5)
    with pytest.raises(InputError, match="no file"):
        read_layer_widths(tmp_path / "none.json", 5)


@pytest.mark.parametrize("compensate", [False, True])
@pytest.mark.parametrize("columns", [16, 14])
def test_exponents_of_groups_follow_their_size(columns, compensate):
    random = np.random.default_rng(5)
    size = np.exp2([0, 0, 0, 0, -1, -1, -1, -1, -2, -2, -2, -2, -4, -4, -4, -4])[:columns]
    weight = random.uniform(-0.9, 0.9, (6, columns)) * size
    inputs = random.normal(0.0, 1.0 / size, (200, columns))
    moments = inputs.T @ inputs
    rows, groups = (
        round_rows(weight, (-8, 7), moments, compensate=compensate, group=group)
        for group in (None, 4)
    )
    assert rows.group_shift is None
    assert groups.group_shift.shape == (6, 4)
    assert groups.group_shift.min() == 0
    # The last group would be a bit finer than the hardware can shift.
    assert groups.group_shift.max() == 3
    assert np.all(np.diff(groups.group_shift.mean(axis=0)) < 0)
    left, before = (np.square((own.real - weight) @ inputs.T).sum() for own in (groups, rows))
    assert left < 0.5 * before
    linear = groups.linear()
    assert np.array_equal(np.ldexp(linear.integers, -linear.fraction_bits[:, None]), groups.real)
    assert np.abs(groups.weight).max() <= 8


def test_one_group_is_a_row():
    weight = np.random.default_rng(6).normal(size=(4, 8))
    alone, one = (round_rows(weight, (-8, 7), group=group) for group in (None, 8))
    assert one.group_shift is None
    assert np.array_equal(one.weight, alone.weight)


def test_a_layer_file_is_read(tmp_path):
    path = tmp_path / "layers.json"
    path.write_text('{"0": 8, "4": {"activations": 6, "weights": 2}, "1": {"activations": 9}}')
    widths = read_layer_widths(path, 5)
    assert widths == {
        0: LayerWidths(weights=8),
        4: LayerWidths(weights=2, activations=6),
        1: LayerWidths(activations=9),
    }
    scheme, every = hybrid_scheme(SCHEMES["w4a8"], widths, 5)
    assert (scheme.weight_bits, scheme.projection_bits, scheme.activation_bits) == (8, 9, 8)
    assert [own.weights for own in every] == [8, 4, 4, 4, 2]
    assert [own.activations for own in every] == [8, 9, 8, 8, 6]
