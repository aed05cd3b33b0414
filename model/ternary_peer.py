"""The peer of ternary programs: BitNet's weights, and activations in floating point.

A weight of a projection is ``gamma round(clamp(W / gamma, -1, 1))`` with ``gamma = mean |W|`` of
its matrix (Ma et al. 2024, BitNet b1.58); the gradient passes the rounding unchanged. Nothing else
is rounded, so that what a ternary program loses beyond this peer is the price of its integer
activations, its scan and its scales, which are powers of two.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from model.mamba import MambaLanguageModel
from model.straight_through import exact_with_gradient_of

__all__ = ["rounded", "with_ternary_weights"]

_PROJECTIONS = ("in_proj", "x_proj", "dt_proj", "out_proj")
_EPSILON = 1e-8


class _Ternary(nn.Module):
    """Maps a matrix (rows, columns) to its ternary one, times gamma."""

    def forward(self, weight: Tensor) -> Tensor:
        gamma = weight.detach().abs().mean().clamp(min=_EPSILON)
        exact = (weight.detach() / gamma).clamp(-1.0, 1.0).round() * gamma
        return exact_with_gradient_of(weight, exact)


def with_ternary_weights(network: MambaLanguageModel) -> MambaLanguageModel:
    """Return a copy whose projections are ternary in every pass, trainable behind the rounding."""
    peer = copy.deepcopy(network)
    for name, module in peer.named_modules():
        if isinstance(module, nn.Linear) and name.split(".")[-1] in _PROJECTIONS:
            parametrize.register_parametrization(module, "weight", _Ternary())
    return peer


@torch.no_grad()
def rounded(peer: MambaLanguageModel) -> MambaLanguageModel:
    """Return a plain network with the peer's ternary weights times gamma."""
    plain = MambaLanguageModel(peer.configuration)
    for name, parameter in plain.named_parameters():
        module, _, own = name.rpartition(".")
        parameter.copy_(getattr(peer.get_submodule(module), own))
    return plain
