"""Positioning network: a window of channel features in, coordinates out (demand M3).

The network of the sources' ``MambaRegressor`` with its ``mamba_slim`` blocks. A frame of F features
is projected to c values; ``patch`` frames, every ``stride``, make a token of width d; blocks

    RMSNorm -> in_proj (x, z) -> [centred depthwise convolution of x] -> u = SiLU(x)
            -> s_t = lambda_t s_{t-1} + (1 - lambda_t) u_t,  lambda_t = sigmoid(W_dt u_t + b)
            -> s SiLU(z) -> out_proj -> + residual

follow, then RMSNorm and a head over the tokens of the window. With the heads ``flat`` and ``mean``
everything outside the blocks is linear. Parameter names are those of
the sources' checkpoints, so that a ``state_dict`` is a checkpoint. Every window starts from a state
of zeros; inside a window the state is explicit, and frames may come in pieces of any length.

The same frame with Mamba-1 blocks (``mixer = "mamba"``) is what the slim block is compared with.

Taps. ``forward(features, tap=tap)`` shows intermediates to ``tap(name, tensor)``; a tensor that the
tap returns takes the intermediate's place. Names per block ``i``, as ``blocks.{i}.<stage>``, of
tokens ``t``:

=============  ===========================================================
``residual``   (b, t, d) residual stream before the block
``norm``       (b, t, d) RMSNorm output, the input of ``in_proj``
``x``, ``z``   (b, t, e) halves of ``in_proj``
``conv``       (b, t, e) convolution output before SiLU; ``x`` where there is none
``u``          (b, t, e) after SiLU, the input of ``dt_proj`` and of the scan
``dt_raw``     (b, t, e) ``dt_proj`` output with bias, before the sigmoid
``lambda``     (b, t, e) decay
``y``          (b, t, e) scan output, which is its state
``gated``      (b, t, e) ``y SiLU(z)``, the input of ``out_proj``; ``y`` where there is no gate
``out``        (b, t, d) ``out_proj`` output
=============  ===========================================================

(Mamba blocks show those of :mod:`model.mamba`) and once per window ``projected`` (b, K, c),
``embedded`` (b, T, d) patches before the positions, ``residual``, ``norm`` (b, T, d), ``pooled``
(b, d) of a pooling head, ``hidden`` (b, c) and ``outputs`` (b, V).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.configuration import MambaConfiguration
from model.mamba import MambaBlock, RMSNorm, ScanName
from model.scan import linear_recurrence
from model.slim_configuration import SlimConfiguration
from model.slim_state import SlimState
from model.taps import Stage, Tap, stage

__all__ = ["SlimNetwork", "moving_average", "position_table", "sequential_moving_average"]


def moving_average(decay: Tensor, u: Tensor, state: Tensor) -> Tensor:
    """``s_t = decay_t s_{t-1} + (1 - decay_t) u_t`` for all t in logarithmically many operations.

    ``decay`` and ``u`` are (b, t, e), ``state`` = s before the first t is (b, e).
    """
    return linear_recurrence(decay, (1.0 - decay) * u, state)  # b t e


def sequential_moving_average(decay: Tensor, u: Tensor, state: Tensor) -> Tensor:
    """The same, one step after the other; the yardstick of the parallel form."""
    states = []
    for time in range(u.shape[1]):
        state = decay[:, time] * state + (1.0 - decay[:, time]) * u[:, time]  # b e
        states.append(state)
    return torch.stack(states, dim=1)  # b t e


def position_table(tokens: int, width: int) -> Tensor:
    """Sine (even) and cosine (odd columns) of the token's number, (T, d); the sources' formula.

    Column pair i turns by ``10000^(-2 i / d)`` a token, as in "Attention is all you need".
    """
    number = torch.arange(tokens, dtype=torch.float32)[:, None]  # T 1
    pair = torch.arange((width + 1) // 2, dtype=torch.float32)  # (d+1)/2
    angle = number * torch.exp(-math.log(10000.0) * pair / (width / 2.0))  # T (d+1)/2
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :width]  # T d


class Convolution(nn.Module):
    """Linear map of ``width`` neighbouring positions; the sources' names of its weights."""

    def __init__(self, inputs: int, outputs: int, width: int = 1, *, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs x width) to (..., outputs); an input's positions are neighbours."""
        return functional.linear(x, self.conv.weight.flatten(1), self.conv.bias)


