"""Reading Mamba-2 checkpoints: ``state-spaces/mamba2-*`` in the original and Hugging Face naming.

Files, shards and precisions are those of :mod:`model.checkpoint`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from golden.errors import InputError
from model.checkpoint import check_tensors, expected_tensors, read_tensors, ties
from model.checkpoint_configuration import EMBEDDING, HEAD
from model.mamba2 import Mamba2LanguageModel
from model.mamba2_configuration import read_mamba2_configuration, shape_of_mamba2_tensors

__all__ = ["load_mamba2"]


def load_mamba2(path: str | Path) -> Mamba2LanguageModel:
    """Return the Mamba-2 model of a checkpoint, in evaluation mode, on the CPU, in float32.

    Parameters
    ----------
    path : as for :func:`model.checkpoint.load_checkpoint`; without a ``config.json`` beside the
        tensors one group is assumed

    Raises
    ------
    InputError
        One line that names the file, the tensor, what was found and expected, and the remedy.
    """
    content = read_tensors(Path(path))
    if not any(name.endswith("mixer.dt_bias") for name in content.tensors):
        raise InputError(f"{content.path} holds no Mamba-2 model; load it with load_checkpoint")
    beside = content.path.parent / "config.json"
    if beside.is_file():
        configuration, source = read_mamba2_configuration(beside), "config.json"
    else:
        configuration = shape_of_mamba2_tensors(content.path, content.tensors)
        source = "the other tensors"
    if not ties(content.tensors):
        configuration = dataclasses.replace(configuration, tie_embeddings=False)
    with torch.device("meta"):  # no memory and no random numbers for weights that get replaced
        single = Mamba2LanguageModel(dataclasses.replace(configuration, n_layer=1))
    tied, layers = configuration.tie_embeddings, configuration.n_layer
    check_tensors(content, expected_tensors(single, layers, tied=tied), tied=tied, source=source)
    with torch.device("meta"):
        model = Mamba2LanguageModel(configuration)
    tensors = dict(content.tensors)
    if tied:
        tensors[HEAD] = tensors[EMBEDDING]
    elif tensors[HEAD].data_ptr() == tensors[EMBEDDING].data_ptr():
        tensors[HEAD] = tensors[HEAD].clone()  # a pickle may share what the configuration does not
    model.load_state_dict(tensors, assign=True)
    if tied:
        model.lm_head.weight = model.backbone.embedding.weight
    return model.eval()
