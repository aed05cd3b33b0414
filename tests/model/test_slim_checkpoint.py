"""Checkpoints of positioning networks: the sources' own, the project's, and what is refused."""

import math

import pytest
import torch

from golden.errors import InputError
from model.slim import SlimNetwork
from model.slim_checkpoint import load_slim_checkpoint, slim_checkpoint_bytes
from model.slim_configuration import SlimConfiguration
from tests.model.test_slim import CASES, network_of, windows_of


def source_checkpoint(path, case, change=None):
    """Write what the sources' training writes; return the network whose weights are in it."""
    network = network_of(CASES[case], seed=5)
    c = network.configuration
    weights = network.state_dict()
    shapes = {
        "backbone.output_layer_flat.weight": (c.projection, c.d_model, c.tokens),
        "backbone.output_layer_flat.bias": (c.projection,),
        "backbone.output_layer_pool.conv.weight": (c.projection, c.d_model, 1),
        "backbone.output_layer_pool.conv.bias": (c.projection,),
    }
    for name, shape in shapes.items():
        weights.setdefault(name, torch.zeros(shape))
    content = {
        "state_dict": weights,
        "cfg": {
            "Din": c.features, "K": c.window, "proj_dim": c.projection, "d_model": c.d_model,
            "n_layer": c.n_layer, "patch_len": c.patch, "stride": c.stride, "lr": 1e-3,
            "train_root": None,
        },
        "arch": {
            "use_dwconv": bool(c.d_conv), "pe_off": c.position_scale == 0.0,
            "pe_scale": c.position_scale, "gate_off": not c.gate,
            "agg_pool": {"flat": "", "mean": "avg", "max": "max"}[c.head],
        },
        "epoch": 3,
    }  # fmt: skip
    if change:
        change(content)
    torch.save(content, path)
    return network


@pytest.mark.parametrize("case", CASES)
def test_source_checkpoints_load_and_round_trip(case, tmp_path):
    network = source_checkpoint(tmp_path / "best.pt", case)
    features = windows_of(network.configuration)
    loaded = load_slim_checkpoint(tmp_path / "best.pt")
    assert loaded.configuration == network.configuration
    with torch.no_grad():
        assert torch.equal(loaded(features), network(features))
    own = tmp_path / "own.safetensors"
    own.write_bytes(slim_checkpoint_bytes(loaded))
    again = load_slim_checkpoint(own)
    assert slim_checkpoint_bytes(again) == own.read_bytes()
    with torch.no_grad():
        assert torch.equal(again(features), network(features))


def test_tensor_names_and_shapes_are_those_of_the_requirements():
    shape = SlimConfiguration(d_model=128, d_inner=256, n_layer=4, d_conv=4)
    with torch.device("meta"):
        flat = {k: tuple(v.shape) for k, v in SlimNetwork(shape).state_dict().items()}
    block = {
        "norm.weight": (128,), "in_proj.conv.weight": (512, 128, 1), "dw_conv.weight": (256, 1, 5),
        "dw_conv.bias": (256,), "ssm.dt_proj.weight": (256, 256, 1), "ssm.dt_proj.bias": (256,),
        "out_proj.conv.weight": (128, 256, 1),
    }  # fmt: skip
    assert flat == {
        "proj.conv.weight": (64, 2100, 1), "proj.conv.bias": (64,),
        "backbone.patch_embedding.conv.weight": (128, 64, 8),
        "backbone.patch_embedding.conv.bias": (128,), "backbone.norm_f.weight": (128,),
        "backbone.output_layer_flat.weight": (64, 128, 3),
        "backbone.output_layer_flat.bias": (64,),
        "head.conv.weight": (2, 64, 1), "head.conv.bias": (2,),
        **{f"backbone.blocks.{i}.{k}": v for i in range(4) for k, v in block.items()},
    }  # fmt: skip


def drop_arch(content):
    del content["arch"]


def drop_tensor(content):
    del content["state_dict"]["head.conv.bias"]


def spoil_tensor(content):
    content["state_dict"]["head.conv.bias"][0] = math.nan


def misshape(content):
    content["cfg"]["d_model"] = 9


def rename_pool(content):
    content["arch"]["agg_pool"] = "sum"


def add_tensor(content):
    content["state_dict"]["backbone.blocks.0.conv1d.weight"] = torch.zeros(1)


def drop_size(content):
    del content["cfg"]["K"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_arch, "has no dictionaries state_dict, cfg, arch"),
        (drop_tensor, "tensor head.conv.bias of shape (2,) is missing"),
        (spoil_tensor, "head.conv.bias holds NaN"),
        (misshape, "has shape (8, 6, 8), its sizes ask for (9, 6, 8)"),
        (rename_pool, "agg_pool is 'sum'"),
        (add_tensor, "1 unexpected tensors, the first is backbone.blocks.0.conv1d.weight"),
        (drop_size, "'K'"),
    ],
)
def test_bad_source_checkpoints_end_in_one_line(change, words, tmp_path):
    source_checkpoint(tmp_path / "best.pt", "plain", change)
    with pytest.raises(InputError) as caught:
        load_slim_checkpoint(tmp_path / "best.pt")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_in_a_pickle_does_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (print, ("harm",))

    torch.save({"state_dict": Harm(), "cfg": {}, "arch": {}}, tmp_path / "harm.pt")
    with pytest.raises(InputError, match="cannot be read"):
        load_slim_checkpoint(tmp_path / "harm.pt")


@pytest.mark.parametrize("name", ["absent.pt", "other.txt", "other.safetensors"])
def test_what_is_no_checkpoint_is_refused(name, tmp_path):
    if name.startswith("other"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(InputError, match="no checkpoint"):
        load_slim_checkpoint(tmp_path / name)
