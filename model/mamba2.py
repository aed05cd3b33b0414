"""Mamba-2 language model: forward over whole sequences and one token at a time.

The arithmetic is that of ``mamba_ssm`` (``Mamba2``, ``Block``, ``MambaLMHeadModel``) and of
``transformers.Mamba2ForCausalLM``; parameter names are those of the original checkpoints. The block
(demand M2): ``in_proj -> [z, x, B, C, dt]``, a causal depthwise convolution and SiLU on x, B and C,
``delta = clamp(softplus(dt + dt_bias), dt_limit)``, the scan of :mod:`model.ssd` with one A and one
D a head, ``norm(y SiLU(z))`` over each group's channels, ``out_proj``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.mamba import RMSNorm
from model.mamba2_configuration import Mamba2Configuration
from model.ssd import chunked_scan, scan_step

__all__ = ["GatedRMSNorm", "Mamba2LanguageModel", "Mamba2State"]

_STEP_MINIMUM, _STEP_MAXIMUM, _STEP_FLOOR = 1e-3, 1e-1, 1e-4


@dataclass
class Mamba2State:
    """All that a model remembers between two tokens; ``forward`` and ``step`` update it in place.

    Members
    -------
    convolution : (layer, b, k-1, e + 2 g n), the last ``k-1`` convolution inputs, oldest first
    ssm : (layer, b, h, p, n)
    """

    convolution: Tensor
    ssm: Tensor

    @classmethod
    def initial(cls, configuration: Mamba2Configuration, batch: int) -> Mamba2State:
        """Return the all-zero state of ``batch`` sequences."""
        c = configuration
        return cls(
            convolution=torch.zeros(c.n_layer, batch, c.d_conv - 1, c.convolved),
            ssm=torch.zeros(c.n_layer, batch, c.heads, c.head_dim, c.d_state),
        )

    def reset(self) -> None:
        """Return to the start of a sequence."""
        self.convolution.zero_()
        self.ssm.zero_()

    def clone(self) -> Mamba2State:
        """Return an independent copy."""
        return Mamba2State(convolution=self.convolution.clone(), ssm=self.ssm.clone())


class GatedRMSNorm(nn.Module):
    """``norm(y SiLU(z))`` with a mean square a group: ``RMSNormGated``, ``norm_before_gate=False``.

    Parameters
    ----------
    width : channels
    groups : of ``width / groups`` channels that are normalised together
    eps : added to the mean square
    """

    def __init__(self, width: int, groups: int, eps: float) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(width))  # e

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """Map (..., e) and its gate (..., e) to (..., e)."""
        gated = (y * functional.silu(z)).unflatten(-1, (self.groups, -1))  # ... g e/g
        return functional.rms_norm(gated, gated.shape[-1:], eps=self.eps).flatten(-2) * self.weight


class Mamba2Mixer(nn.Module):
    """The mixer of one block, ``mamba_ssm.modules.mamba2.Mamba2``."""

    def __init__(self, configuration: Mamba2Configuration) -> None:
        super().__init__()
        c = self.configuration = configuration
        self.in_proj = nn.Linear(c.d_model, c.d_inner + c.convolved + c.heads, bias=c.use_bias)
        self.conv1d = nn.Conv1d(
            c.convolved, c.convolved, c.d_conv, groups=c.convolved, bias=c.use_conv_bias
        )
        self.dt_bias = nn.Parameter(torch.empty(c.heads))  # h
        self.A_log = nn.Parameter(torch.empty(c.heads))  # h
        self.D = nn.Parameter(torch.ones(c.heads))  # h
        self.norm = GatedRMSNorm(c.d_inner, c.n_groups, c.rms_norm_eps)
        self.out_proj = nn.Linear(c.d_inner, c.d_model, bias=c.use_bias)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        """Official initialization: steps log-uniform, A uniform in 1..16."""
        low, high = math.log(_STEP_MINIMUM), math.log(_STEP_MAXIMUM)
        step = torch.exp(torch.rand_like(self.dt_bias) * (high - low) + low).clamp(min=_STEP_FLOOR)
        self.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse softplus
        self.A_log.uniform_(1.0, 16.0).log_()
        self.out_proj.weight.div_(math.sqrt(self.configuration.n_layer))

    def forward(self, hidden: Tensor, convolution: Tensor, ssm: Tensor) -> Tensor:
        """Map (b, l, d) to (b, l, d); ``convolution`` and ``ssm`` are read, then overwritten."""
        z, x, b, c, delta = self._project(hidden, convolution)
        transition = -torch.exp(self.A_log)  # h
        y, last = chunked_scan(x, delta, transition, b, c, ssm.clone())  # b l h p
        ssm.copy_(last.detach())
        return self._finish(y + self.D[:, None] * x, z)

    def step(self, hidden: Tensor, convolution: Tensor, ssm: Tensor) -> Tensor:
        """One token, (b, d) to (b, d); updates the state."""
        z, x, b, c, delta = (
            value[:, 0] for value in self._project(hidden[:, None], convolution)
        )  # b ...
        y, state = scan_step(ssm, x, delta, -torch.exp(self.A_log), b, c)  # b h p
        ssm.copy_(state.detach())
        return self._finish(y + self.D[:, None] * x, z)

    def _project(self, hidden: Tensor, convolution: Tensor) -> tuple[Tensor, ...]:
        """Return z (b, l, e), x (b, l, h, p), B, C (b, l, g, n), delta (b, l, h)."""
        c = self.configuration
        z, mixed, dt = self.in_proj(hidden).split([c.d_inner, c.convolved, c.heads], dim=-1)
        window = torch.cat([convolution, mixed], dim=1)  # b k-1+l e+2gn
        convolution.copy_(window[:, mixed.shape[1] :].detach())
        convolved = functional.silu(self.conv1d(window.mT).mT)  # b l e+2gn
        states = c.n_groups * c.d_state
        x, b, output = convolved.split([c.d_inner, states, states], dim=-1)
        delta = functional.softplus(dt + self.dt_bias).clamp(*c.dt_limit)  # b l h
        return (
            z,
            x.unflatten(-1, (c.heads, c.head_dim)),
            b.unflatten(-1, (c.n_groups, c.d_state)),
            output.unflatten(-1, (c.n_groups, c.d_state)),
            delta,
        )

    def _finish(self, y: Tensor, z: Tensor) -> Tensor:
        """Gate, normalise and project y (..., h, p) to (..., d)."""
        return cast("Tensor", self.out_proj(self.norm(y.flatten(-2), z)))


class Mamba2Block(nn.Module):
    """RMSNorm -> mixer -> residual."""

    def __init__(self, configuration: Mamba2Configuration) -> None:
        super().__init__()
        self.norm = RMSNorm(configuration.d_model, configuration.rms_norm_eps)
        self.mixer = Mamba2Mixer(configuration)


class Mamba2Backbone(nn.Module):
    """Embedding, blocks and final norm."""

    def __init__(self, configuration: Mamba2Configuration) -> None:
        super().__init__()
        self.embedding = nn.Embedding(configuration.vocab_size, configuration.d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = nn.ModuleList(
            Mamba2Block(configuration) for _ in range(configuration.n_layer)
        )
        self.norm_f = RMSNorm(configuration.d_model, configuration.rms_norm_eps)

    @property
    def blocks(self) -> Iterator[Mamba2Block]:
        """The layers in their order, with the type that ``ModuleList`` forgets."""
        for layer in self.layers:
            yield cast("Mamba2Block", layer)


class Mamba2LanguageModel(nn.Module):
    """Token logits from a stack of Mamba-2 blocks, in float32."""

    def __init__(self, configuration: Mamba2Configuration) -> None:
        super().__init__()
        self.configuration = configuration
        self.backbone = Mamba2Backbone(configuration)
        self.lm_head = nn.Linear(configuration.d_model, configuration.vocab_size, bias=False)
        if configuration.tie_embeddings:
            self.lm_head.weight = self.backbone.embedding.weight

    def initial_state(self, batch: int) -> Mamba2State:
        """Return the state at the start of ``batch`` sequences."""
        return Mamba2State.initial(self.configuration, batch)

    def forward(self, tokens: Tensor, state: Mamba2State | None = None) -> Tensor:
        """Logits (b, l, vocabulary) of tokens (b, l); a given ``state`` is advanced by l tokens."""
        state = self.initial_state(tokens.shape[0]) if state is None else state
        residual = self.backbone.embedding(tokens)  # b l d
        for index, block in enumerate(self.backbone.blocks):
            hidden = block.norm(residual)  # b l d
            residual = residual + block.mixer(hidden, state.convolution[index], state.ssm[index])
        return cast("Tensor", self.lm_head(self.backbone.norm_f(residual)))  # b l v

    def step(self, token: Tensor, state: Mamba2State) -> Tensor:
        """Logits (b, vocabulary) after one more token (b); ``state`` is advanced by it."""
        residual = self.backbone.embedding(token)  # b d
        for index, block in enumerate(self.backbone.blocks):
            hidden = block.norm(residual)  # b d
            residual = residual + block.mixer.step(
                hidden, state.convolution[index], state.ssm[index]
            )
        return cast("Tensor", self.lm_head(self.backbone.norm_f(residual)))  # b v
