"""The gated MLP that a block may have behind its mixer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.bit_linear import linear_layer
from model.configuration import MambaConfiguration
from model.taps import Stage

__all__ = ["GatedMLP"]


class GatedMLP(nn.Module):
    """SwiGLU, ``mamba_ssm.modules.mlp.GatedMLP``: ``fc2(up SiLU(z))`` with ``[up, z] = fc1(x)``."""

    def __init__(self, configuration: MambaConfiguration, hidden: int) -> None:
        super().__init__()
        d, ternary = configuration.d_model, configuration.ternary
        self.fc1 = linear_layer(d, 2 * hidden, bias=False, ternary=ternary)
        self.fc2 = linear_layer(hidden, d, bias=False, ternary=ternary)
        with torch.no_grad():
            self.fc2.weight.div_(math.sqrt(configuration.residual_branches))

    def forward(self, x: Tensor, tap: Stage) -> Tensor:
        """Map (..., d) to (..., d)."""
        up, z = self.fc1(x).chunk(2, dim=-1)  # ... h
        gated = tap("mlp_gated", tap("up", up) * functional.silu(tap("mlp_z", z)))  # ... h
        return tap("mlp_out", self.fc2(gated))  # ... d
