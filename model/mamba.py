"""Language models of both families, and Mamba-1's mixer: whole sequences or a token at a time.

The arithmetic is that of ``mamba_ssm`` (``Mamba``, ``Block``, ``MambaLMHeadModel``) with the input
discretized as ``delta B u``; Mamba-2's mixer is in :mod:`model.mamba2`. Parameter names are those
of the original checkpoints, so that a ``state_dict`` is a checkpoint. The residual stream is
float32 whatever the weights are.

Taps. ``forward(tokens, state, tap)`` shows intermediates to ``tap(name, tensor)``; a tensor that
the tap returns takes the intermediate's place. Names per layer ``i``, as ``layers.{i}.<stage>``:

=============  =========================================================================
``residual``   (b, l, d) residual stream before the block
``norm``       (b, l, d) RMSNorm output, the input of ``in_proj``
``x``, ``z``   (b, l, e) halves of ``in_proj``
``conv``       (b, l, e) convolution output before SiLU
``u``          (b, l, e) after SiLU, the input of ``x_proj`` and of the scan
``dt``         (b, l, r) first piece of ``x_proj``
``B``, ``C``   (b, l, n) the other pieces of ``x_proj``
``dt_raw``     (b, l, e) ``dt_proj`` output with bias, before softplus
``delta``      (b, l, e) after softplus
``state``      a function without arguments that returns the scan states (b, l, e, n); a returned
               tensor is what the output is read from, it does not enter the recurrence again
``y``          (b, l, e) scan output with the ``D`` skip, before the gate
``gated``      (b, l, e) ``y SiLU(z)``, the input of ``out_proj``
``out``        (b, l, d) ``out_proj`` output
``mlp_norm``   (b, l, d) norm in front of the MLP, where there is one
``up``         (b, l, h) first half of ``fc1``
``mlp_z``      (b, l, h) second half of ``fc1``, before SiLU
``mlp_gated``  (b, l, h) ``up SiLU(mlp_z)``, the input of ``fc2``
``mlp_out``    (b, l, d) ``fc2`` output
=============  =========================================================================

(Mamba-2 has its own in its module), and once per model ``residual``, ``norm`` (b, l, d), ``logits``
(b, l, vocabulary).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.bit_linear import DELTA_LIMIT, linear_layer, round_rates, round_token
from model.configuration import Configuration, MambaConfiguration
from model.gated_mlp import GatedMLP
from model.layers import RMSNorm, convolution_weights, convolve, initial_step_bias, overwrite
from model.mamba2 import Mamba2Mixer
from model.scan import ScanName, parallel_states, read_out, sequential_states, state_step
from model.state import MambaState
from model.taps import Stage, Tap, silent, stage

__all__ = ["MambaBlock", "MambaLanguageModel", "MambaMixer", "RMSNorm", "ScanName"]


class MambaMixer(nn.Module):
    """The selective state-space mixer of one block, ``mamba_ssm.modules.mamba_simple.Mamba``."""

    def __init__(self, configuration: MambaConfiguration, scan: ScanName) -> None:
        super().__init__()
        d, e, n = configuration.d_model, configuration.d_inner, configuration.d_state
        r = configuration.dt_rank
        self.configuration = configuration
        self.scan: ScanName = scan
        if scan == "triton":  # imported only on request: Triton is absent from CPU installations
            from model.scan_triton import selective_scan

            self._fused = selective_scan
        ternary = configuration.ternary
        self.in_proj = linear_layer(d, 2 * e, bias=configuration.use_bias, ternary=ternary)
        self.conv1d = convolution_weights(e, configuration.d_conv, bias=configuration.use_conv_bias)
        self.x_proj = linear_layer(e, r + 2 * n, bias=False, ternary=ternary)
        self.dt_proj = linear_layer(r, e, bias=True, ternary=ternary)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, n + 1)).repeat(e, 1))  # e n
        self.D = nn.Parameter(torch.ones(e))  # e
        self.out_proj = linear_layer(e, d, bias=configuration.use_bias, ternary=ternary)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        """Official initialization: ``Mamba.__init__``, and ``_init_weights`` of the LM head."""
        rank = self.configuration.dt_rank
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias.copy_(initial_step_bias(self.configuration.d_inner))
        # The variance at the end stays that of one residual branch.
        self.out_proj.weight.div_(math.sqrt(self.configuration.residual_branches))
        for projection in (self.in_proj, self.out_proj):
            if projection.bias is not None:
                projection.bias.zero_()

    def forward(self, hidden: Tensor, convolution: Tensor, ssm: Tensor, tap: Stage) -> Tensor:
        """Map (b, l, d) to (b, l, d); ``selective_scan_ref`` between the projections.

        ``convolution`` (b, k-1, e) and ``ssm`` (b, e, n) are read, then overwritten.
        """
        x, z = self.in_proj(hidden).chunk(2, dim=-1)  # b l e
        x, z = tap("x", x), tap("z", z)
        window = torch.cat([convolution.to(x.dtype), x], dim=1)  # b k-1+l e
        overwrite(convolution, window[:, x.shape[1] :])
        u = tap("u", functional.silu(tap("conv", convolve(self.conv1d, window))))  # b l e
        delta, input_map, output_map = self._parameters_of_scan(u, tap)
        y = self._scan(u, delta, input_map, output_map, ssm, tap)  # b l e
        gated = tap("gated", tap("y", y) * functional.silu(z))  # b l e
        return tap("out", self.out_proj(gated))  # b l d

    def step(self, hidden: Tensor, convolution: Tensor, ssm: Tensor) -> Tensor:
        """One token, (b, d) to (b, d), as the official ``Mamba.step``; updates the state."""
        x, z = self.in_proj(hidden).chunk(2, dim=-1)  # b e
        window = torch.cat([convolution.to(x.dtype), x[:, None]], dim=1)  # b k e
        overwrite(convolution, window[:, 1:])
        u = functional.silu(convolve(self.conv1d, window))  # b 1 e
        delta, input_map, output_map = self._parameters_of_scan(u, silent)
        state = state_step(
            ssm, u[:, 0].float(), delta[:, 0], self.transition(), input_map[:, 0].float()
        )  # b e n
        overwrite(ssm, state)
        y = read_out(state[:, None], output_map.float(), u.float(), self.D.float())  # b 1 e
        return self.out_proj(y[:, 0].to(z.dtype) * functional.silu(z))  # b d

    def transition(self) -> Tensor:
        """Return A (e, n), negative; rounded where the projections are ternary."""
        rates = torch.exp(self.A_log.float())
        return -(rates if self.configuration.ternary is None else round_rates(rates))

    def _parameters_of_scan(self, u: Tensor, tap: Stage) -> tuple[Tensor, Tensor, Tensor]:
        """Return delta (b, l, e) in float32, B and C (b, l, n): paper, algorithm 2, lines 2-4.

        All three are rounded a token where the projections are ternary.
        """
        rank, n = self.configuration.dt_rank, self.configuration.d_state
        dt, input_map, output_map = self.x_proj(u).split([rank, n, n], dim=-1)
        rounded = self.configuration.ternary is not None
        if rounded:
            input_map, output_map = round_token(input_map), round_token(output_map)
        dt, input_map, output_map = tap("dt", dt), tap("B", input_map), tap("C", output_map)
        raw = tap("dt_raw", self.dt_proj(dt))  # b l e
        delta = functional.softplus(raw.float(), threshold=20.0)  # b l e
        delta = tap("delta", round_token(delta, DELTA_LIMIT) if rounded else delta)
        return delta, input_map, output_map

    def _scan(
        self,
        u: Tensor,
        delta: Tensor,
        input_map: Tensor,
        output_map: Tensor,
        ssm: Tensor,
        tap: Stage,
    ) -> Tensor:
        """Selective scan and ``D`` skip in float32, (b, l, e) to (b, l, e) of ``u``'s dtype."""
        transition = self.transition()  # e n
        states = sequential_states if self.scan == "sequential" else parallel_states
        arguments = (u.float(), delta, transition, input_map.float(), ssm.clone())
        if self.scan == "triton":
            tapped = tap("state", lambda: states(*arguments))
            if not isinstance(tapped, Tensor):
                y, last = self._fused(
                    u, delta, transition, input_map, output_map, self.D.float(), ssm.clone()
                )
                overwrite(ssm, last)
                return y
            history = tapped
        else:
            history = states(*arguments)  # b l e n
            overwrite(ssm, history[:, -1])
            tapped = tap("state", lambda: history)
            history = tapped if isinstance(tapped, Tensor) else history
        y = read_out(history, output_map.float(), u.float(), self.D.float())  # b l e
        return y.to(u.dtype)