class MovingAverage(nn.Module):
    """The selective moving average, the sources' ``SelectiveScanIC``: no A, B, C and D."""

    def __init__(self, width: int, scan: ScanName) -> None:
        super().__init__()
        self.dt_proj = nn.Conv1d(width, width, 1)
        self._scan = sequential_moving_average if scan == "sequential" else moving_average

    def forward(self, u: Tensor, state: Tensor, tap: Stage) -> Tensor:
        """Return the states after every token of u (b, t, e), from ``state`` (b, e)."""
        raw = functional.linear(u, self.dt_proj.weight[:, :, 0], self.dt_proj.bias)  # b t e
        decay = tap("lambda", torch.sigmoid(tap("dt_raw", raw)))  # b t e
        return tap("y", self._scan(decay, u, state))  # b t e


class SlimBlock(nn.Module):
    """One block of the sources' ``mamba_slim`` over as many tokens as there are."""

    def __init__(self, configuration: SlimConfiguration, scan: ScanName, dropout: float) -> None:
        super().__init__()
        d, e, taps = configuration.d_model, configuration.d_inner, configuration.d_conv
        self.gate = configuration.gate
        self.norm = RMSNorm(d, configuration.rms_norm_eps)
        self.in_proj = Convolution(d, 2 * e, bias=False)
        self.dw_conv = nn.Conv1d(e, e, taps, groups=e) if taps else None
        self.ssm = MovingAverage(e, scan)
        self.out_proj = Convolution(e, d, bias=False)
        self.dropout = nn.Dropout(dropout)

    def advance(
        self, residual: Tensor, state: dict[str, Tensor], tap: Stage, *, last: bool
    ) -> Tensor:
        """Return the residual stream (b, n, d) of the tokens that can be finished.

        ``residual`` (b, t, d) are new tokens, of which ``last`` says that no others follow; until
        then the centred convolution holds back as many tokens as it looks ahead.
        """
        residual = tap("residual", residual)  # b t d
        x, z = self.in_proj(tap("norm", self.norm(residual))).chunk(2, dim=-1)  # b t e
        x = torch.cat([state["x"], tap("x", x)], dim=1)  # b h+t e
        z = torch.cat([state["z"], tap("z", z)], dim=1)  # b w+t e
        residual = torch.cat([state["residual"], residual], dim=1)  # b w+t d
        if self.dw_conv is None:
            raw, used = x, x.shape[1]
        else:
            half = self.dw_conv.kernel_size[0] // 2
            x = functional.pad(x, (0, 0, 0, half)) if last else x
            used = max(0, x.shape[1] - 2 * half)
            raw = self._convolve(x) if used else x[:, :0]  # b n e
        state["x"] = x[:, used:]
        state["z"], state["residual"] = z[:, used:], residual[:, used:]
        if not used:
            return residual[:, :0]
        u = tap("u", functional.silu(tap("conv", raw)))  # b n e
        y = self.ssm(u, state["ssm"], tap)  # b n e
        state["ssm"] = y[:, -1]
        gated = tap("gated", y * functional.silu(z[:, :used]) if self.gate else y)  # b n e
        return residual[:, :used] + self.dropout(tap("out", self.out_proj(gated)))  # b n d

    def _convolve(self, x: Tensor) -> Tensor:
        """Depthwise convolution without padding, (b, l, e) to (b, l-k+1, e)."""
        assert self.dw_conv is not None  # asked by the caller
        return self.dw_conv(x.transpose(1, 2)).transpose(1, 2)


