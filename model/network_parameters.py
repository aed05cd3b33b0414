"""The float network's weights as NumPy arrays, which the quantizer rescales and rounds.

Shapes follow :class:`golden.configuration.NetworkShape`: V, D, E, N, K, R are vocabulary, d_model,
d_inner, d_state, d_conv and dt_rank.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from golden.configuration import HeadShape, NetworkShape
from golden.errors import InputError
from golden.operations.normalization import NORM_EPSILON
from model.bit_linear import BitLinear, weight_of
from model.configuration import Configuration, Mamba2Configuration, MambaConfiguration
from model.gated_mlp import GatedMLP
from model.mamba import MambaLanguageModel, MambaMixer
from model.mamba2 import Mamba2Mixer

__all__ = [
    "LayerParameters", "MLPParameters", "NetworkParameters", "extract_parameters",
    "random_network",
]  # fmt: skip

Reals = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class LayerParameters:
    """One block in float64.

    Members
    -------
    norm_weight : (d,)
    in_proj : rows of x, with heads of B, C and dt, then of z, (.., d)
    taps, taps_bias : depthwise convolution, oldest tap first, (c, K) and (c,)
    x_proj : rows of dt, B, C, (r + 2n, e); none with heads
    dt_proj : (e, r); none with heads
    dt_bias : one a step size
    rate : ``-A``, positive, (e, n), with heads (h, 1)
    skip : D of the Mamba paper, (e,)
    out_proj : (d, e)
    gate_norm_weight : of the gated norm, (e,); None without heads
    dt_limit : what step sizes are clamped to
    """

    norm_weight: Reals
    in_proj: Reals
    taps: Reals
    taps_bias: Reals
    x_proj: Reals
    dt_proj: Reals
    dt_bias: Reals
    rate: Reals
    skip: Reals
    out_proj: Reals
    gate_norm_weight: Reals | None = None
    dt_limit: tuple[float, float] = (0.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class MLPParameters:
    """The MLP behind one mixer in float64: norm_weight (d,), gate and up (m, d), down (d, m)."""

    norm_weight: Reals
    gate: Reals
    up: Reals
    down: Reals


@dataclass(frozen=True, kw_only=True)
class NetworkParameters:
    """A whole network in float64.

    Members
    -------
    embedding, head : (V, d)
    layers : the mixers
    final_norm_weight : (d,)
    mlps : the MLP behind each mixer; None if the shape has none
    ternary : whether the blocks' matrices were trained as ternary ones, which quantizing keeps
    """

    shape: NetworkShape
    embedding: Reals
    layers: tuple[LayerParameters, ...]
    final_norm_weight: Reals
    head: Reals
    mlps: tuple[MLPParameters, ...] | None = None
    ternary: bool = False

    def with_layer(self, index: int, layer: LayerParameters) -> NetworkParameters:
        """Return a copy whose layer ``index`` is ``layer``."""
        layers = (*self.layers[:index], layer, *self.layers[index + 1 :])
        return dataclasses.replace(self, layers=layers)


def _array(tensor: torch.Tensor) -> Reals:
    return tensor.detach().cpu().double().numpy()


def _head_parameters(mixer: Mamba2Mixer, norm_weight: torch.Tensor) -> LayerParameters:
    """Return a Mamba-2 block; its in_proj has z first in checkpoints and last here."""
    configuration, bias = mixer.configuration, mixer.conv1d.bias
    taps = _array(mixer.conv1d.weight)[:, 0]  # c K
    e = configuration.d_inner
    return LayerParameters(
        norm_weight=_array(norm_weight),
        in_proj=np.roll(_array(mixer.in_proj.weight), -e, axis=0),
        taps=taps,
        taps_bias=np.zeros(len(taps)) if bias is None else _array(bias),
        x_proj=np.zeros((0, e)),
        dt_proj=np.zeros((e, 0)),
        dt_bias=_array(mixer.dt_bias),
        rate=np.exp(_array(mixer.A_log))[:, None],
        skip=np.repeat(_array(mixer.D), configuration.head_dim),
        out_proj=_array(mixer.out_proj.weight),
        gate_norm_weight=_array(mixer.norm.weight),
        dt_limit=configuration.dt_limit,
    )


def layer_parameters(mixer: MambaMixer | Mamba2Mixer, norm_weight: torch.Tensor) -> LayerParameters:
    """Return one block's weights."""
    if isinstance(mixer, Mamba2Mixer):
        return _head_parameters(mixer, norm_weight)
    bias = mixer.conv1d.bias
    taps = _array(mixer.conv1d.weight)[:, 0]  # e K
    return LayerParameters(
        norm_weight=_array(norm_weight),
        in_proj=_array(weight_of(mixer.in_proj)),
        taps=taps,
        taps_bias=np.zeros(len(taps)) if bias is None else _array(bias),
        x_proj=_array(weight_of(mixer.x_proj)),
        dt_proj=_array(weight_of(mixer.dt_proj)),
        dt_bias=_array(mixer.dt_proj.bias),
        rate=-_array(mixer.transition()),
        skip=_array(mixer.D),
        out_proj=_array(weight_of(mixer.out_proj)),
    )