def make_mixer(configuration: Configuration, scan: ScanName) -> MambaMixer | Mamba2Mixer:
    """Return the mixer of one block of the configuration's family."""
    if isinstance(configuration, MambaConfiguration):
        return MambaMixer(configuration, scan)
    return Mamba2Mixer(configuration, scan)


class MambaBlock(nn.Module):
    """RMSNorm -> mixer -> residual, then RMSNorm -> MLP -> residual where there is an MLP.

    ``mamba_ssm.modules.block.Block`` with ``residual_in_fp32``.
    """

    def __init__(self, configuration: Configuration, scan: ScanName, dropout: float) -> None:
        super().__init__()
        self.norm = RMSNorm(configuration.d_model, configuration.rms_norm_eps)
        self.mixer = make_mixer(configuration, scan)
        self.dropout = nn.Dropout(dropout)
        self.mlp: GatedMLP | None = None
        if isinstance(configuration, MambaConfiguration) and configuration.d_intermediate:
            self.norm2 = RMSNorm(configuration.d_model, configuration.rms_norm_eps)
            self.mlp = GatedMLP(configuration, configuration.d_intermediate)

    def forward(self, residual: Tensor, convolution: Tensor, ssm: Tensor, tap: Stage) -> Tensor:
        """Return the residual stream (b, l, d) with this block's contribution added."""
        residual = tap("residual", residual)  # b l d
        hidden = tap("norm", self.norm(residual).to(self.mixer.D.dtype))  # b l d
        residual = residual + self.dropout(self.mixer(hidden, convolution, ssm, tap)).float()
        return self._with_mlp(residual, tap)

    def step(self, residual: Tensor, convolution: Tensor, ssm: Tensor) -> Tensor:
        """As ``forward`` for one token, (b, d) to (b, d)."""
        hidden = self.norm(residual).to(self.mixer.D.dtype)  # b d
        residual = residual + self.dropout(self.mixer.step(hidden, convolution, ssm)).float()
        return self._with_mlp(residual, silent)

    def _with_mlp(self, residual: Tensor, tap: Stage) -> Tensor:
        """Return the residual stream (..., d) with the MLP's contribution, if there is one."""
        if self.mlp is None:
            return residual
        hidden = tap("mlp_norm", self.norm2(residual).to(self.mixer.D.dtype))
        return residual + self.dropout(self.mlp(hidden, tap)).float()


