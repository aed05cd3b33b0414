"""The float weights of a frame network as NumPy arrays, which the quantizer rescales and rounds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.float_simulation import silu
from model.frames import OUTPUT_UNIT, FrameNetwork
from model.network_parameters import LayerParameters, NetworkParameters, layer_parameters
from model.rotation import random_rotation, rotate_residual

__all__ = ["FrameParameters", "extract_frame_parameters"]

Reals = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class FrameParameters:
    """A frame network in float64.

    Parameters
    ----------
    network : the blocks as a language model's; its "embedding" (F + T, d) holds the projection's
        columns and then the positions' biases, its "head" is the hidden layer (H, d)
    hidden_bias : (H,)
    head, head_bias : in the outputs' own unit, (V, H) and (V,)
    """

    network: NetworkParameters
    hidden_bias: Reals
    head: Reals
    head_bias: Reals

    @property
    def projection(self) -> Reals:
        """Weights (d, F) from features to the residual stream."""
        return self.network.embedding[: self._features].T

    @property
    def position(self) -> Reals:
        """Biases (T, d) of the positions in a frame."""
        return self.network.embedding[self._features :]

    @property
    def _features(self) -> int:
        """Number of features, F."""
        frame = self.network.shape.frame
        assert frame is not None  # it is a frame network's shape
        return frame.features

    def rotated(self, seed: int) -> FrameParameters:
        """Return the same function with a rotated residual stream; see :mod:`model.rotation`."""
        rotation = random_rotation(self.network.shape.d_model, seed)
        return dataclasses.replace(self, network=rotate_residual(self.network, rotation))

    def outputs(self, norm: Reals) -> tuple[Reals, Reals]:
        """Return hidden values (frames, H) and outputs (frames, V) of the norm (frames, d)."""
        hidden = silu(norm @ self.network.head.T + self.hidden_bias)
        return hidden, hidden @ self.head.T + self.head_bias


def extract_frame_parameters(network: FrameNetwork) -> FrameParameters:
    """Return the weights of ``network``, whose outputs' unit is folded into the head."""

    def array(tensor: Any) -> Reals:
        return np.asarray(tensor.detach().cpu().double().numpy())

    embedding = np.concatenate([array(network.embedding.weight).T, array(network.position)])
    layers: tuple[LayerParameters, ...] = tuple(
        layer_parameters(block.mixer, block.norm.weight) for block in network.blocks
    )
    return FrameParameters(
        network=NetworkParameters(
            shape=network.shape,
            embedding=embedding,
            layers=layers,
            final_norm_weight=array(network.norm_f.weight),
            head=array(network.hidden.weight),
        ),
        hidden_bias=array(network.hidden.bias),
        head=OUTPUT_UNIT * array(network.head.weight),
        head_bias=OUTPUT_UNIT * array(network.head.bias),
    )
