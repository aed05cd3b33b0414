"""The float model, its training and the quantizer that writes the integer program."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from model.mamba import MambaLanguageModel

__all__ = ["load_checkpoint"]


def load_checkpoint(path: str | Path) -> MambaLanguageModel:
    """Return the model of a checkpoint; see :func:`model.checkpoint.load_checkpoint`."""
    from model import checkpoint  # importing this package must not import torch

    return checkpoint.load_checkpoint(path)
