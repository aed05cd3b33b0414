"""Where networks and texts of the quantizing commands come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from golden.errors import InputError
from golden.presets import find_preset
from model.checkpoint import load_checkpoint
from model.corpus import Corpus, read_corpus
from model.frames import FrameNetwork, load_frame_checkpoint
from model.mamba import MambaLanguageModel
from model.network_parameters import random_network

CHECKPOINTS = Path(__file__).parent / "checkpoints"
BYTE_VALUES = 256
RANDOM_PRESETS = ("micro", "micro-mamba2")
"""Presets without a trained network: their weights are drawn from the seed."""


@dataclass(frozen=True)
class FloatSource:
    """A float network and what is recorded of its origin.

    Parameters
    ----------
    model : the network
    description : provenance, JSON values
    """

    model: MambaLanguageModel
    description: dict[str, object]


def find_network(preset: str, checkpoint: Path | None, seed: int) -> FloatSource:
    """Return the network of ``checkpoint``, or the preset's own.

    With a checkpoint the preset is just a name, and the shape is the checkpoint's.

    Raises
    ------
    InputError
        If the preset is unknown, has no trained network here, or the checkpoint is bad.
    """
    if checkpoint is None:
        shape = find_preset(preset)
        if shape.frame is not None:
            raise InputError(
                f"preset {preset} is a frame network, this command is for language models; "
                "name another preset"
            )
        if preset in RANDOM_PRESETS:
            torch.manual_seed(seed)
            return FloatSource(random_network(shape, seed), {"checkpoint": "random", "seed": seed})
        checkpoint = CHECKPOINTS / f"{preset}.safetensors"
        if not checkpoint.is_file():
            raise InputError(
                f"preset {preset} has no trained network at {checkpoint}; give --checkpoint"
            )
    model = load_checkpoint(checkpoint)
    source = checkpoint if checkpoint.is_file() else None
    digest = hashlib.sha256(source.read_bytes()).hexdigest() if source else "folder"
    return FloatSource(model, {"checkpoint": checkpoint.name, "checkpoint_sha256": digest})


@dataclass(frozen=True)
class FrameSource:
    """A float frame network and what is recorded of its origin, as in :class:`FloatSource`."""

    network: FrameNetwork
    description: dict[str, object]


def find_frame_network(preset: str, checkpoint: Path | None) -> FrameSource:
    """Return the frame network of ``checkpoint``, or the preset's own.

    Raises
    ------
    InputError
        If there is no such file or it is no frame network's checkpoint.
    """
    path = checkpoint or CHECKPOINTS / f"{preset}.safetensors"
    network = load_frame_checkpoint(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return FrameSource(network, {"checkpoint": path.name, "checkpoint_sha256": digest})


@dataclass(frozen=True)
class TokenSource:
    """Tokens to calibrate on, to choose by and to judge by.

    Parameters
    ----------
    train, validation, held_out : one stream each
    description : provenance, JSON values
    """

    train: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray
    description: dict[str, object]


def find_tokens(
    vocabulary: int, data: str, corpus_file: Path | None, seed: int, *, length: int
) -> TokenSource:
    """Return a corpus for byte models, else ``length`` uniformly drawn tokens for each part.

    A network with another vocabulary comes with its own tokenizer, which is not known here; random
    tokens still exercise every unit, and the provenance says so.
    """
    if vocabulary == BYTE_VALUES:
        corpus: Corpus = read_corpus(data, corpus_file)
        origin: dict[str, object] = {"data": corpus.name, "data_sha256": corpus.digest}
        return TokenSource(corpus.train, corpus.validation, corpus.held_out, origin)
    random = np.random.default_rng(seed)
    train, held_out, validation = (random.integers(0, vocabulary, length) for _ in range(3))
    description = {"data": "random tokens", "data_seed": seed}
    return TokenSource(train, validation, held_out, description)
