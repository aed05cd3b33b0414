"""Mamba-2: logits against transformers, chunked scan against steps, and what bad files get."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from golden.errors import InputError
from model.checkpoint import checkpoint_bytes, load_checkpoint
from model.configuration import Mamba2Configuration, configuration_from_fields
from model.mamba import MambaLanguageModel
from model.ssd import chunked_scan, sequential_scan

PEER = Path(__file__).with_name("peer_mamba2.py")

# Of the largest logit where that exceeds 1: float32 sums in another order.
TOLERANCE = 1e-5

BASE = {
    "vocab": 256, "d": 16, "n": 8, "heads": 4, "p": 8, "groups": 1, "layers": 2, "eps": 1e-5,
    "expand": 2, "k": 4, "bias": False, "conv_bias": True, "limit": ["0", "inf"], "tie": True,
    "seed": 1, "batch": 2, "length": 70, "chunk": 16, "pad": 8, "original": ".bin", "spread": 0.1,
    "noise": 0.05,
}  # fmt: skip
CASES = {
    "one group": BASE,
    "two groups": BASE | {"groups": 2, "original": ".safetensors"},
    "a group a head": BASE | {"groups": 4, "length": 37},
    "odd": BASE
    | {"vocab": 61, "pad": 61, "d": 18, "heads": 9, "p": 6, "groups": 3, "expand": 3, "n": 5}
    | {"k": 3, "bias": True, "conv_bias": False, "tie": False, "length": 1},
    "low limit": BASE | {"limit": ["0.5", "inf"]},
    "high limit": BASE | {"limit": ["0", "0.05"]},
    "both limits": BASE | {"limit": ["0.02", "0.3"], "groups": 2},
    "epsilon": BASE | {"eps": 1e-2},
}
# The original naming's config.json has no field for epsilon: it is 1e-5 there.
PAIRS = [(case, naming) for case in CASES for naming in ("hf", "original")
         if (case, naming) != ("epsilon", "original")]  # fmt: skip
TRUE_130M = {
    "vocab": 50288, "d": 768, "n": 128, "heads": 24, "p": 64, "layers": 2, "batch": 1,
    "length": 24, "pad": 16, "chunk": 256,
}  # fmt: skip


def run_peer(folder, cases):
    command = [sys.executable, "-W", "ignore", str(PEER), str(folder), json.dumps(cases)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert outcome.returncode == 0, outcome.stderr[-2000:]


def largest_difference(checkpoint, expected):
    wanted = load_file(expected)
    with torch.no_grad():
        logits = load_checkpoint(checkpoint)(wanted["tokens"])  # b l v
    assert logits.shape == wanted["logits"].shape
    scale = max(1.0, float(wanted["logits"].abs().max()))
    return float((logits - wanted["logits"]).abs().max()) / scale


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peer2")
    run_peer(folder, list(CASES.values()))
    return {name: folder / str(position) for position, name in enumerate(CASES)}


@pytest.mark.parametrize(("case", "naming"), PAIRS)
def test_logits_equal_those_of_transformers(peer, case, naming):
    folder = peer[case]
    assert largest_difference(folder / naming, folder / "expected.safetensors") <= TOLERANCE


def test_the_limits_of_the_step_matter(peer):
    plain, low, high = (
        load_file(peer[case] / "expected.safetensors")["logits"]
        for case in ("one group", "low limit", "high limit")
    )
    assert (plain - low).abs().max() > 1e-3
    assert (plain - high).abs().max() > 1e-3


def test_the_shape_is_inferred_without_a_configuration(peer, tmp_path):
    alone = tmp_path / "renamed.bin"
    alone.write_bytes((peer["one group"] / "original" / "pytorch_model.bin").read_bytes())
    expected = peer["one group"] / "expected.safetensors"
    assert largest_difference(alone, expected) <= TOLERANCE


@pytest.mark.slow
def test_logits_of_two_layers_of_the_mamba2_130m_shape(tmp_path):
    run_peer(tmp_path, [BASE | TRUE_130M | {"spread": 0.02, "noise": 0.0}])
    expected = tmp_path / "0" / "expected.safetensors"
    for naming in ("original", "hf"):
        assert largest_difference(tmp_path / "0" / naming, expected) <= TOLERANCE


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_chunks_equal_steps(length, groups):
    random = torch.Generator().manual_seed(length)

    def draw(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    x, delta = draw(2, length, 6, 5), draw(2, length, 6).exp()
    b, c = draw(2, length, groups, 4), draw(2, length, groups, 4)
    transition, start = -draw(6).exp(), draw(2, 6, 5, 4)
    arguments = (x, delta, transition, b, c, start)
    for found, wanted in zip(chunked_scan(*arguments), sequential_scan(*arguments), strict=True):
        assert torch.allclose(found, wanted, rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return MambaLanguageModel(
        Mamba2Configuration(
            vocab_size=50, d_model=12, n_layer=2, d_inner=24, d_state=5, head_dim=4, n_groups=2,
            dt_limit=(0.01, 0.5),
        )
    ).eval()  # fmt: skip


def test_every_chunking_gives_the_same_logits(network):
    tokens = torch.randint(50, (2, 90), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = network(tokens)
        state = network.initial_state(2)
        parts = [network(tokens[:, :7], state), network(tokens[:, 7:80], state)]
        parts += [network.step(tokens[:, t], state)[:, None] for t in range(80, 90)]
        assert torch.allclose(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-5)
        kept = state.clone()
        state.reset()
        assert torch.equal(network(tokens[:, :5], state), network(tokens[:, :5]))
        assert kept.ssm.abs().max() > 0


def test_gradients_reach_every_weight(network):
    network(torch.arange(40)[None]).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    network.zero_grad()


def write(folder, network, fields=None):
    tensors = {k: v.detach().clone() for k, v in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    if fields is not None:
        (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")


SSM = {"layer": "Mamba2", "d_state": 5, "headdim": 4, "ngroups": 2, "dt_limit": [0.01, 0.5]}
FIELDS = {
    "d_model": 12, "n_layer": 2, "vocab_size": 50, "pad_vocab_size_multiple": 1, "ssm_cfg": SSM,
    "tie_embeddings": False,
}  # fmt: skip


def test_a_checkpoint_of_its_own_returns(network, tmp_path):
    write(tmp_path, network, FIELDS)
    loaded = load_checkpoint(tmp_path)
    assert loaded.configuration == network.configuration
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(loaded(tokens), network(tokens))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (FIELDS | {"ssm_cfg": SSM | {"headdim": 5}}, "d_inner is 24, no multiple of head_dim 5"),
        (FIELDS | {"ssm_cfg": SSM | {"ngroups": 4}}, "n_groups is 4, no divisor of 6 heads"),
        (FIELDS | {"ssm_cfg": SSM | {"dt_limit": [2, 1]}}, "dt_limit is (2.0, 1.0)"),
        (FIELDS | {"ssm_cfg": SSM | {"norm_before_gate": True}}, "norm_before_gate is True"),
        (FIELDS | {"ssm_cfg": SSM | {"heads": 3}}, "unknown field 'heads'"),
        (FIELDS | {"attn_layer_idx": [1]}, "attn_layer_idx is [1]"),
        (FIELDS | {"n_layer": 3}, "backbone.layers.2.norm.weight is missing"),
        (FIELDS | {"n_layer": 1}, "unexpected"),
        ({"n_layer": 1}, "lacks the field 'vocab_size'"),
        ({"hidden_size": 12, "vocab_size": 50, "num_heads": 5}, "num_heads is 5"),
    ],
)
def test_wrong_configurations_are_one_line(network, tmp_path, fields, words):
    write(tmp_path, network, fields)
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_checkpoint_of_a_trained_network_carries_its_configuration(network, tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(checkpoint_bytes(network))
    assert load_checkpoint(path).configuration == network.configuration
    unlimited = dataclasses.replace(network.configuration, dt_limit=(0.0, math.inf))
    assert "Infinity" not in unlimited.to_json()
    assert configuration_from_fields(json.loads(unlimited.to_json())) == unlimited


def test_a_configuration_of_the_other_family_is_refused(network, tmp_path):
    write(tmp_path, network, {"model_type": "mamba", "hidden_size": 12, "vocab_size": 50})
    with pytest.raises(InputError, match=r"config\.json"):
        load_checkpoint(tmp_path)


def test_triton_is_the_scan_of_mamba1(network):
    with pytest.raises(ValueError, match="parallel and sequential"):
        MambaLanguageModel(network.configuration, scan="triton")


def test_sizes_are_checked():
    good = Mamba2Configuration(vocab_size=4, d_model=8, n_layer=1, d_inner=16, head_dim=4)
    assert good.dt_limit == (0.0, math.inf)
    assert (good.heads, good.convolved) == (4, 16 + 256)
    for field, value in (("d_state", 0), ("rms_norm_eps", 2.0)):
        with pytest.raises(ValueError, match=field):
            dataclasses.replace(good, **{field: value})
    with pytest.raises(TypeError, match="d_model"):
        dataclasses.replace(good, d_model=1.5)