def _mlp_parameters(mlp: GatedMLP, norm_weight: torch.Tensor) -> MLPParameters:
    up, gate = _array(weight_of(mlp.fc1)).reshape(2, -1, mlp.fc1.in_features)
    return MLPParameters(
        norm_weight=_array(norm_weight), gate=gate, up=up, down=_array(weight_of(mlp.fc2))
    )


def _shape(configuration: Configuration) -> NetworkShape:
    """Return the golden shape; refuse what the integer program has no place for."""
    if configuration.use_bias:
        raise InputError(
            "the checkpoint has biases in in_proj and out_proj (use_bias); the integer program "
            "has none there, train without them"
        )
    if configuration.rms_norm_eps != NORM_EPSILON:
        raise InputError(
            f"the checkpoint's rms_norm_eps is {configuration.rms_norm_eps}, the integer program's "
            f"is {NORM_EPSILON}; train with that"
        )
    return NetworkShape(
        vocabulary=configuration.vocab_size,
        d_model=configuration.d_model,
        d_inner=configuration.d_inner,
        d_state=configuration.d_state,
        d_conv=configuration.d_conv,
        n_layer=configuration.n_layer,
        dt_rank=configuration.dt_rank if isinstance(configuration, MambaConfiguration) else 0,
        heads=None
        if isinstance(configuration, MambaConfiguration)
        else HeadShape(size=configuration.head_dim, groups=configuration.n_groups),
        mlp=configuration.d_intermediate if isinstance(configuration, MambaConfiguration) else None,
    )


def _configuration(shape: NetworkShape) -> Configuration:
    """Return the float network's configuration of a golden shape."""
    sizes: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "d_model": shape.d_model,
        "n_layer": shape.n_layer,
        "d_inner": shape.d_inner,
        "d_state": shape.d_state,
        "d_conv": shape.d_conv,
    }
    if shape.heads is None:
        return MambaConfiguration(**sizes, dt_rank=shape.dt_rank, d_intermediate=shape.mlp)
    return Mamba2Configuration(**sizes, head_dim=shape.heads.size, n_groups=shape.heads.groups)


def extract_parameters(model: MambaLanguageModel) -> NetworkParameters:
    """Return the weights of ``model``, tied head included.

    Raises
    ------
    InputError
        If a weight is NaN or infinite, or the configuration has parts that the integer program
        lacks; the message names the tensor.
    """
    shape = _shape(model.configuration)
    for name, tensor in model.state_dict().items():
        broken = int((~torch.isfinite(tensor)).sum())
        if broken:
            raise InputError(
                f"{name} holds {broken} NaN or infinite weights; train again or repair the file"
            )
    backbone, mlps = model.backbone, None
    if shape.mlp is not None:
        mlps = tuple(
            _mlp_parameters(block.mlp, block.norm2.weight)
            for block in backbone.blocks
            if block.mlp is not None
        )
    return NetworkParameters(
        shape=shape,
        mlps=mlps,
        ternary=any(isinstance(part, BitLinear) for part in backbone.modules()),
        embedding=_array(backbone.embedding.weight),
        layers=tuple(layer_parameters(block.mixer, block.norm.weight) for block in backbone.blocks),
        final_norm_weight=_array(backbone.norm_f.weight),
        head=_array(model.lm_head.weight),
    )


def random_network(shape: NetworkShape, seed: int) -> MambaLanguageModel:
    """Return an untrained network with Mamba's initialization; the seed decides every weight.

    The embedding's deviation is one and the head's rows have unit norm, where the official 0.02
    and uniform ones would leave logits that round to nothing.
    """
    configuration = _configuration(shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MambaLanguageModel(configuration).eval()
        with torch.no_grad():
            model.backbone.embedding.weight.normal_()
            model.lm_head.weight.normal_(std=shape.d_model**-0.5)
    return model