class SelectiveBlock(MambaBlock):
    """A Mamba-1 block in the place of a slim one."""

    def advance(
        self, residual: Tensor, state: dict[str, Tensor], tap: Stage, *, last: bool
    ) -> Tensor:
        """As :meth:`SlimBlock.advance`; being causal it finishes every token."""
        del last
        if not residual.shape[1]:
            return residual
        state |= {name: tensor.clone() for name, tensor in state.items()}
        return self(residual, state["convolution"], state["ssm"], tap)  # b t d


class Backbone(nn.Module):
    """Patches, blocks, norm and head: the sources' ``MambaSlim`` with the one head that is used."""

    def __init__(self, configuration: SlimConfiguration, scan: ScanName, dropout: float) -> None:
        super().__init__()
        c = configuration
        self.patch_embedding = Convolution(c.projection, c.d_model, c.patch)
        self.blocks = nn.ModuleList(_block(c, scan, dropout) for _ in range(c.n_layer))
        self.norm_f = RMSNorm(c.d_model, c.rms_norm_eps)
        if c.head == "flat":
            self.output_layer_flat = nn.Conv1d(c.d_model, c.projection, c.tokens)
        else:
            self.output_layer_pool = Convolution(c.d_model, c.projection)
        self.register_buffer("position", position_table(c.tokens, c.d_model), persistent=False)


def _block(
    configuration: SlimConfiguration, scan: ScanName, dropout: float
) -> SlimBlock | SelectiveBlock:
    """Return one block of the kind that the configuration asks for."""
    c = configuration
    if c.mixer == "slim":
        return SlimBlock(c, scan, dropout)
    shape = MambaConfiguration(
        vocab_size=2,  # has no meaning here: a block has no embedding
        d_model=c.d_model,
        n_layer=c.n_layer,
        d_inner=c.d_inner,
        d_state=c.d_state,
        d_conv=c.d_conv,
        dt_rank=c.dt_rank,
        rms_norm_eps=c.rms_norm_eps,
    )
    return SelectiveBlock(shape, scan, dropout)


