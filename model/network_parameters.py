"""The float network's weights as NumPy arrays, which the quantizer rescales and rounds.

Shapes follow :class:`golden.configuration.NetworkShape`: V, D, E, N, K, R are vocabulary, d_model,
d_inner, d_state, d_conv and dt_rank.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.operations.normalization import NORM_EPSILON
from model.bit_linear import weight_of
from model.configuration import Configuration, MambaConfiguration
from model.mamba import MambaLanguageModel, MambaMixer
from model.mamba2 import Mamba2Mixer

__all__ = ["LayerParameters", "NetworkParameters", "extract_parameters", "random_network"]

Reals = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class LayerParameters:
    """One block in float64.

    Members
    -------
    norm_weight : (d,)
    in_proj : rows of x, then of z, (2e, d)
    taps, taps_bias : depthwise convolution, oldest tap first, (e, K) and (e,)
    x_proj : rows of dt, B, C, (r + 2n, e)
    dt_proj, dt_bias : (e, r) and (e,)
    rate : ``-A``, positive, (e, n)
    skip : D of the Mamba paper, (e,)
    out_proj : (d, e)
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


@dataclass(frozen=True, kw_only=True)
class NetworkParameters:
    """A whole network in float64: embedding and head (V, d), final norm weight (d,)."""

    shape: NetworkShape
    embedding: Reals
    layers: tuple[LayerParameters, ...]
    final_norm_weight: Reals
    head: Reals

    def with_layer(self, index: int, layer: LayerParameters) -> NetworkParameters:
        """Return a copy whose layer ``index`` is ``layer``."""
        layers = (*self.layers[:index], layer, *self.layers[index + 1 :])
        return dataclasses.replace(self, layers=layers)


def _array(tensor: torch.Tensor) -> Reals:
    return tensor.detach().cpu().double().numpy()


def layer_parameters(mixer: MambaMixer | Mamba2Mixer, norm_weight: torch.Tensor) -> LayerParameters:
    assert isinstance(mixer, MambaMixer)  # _shape refuses others
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


def _shape(configuration: Configuration) -> NetworkShape:
    """Return the golden shape; refuse what the integer program has no place for."""
    if not isinstance(configuration, MambaConfiguration):
        raise InputError(
            "the checkpoint is a Mamba-2 model, only Mamba-1 becomes an integer program; "
            "quantize a Mamba-1 checkpoint"
        )
    if configuration.d_intermediate is not None:
        raise InputError(
            "the checkpoint has an MLP behind each mixer (d_intermediate), which model.quantize "
            "does not write yet; train without"
        )
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
        dt_rank=configuration.dt_rank,
        n_layer=configuration.n_layer,
    )


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
    backbone = model.backbone
    return NetworkParameters(
        shape=shape,
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
    configuration = MambaConfiguration(
        vocab_size=shape.vocabulary,
        d_model=shape.d_model,
        n_layer=shape.n_layer,
        d_inner=shape.d_inner,
        d_state=shape.d_state,
        d_conv=shape.d_conv,
        dt_rank=shape.dt_rank,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MambaLanguageModel(configuration).eval()
        with torch.no_grad():
            model.backbone.embedding.weight.normal_()
            model.lm_head.weight.normal_(std=shape.d_model**-0.5)
    return model
