"""Checkpoints, tokens and logits from ``transformers.Mamba2ForCausalLM``, written for the tests.

Run as a program of its own, ``python peer_mamba2.py FOLDER CASES``: transformers picks its kernels
from the modules that happen to be loaded. ``CASES`` is a JSON list; each case gets a folder with
``hf/`` and ``original/`` checkpoints and ``expected.safetensors``.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Mamba2Config, Mamba2ForCausalLM


def build(case: dict) -> Mamba2ForCausalLM:
    """A model with every field of the configuration set, and noise on every initial tensor."""
    config = Mamba2Config(
        vocab_size=case["vocab"], hidden_size=case["d"], state_size=case["n"],
        num_heads=case["heads"], head_dim=case["p"], n_groups=case["groups"],
        num_hidden_layers=case["layers"], layer_norm_epsilon=case["eps"], pad_token_id=0,
        bos_token_id=0, eos_token_id=0, expand=case["expand"], conv_kernel=case["k"],
        use_bias=case["bias"], use_conv_bias=case["conv_bias"], hidden_act="silu",
        initializer_range=case["spread"], residual_in_fp32=True, time_step_rank=4,
        time_step_min=0.001, time_step_max=0.1, time_step_floor=1e-4,
        time_step_limit=(float(case["limit"][0]), float(case["limit"][1])),
        rescale_prenorm_residual=True, use_cache=False, chunk_size=case["chunk"],
        tie_word_embeddings=case["tie"],
    )  # fmt: skip
    torch.manual_seed(case["seed"])
    network = Mamba2ForCausalLM(config).float().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=case["noise"])
    return network


def original_tensors(network: Mamba2ForCausalLM) -> dict[str, torch.Tensor]:
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    tensors["backbone.embedding.weight"] = tensors.pop("backbone.embeddings.weight")
    return tensors


def original_configuration(case: dict) -> dict:
    """The ``config.json`` of a ``state-spaces`` checkpoint: its vocabulary is not yet padded."""
    ssm = {
        "layer": "Mamba2", "d_state": case["n"], "d_conv": case["k"], "expand": case["expand"],
        "headdim": case["p"], "ngroups": case["groups"], "bias": case["bias"],
        "conv_bias": case["conv_bias"], "dt_limit": [float(bound) for bound in case["limit"]],
    }  # fmt: skip
    return {
        "d_model": case["d"], "d_intermediate": 0, "n_layer": case["layers"],
        "vocab_size": case["vocab"] - 3, "pad_vocab_size_multiple": case["pad"], "ssm_cfg": ssm,
        "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": True, "residual_in_fp32": True,
        "fused_add_norm": True, "tie_embeddings": case["tie"],
    }  # fmt: skip


def write(case: dict, folder: Path) -> None:
    network = build(case)
    tokens = torch.randint(case["vocab"], (case["batch"], case["length"]))  # b l
    with torch.no_grad():
        logits = network(tokens).logits  # b l v
    original = folder / "original"
    original.mkdir(parents=True)
    tensors = original_tensors(network)
    if case["original"] == ".bin":
        torch.save(tensors, original / "pytorch_model.bin")
    else:
        save_file(tensors, original / "model.safetensors")
    text = json.dumps(original_configuration(case))
    (original / "config.json").write_text(text, encoding="utf-8")
    network.save_pretrained(folder / "hf")
    save_file({"tokens": tokens, "logits": logits}, folder / "expected.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for position, chosen in enumerate(json.loads(sys.argv[2])):
        write(chosen, Path(sys.argv[1]) / str(position))
