"""Frame network: Mamba-1 blocks over the tokens of a frame, one vector of outputs a frame.

The float counterpart of the frame networks in :mod:`golden.program`: a linear embedding with a
learned bias a position, blocks of :mod:`model.mamba`, the mean of the residual stream over the
frame's tokens, RMSNorm, and a head with one hidden layer. Every frame starts from a zero state.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from golden.configuration import NetworkShape
from golden.errors import InputError
from model.configuration import MambaConfiguration
from model.mamba import MambaBlock, RMSNorm, ScanName
from model.state import MambaState
from model.taps import silent

__all__ = ["FrameNetwork", "frame_checkpoint_bytes", "load_frame_checkpoint"]

OUTPUT_UNIT = 0.25
"""The head's float outputs count in quarters: near one for labels in metres, folded exactly."""
FEATURE_LIMIT = 8.0
"""Features saturate here, as their integers do."""


class FrameNetwork(nn.Module):
    """Outputs (b, V) of frames (b, T, F).

    Parameters
    ----------
    shape : sizes, with a frame
    scan : as in :class:`model.mamba.MambaLanguageModel`
    dropout : probability of dropping an element of a block's output or of the hidden layer during
        training

    Raises
    ------
    ValueError
        If the shape has no frame with a hidden layer.
    """

    def __init__(
        self, shape: NetworkShape, *, scan: ScanName = "parallel", dropout: float = 0.0
    ) -> None:
        super().__init__()
        width = None if shape.frame is None else shape.frame.hidden
        if shape.frame is None or width is None:
            raise ValueError(
                "the shape has no frame with a hidden layer; language models are in model.mamba"
            )
        self.shape, self.frame = shape, shape.frame
        self.configuration = MambaConfiguration(
            vocab_size=shape.vocabulary,
            d_model=shape.d_model,
            n_layer=shape.n_layer,
            d_inner=shape.d_inner,
            d_state=shape.d_state,
            d_conv=shape.d_conv,
            dt_rank=shape.dt_rank,
        )
        self.embedding = nn.Linear(self.frame.features, shape.d_model, bias=False)
        self.position = nn.Parameter(torch.randn(self.frame.tokens, shape.d_model) * 0.1)
        self.layers = nn.ModuleList(
            MambaBlock(self.configuration, scan, dropout) for _ in range(shape.n_layer)
        )
        self.norm_f = RMSNorm(shape.d_model, self.configuration.rms_norm_eps)
        self.hidden = nn.Linear(shape.d_model, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, shape.vocabulary)

    @property
    def blocks(self) -> Iterator[MambaBlock]:
        """The layers in their order, with the type that ``ModuleList`` forgets."""
        for layer in self.layers:
            yield cast("MambaBlock", layer)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (b, T, F) to outputs (b, V)."""
        clipped = features.clamp(-FEATURE_LIMIT, FEATURE_LIMIT)
        residual = self.embedding(clipped) + self.position  # b T d
        state = MambaState.initial(
            self.configuration, len(features), device=residual.device, dtype=residual.dtype
        )
        for index, block in enumerate(self.blocks):
            residual = block(residual, state.convolution[index], state.ssm[index], silent)
        pooled = self.norm_f(residual.mean(dim=1))  # b d
        hidden = self.dropout(functional.silu(self.hidden(pooled)))  # b H
        return OUTPUT_UNIT * self.head(hidden)  # b V


def frame_checkpoint_bytes(network: FrameNetwork) -> bytes:
    """Return the content of a checkpoint file; the same weights give the same bytes."""
    tensors = {k: v.detach().float().cpu().contiguous() for k, v in network.state_dict().items()}
    shape = json.dumps(dataclasses.asdict(network.shape), sort_keys=True)
    return bytes(save(tensors, {"shape": shape}))


def load_frame_checkpoint(path: Path) -> FrameNetwork:
    """Read a checkpoint of :func:`frame_checkpoint_bytes`.

    Raises
    ------
    InputError
        If the file is missing, no such checkpoint, or has other tensors than its shape.
    """
    remedy = "train one: python -m model.train --preset mars --data FILE"
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})["shape"])
        shape = NetworkShape.of_fields(content)
        network = FrameNetwork(shape)
        network.load_state_dict(load_file(path))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is no frame network's checkpoint ({error}); {remedy}") from error
    for name, tensor in network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: {name} holds NaN or infinite weights; {remedy}")
    return network.eval()