class MambaBackbone(nn.Module):
    """Embedding, blocks and final norm, ``mamba_ssm.models.mixer_seq_simple.MixerModel``."""

    def __init__(self, configuration: Configuration, scan: ScanName, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(configuration.vocab_size, configuration.d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.layers = nn.ModuleList(
            MambaBlock(configuration, scan, dropout) for _ in range(configuration.n_layer)
        )
        self.norm_f = RMSNorm(configuration.d_model, configuration.rms_norm_eps)

    @property
    def blocks(self) -> Iterator[MambaBlock]:
        """The layers in their order, with the type that ``ModuleList`` forgets."""
        for layer in self.layers:
            yield cast("MambaBlock", layer)


class MambaLanguageModel(nn.Module):
    """Token logits from a stack of blocks, ``mamba_ssm``'s ``MambaLMHeadModel``.

    Parameters
    ----------
    configuration : family and shape
    scan : ``parallel`` (log-depth, the default), ``sequential`` (one step after the other) or
        ``triton`` (fused kernel of Mamba-1, needs a GPU); all give the same values up to rounding
    dropout : probability of dropping an element of a block's output during training

    Raises
    ------
    ValueError
        For an unknown ``scan`` or a ``dropout`` outside [0, 1).
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        scan: ScanName = "parallel",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if scan not in get_args(ScanName):
            raise ValueError(f"unknown scan {scan!r}, known: {', '.join(get_args(ScanName))}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout is {dropout}, must lie in [0, 1)")
        self.configuration = configuration
        self.backbone = MambaBackbone(configuration, scan, dropout)
        self.lm_head = nn.Linear(configuration.d_model, configuration.vocab_size, bias=False)
        if configuration.tie_embeddings:
            self.lm_head.weight = self.backbone.embedding.weight

    def initial_state(self, batch: int) -> MambaState:
        """Return the state at the start of ``batch`` sequences, on the model's device."""
        weight = self.backbone.embedding.weight
        return MambaState.initial(
            self.configuration, batch, device=weight.device, dtype=weight.dtype
        )

    def forward(
        self, tokens: Tensor, state: MambaState | None = None, tap: Tap | None = None
    ) -> Tensor:
        """Logits (b, l, vocabulary) of tokens (b, l); a given ``state`` is advanced by l tokens."""
        _check_tokens(tokens, 2, "(b, l)")
        state = self.initial_state(tokens.shape[0]) if state is None else state
        residual = self.backbone.embedding(tokens).float()  # b l d
        for index, block in enumerate(self.backbone.blocks):
            show = stage(tap, f"layers.{index}.")
            residual = block(residual, state.convolution[index], state.ssm[index], show)  # b l d
        show = stage(tap, "")
        residual = show("residual", residual)  # b l d
        hidden = self.backbone.norm_f(residual).to(self.lm_head.weight.dtype)  # b l d
        return show("logits", self.lm_head(show("norm", hidden)))  # b l v

    def step(self, token: Tensor, state: MambaState) -> Tensor:
        """Logits (b, vocabulary) after one more token (b); ``state`` is advanced by it."""
        _check_tokens(token, 1, "(b)")
        residual = self.backbone.embedding(token).float()  # b d
        for index, block in enumerate(self.backbone.blocks):
            residual = block.step(residual, state.convolution[index], state.ssm[index])  # b d
        hidden = self.backbone.norm_f(residual).to(self.lm_head.weight.dtype)  # b d
        return self.lm_head(hidden)  # b v


def _check_tokens(tokens: Tensor, dimensions: int, shape: str) -> None:
    if tokens.dim() != dimensions or 0 in tokens.shape:
        raise ValueError(f"tokens have shape {tuple(tokens.shape)}, must be {shape} and not empty")
