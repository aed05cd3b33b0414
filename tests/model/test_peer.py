"""Logits of imported checkpoints against transformers, which runs in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model import load_checkpoint

PEER = Path(__file__).with_name("peer_mamba.py")

# Of the largest logit where that exceeds 1: float32 sums in another order.
TOLERANCE = 1e-5

BASE = {
    "vocab": 256, "d": 16, "n": 4, "layers": 1, "eps": 1e-5, "expand": 2, "k": 4, "r": 2,
    "bias": False, "conv_bias": True, "tie": True, "seed": 1, "batch": 2, "length": 40, "pad": 8,
    "original": ".bin", "shard": None, "spread": 0.1, "noise": 0.05,
}  # fmt: skip
MAMBA_130M = {"vocab": 50280, "d": 768, "n": 16, "r": "auto", "batch": 1, "length": 12}
CASES = {
    "micro": BASE,
    "odd": BASE
    | {"vocab": 61, "d": 24, "n": 5, "layers": 3, "expand": 3, "k": 3, "r": 7}
    | {"bias": True, "conv_bias": False, "tie": False, "batch": 3, "length": 37, "pad": 61}
    | {"original": ".safetensors", "shard": "10KB"},
    "prime": BASE
    | {"vocab": 97, "d": 13, "n": 3, "layers": 2, "expand": 1, "k": 2, "r": 1, "length": 67}
    | {"pad": 97, "tie": False},
    "epsilon": BASE | {"eps": 1e-2},
    "one token": BASE | {"d": 20, "n": 7, "r": "auto", "batch": 1, "length": 1},
    "mamba-130m, two layers": BASE | MAMBA_130M | {"layers": 2},
}

# The original naming's config.json has no field for epsilon: it is 1e-5 there.
PAIRS = [(case, "hf") for case in CASES] + [
    (case, "original") for case in CASES if case != "epsilon"
]


def run_peer(folder: Path, cases: list[dict]) -> None:
    command = [sys.executable, "-W", "ignore", str(PEER), str(folder), json.dumps(cases)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert outcome.returncode == 0, outcome.stderr[-2000:]


def largest_difference(checkpoint: Path, expected: Path) -> float:
    """Largest logit difference, relative to the largest logit where that exceeds 1."""
    wanted = load_file(expected)
    with torch.no_grad():
        logits = load_checkpoint(checkpoint)(wanted["tokens"])  # b l v
    assert logits.shape == wanted["logits"].shape
    scale = max(1.0, float(wanted["logits"].abs().max()))
    return float((logits - wanted["logits"]).abs().max()) / scale


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peer")
    run_peer(folder, list(CASES.values()))
    return {name: folder / str(position) for position, name in enumerate(CASES)}


@pytest.mark.parametrize(("case", "naming"), PAIRS)
def test_logits_equal_those_of_transformers(peer, case, naming):
    folder = peer[case]
    assert largest_difference(folder / naming, folder / "expected.safetensors") <= TOLERANCE


def test_the_sharded_case_is_sharded(peer):
    assert (peer["odd"] / "hf" / "model.safetensors.index.json").is_file()


def test_the_shape_is_inferred_without_a_configuration(peer, tmp_path):
    folder = peer["prime"]
    alone = tmp_path / "renamed.bin"
    alone.write_bytes((folder / "original" / "pytorch_model.bin").read_bytes())
    assert largest_difference(alone, folder / "expected.safetensors") <= TOLERANCE


@pytest.mark.slow
def test_logits_of_the_full_mamba_130m_shape(tmp_path):
    # The official initialization. With transformers' own spread of 0.1 the random network is
    # chaotic: noise of 1e-7 on the embedding then moves the peer's own logits by 4e-3.
    official = {"spread": 0.02, "noise": 0.0}
    run_peer(tmp_path, [BASE | MAMBA_130M | official | {"layers": 24, "length": 48}])
    expected = tmp_path / "0" / "expected.safetensors"
    for naming in ("original", "hf"):
        assert largest_difference(tmp_path / "0" / naming, expected) <= TOLERANCE