class SlimNetwork(nn.Module):
    """Coordinates (b, V) of windows (b, K, F).

    Parameters
    ----------
    configuration : the shape
    scan : ``parallel`` (log-depth, the default) or ``sequential`` (one step after the other); both
        give the same values up to rounding
    dropout : probability of dropping an element of a block's output during training

    Raises
    ------
    ValueError
        For an unknown ``scan`` or a ``dropout`` outside [0, 1).
    """

    def __init__(
        self,
        configuration: SlimConfiguration,
        *,
        scan: ScanName = "parallel",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        known = [name for name in get_args(ScanName) if name != "triton"]
        if scan not in known:
            raise ValueError(f"unknown scan {scan!r}, known: {', '.join(known)}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout is {dropout}, must lie in [0, 1)")
        self.configuration = configuration
        self.proj = Convolution(configuration.features, configuration.projection)
        self.backbone = Backbone(configuration, scan, dropout)
        self.head = Convolution(configuration.projection, configuration.outputs)

    @property
    def window(self) -> int:
        """Frames of a window, K."""
        return self.configuration.window

    @property
    def blocks(self) -> Iterator[SlimBlock | SelectiveBlock]:
        """The blocks in their order, with the type that ``ModuleList`` forgets."""
        for block in self.backbone.blocks:
            yield cast("SlimBlock | SelectiveBlock", block)

    def initial_state(self, batch: int) -> SlimState:
        """Return the state at the start of ``batch`` windows, on the model's device."""
        weight = self.head.conv.weight
        return SlimState.initial(
            self.configuration, batch, device=weight.device, dtype=weight.dtype
        )

    def reset_state(self, state: SlimState) -> None:
        """Forget the frames of an unfinished window; ``state`` is then that of a new one."""
        state.assign(self.initial_state(len(state.frames)))

    def forward(self, features: Tensor, tap: Tap | None = None) -> Tensor:
        """Coordinates (b, V) of whole windows (b, K, F)."""
        if features.dim() != 3 or features.shape[1] != self.configuration.window:
            raise ValueError(
                f"features have shape {tuple(features.shape)}, must be "
                f"(b, {self.configuration.window}, {self.configuration.features})"
            )
        outputs = self.advance(features, self.initial_state(len(features)), tap)
        assert outputs is not None  # the window is whole
        return outputs

    def step(self, frame: Tensor, state: SlimState) -> Tensor | None:
        """As :meth:`advance` for one frame (b, F)."""
        return self.advance(frame[:, None], state)

    def advance(self, features: Tensor, state: SlimState, tap: Tap | None = None) -> Tensor | None:
        """Take the next frames (b, l, F) of a window.

        Returns the coordinates (b, V) with the window's last frame, after which ``state`` is that
        of a new window, and nothing before.

        Raises
        ------
        ValueError
            If the frames have another shape or exceed the window.
        """
        c, show = self.configuration, stage(tap, "")
        self._check(features, state)
        state.seen += features.shape[1]
        last = state.seen == c.window
        projected = show("projected", self.proj(features))  # b l c
        residual = self._patches(projected, state, show)  # b t d
        for index, block in enumerate(self.blocks):
            layer = stage(tap, f"blocks.{index}.")
            residual = block.advance(residual, state.blocks[index], layer, last=last)  # b t d
        state.tokens = torch.cat([state.tokens, residual], dim=1)  # b T d
        if not last:
            return None
        outputs = self._outputs(state.tokens, show)
        self.reset_state(state)
        return outputs

    def _check(self, features: Tensor, state: SlimState) -> None:
        c, left = self.configuration, self.configuration.window - state.seen
        if features.dim() != 3 or features.shape[2] != c.features or 0 in features.shape:
            raise ValueError(
                f"frames have shape {tuple(features.shape)}, must be (b, l, {c.features}) "
                "and not empty"
            )
        if features.shape[1] > left:
            raise ValueError(
                f"{features.shape[1]} frames exceed the {left} that are left of the window"
            )

    def _patches(self, projected: Tensor, state: SlimState, show: Stage) -> Tensor:
        """Return the tokens (b, t, d) that end in the new frames (b, l, c)."""
        c = self.configuration
        first = (state.seen - projected.shape[1] - state.frames.shape[1]) // c.stride
        frames = torch.cat([state.frames, projected], dim=1)  # b h+l c
        count = max(0, (frames.shape[1] - c.patch) // c.stride + 1)
        state.frames = frames[:, count * c.stride :]
        if not count:
            return frames.new_zeros(len(frames), 0, c.d_model)
        patches = frames.unfold(1, c.patch, c.stride).flatten(2)  # b t c*patch
        embedded = show("embedded", self.backbone.patch_embedding(patches))  # b t d
        position = cast("Tensor", self.backbone.position)[first : first + count]  # t d
        return embedded + c.position_scale * position.to(embedded.dtype)

    def _outputs(self, residual: Tensor, show: Stage) -> Tensor:
        """Return the coordinates (b, V) of a window's tokens (b, T, d)."""
        backbone, head = self.backbone, self.configuration.head
        norm = show("norm", backbone.norm_f(show("residual", residual)))  # b T d
        if head == "flat":
            hidden = backbone.output_layer_flat(norm.transpose(1, 2))[..., 0]  # b c
        else:
            pooled = norm.mean(dim=1) if head == "mean" else norm.amax(dim=1)  # b d
            hidden = backbone.output_layer_pool(show("pooled", pooled))  # b c
        return show("outputs", self.head(show("hidden", hidden)))  # b V
