"""Published methods beside ours: what they keep, how they round, and the command's table."""

import json

import numpy as np
import pytest

from golden.configuration import NetworkShape
from golden.scheme import SCHEMES, Scheme
from model.checkpoint import checkpoint_bytes
from model.float_simulation import FloatNetwork
from model.network_parameters import extract_parameters, random_network
from model.outliers import plant_outliers
from model.peers import OURS, PEERS, Simulation, application, rounded
from model.text_windows import float_start, token_bits
from tests.model.commands import run

SHAPE = NetworkShape(
    vocabulary=48, d_model=12, d_inner=20, d_state=4, d_conv=3, dt_rank=2, n_layer=2
)
NARROW = Scheme(name="narrow", weight_bits=3, activation_bits=4)
WIDE = Scheme(name="wide", weight_bits=8, activation_bits=16)


@pytest.fixture(scope="module")
def parameters():
    return extract_parameters(random_network(SHAPE, seed=3))


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(7).integers(0, SHAPE.vocabulary, (2, 128))


def distance(peer, parameters, tokens, scheme):
    """Return the root mean square difference of a token's bits from the float network's."""
    exact = token_bits(float_start(FloatNetwork(parameters)), [tokens])
    found = token_bits(Simulation(peer, parameters, tokens, scheme).start(), [tokens])
    return float(np.sqrt(np.square(found - exact).mean()))


def test_weights_have_a_scale_a_row_or_one_a_matrix():
    weight = np.array([[0.7, -0.32, 0.1], [0.07, 0.036, -0.042]])
    by_row, by_tensor = (rounded(weight, 4, tensor=tensor) for tensor in (False, True))
    np.testing.assert_allclose(by_row, [[0.7, -0.3, 0.1], [0.07, 0.04, -0.04]], atol=1e-12)
    np.testing.assert_allclose(by_tensor, [[0.7, -0.3, 0.1], [0.1, 0.0, 0.0]], atol=1e-12)
    assert not rounded(np.zeros((2, 2)), 4).any()


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_wide_numbers_leave_the_network_as_it_is(peer, parameters, tokens):
    narrow, wide = (distance(peer, parameters, tokens, scheme) for scheme in (NARROW, WIDE))
    # Eight bits of weights, embedding and head are left; what a method moves must be undone.
    assert wide < 0.2 * narrow


def test_planted_outliers_hurt_one_scale_a_tensor(parameters, tokens):
    planted = plant_outliers(parameters, 1, seed=1)
    plain, smooth = PEERS[0], PEERS[1]
    hurt = distance(plain, planted, tokens, SCHEMES["w8a8"])
    assert hurt > 1.5 * distance(plain, parameters, tokens, SCHEMES["w8a8"])
    assert distance(smooth, planted, tokens, SCHEMES["w8a8"]) < hurt


def test_the_command_compares_every_method(tmp_path, capsys):
    checkpoint, out = tmp_path / "net.safetensors", tmp_path / "peers.json"
    checkpoint.write_bytes(checkpoint_bytes(random_network(SHAPE, seed=3)))
    done = run(
        application, capsys, "--preset", "own", "--checkpoint", checkpoint, "--scheme", "w8a8-h",
        "--bytes", 4096, "--calibration-bytes", 2048, "--group", 4, "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["schemes"]["w8a8-h"]
    names = [peer.name for peer in PEERS]
    real = "ours, a real scale for 4 columns of a row"
    assert [row["method"] for row in rows] == [*names, real, OURS]
    assert all(name in done.stdout for name in (names[0], OURS))
    assert all(row["low"] <= row["high"] for row in rows)
