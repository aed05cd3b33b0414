"""The mixer of Mamba-2: whole sequences or one token at a time.

The arithmetic is that of ``mamba_ssm`` (``Mamba2``) and of ``transformers``' ``Mamba2Mixer``;
parameter names are those of the original checkpoints (demand M2)::

    [z, x, B, C, dt] = in_proj(hidden);  x, B, C = SiLU(causal depthwise convolution)
    delta = clamp(softplus(dt + dt_bias), dt_limit);  the scan of :mod:`model.ssd`
    out_proj(norm(y SiLU(z)) w), one A, D and delta a head, one mean square a group's channels

Taps per layer, as in :mod:`model.mamba`:

=============  =========================================================================
``z``          (b, l, e) first rows of ``in_proj``
``x``          (b, l, e + 2 g n) those of x, B and C, the convolution's input
``conv``       (b, l, e + 2 g n) convolution output before SiLU
``u``          (b, l, e) x after SiLU, the scan's input
``B``, ``C``   (b, l, g n) after SiLU
``dt_raw``     (b, l, h) last rows of ``in_proj`` with ``dt_bias``, before softplus
``delta``      (b, l, h) after softplus and clamp
``y``          (b, l, e) scan output with the ``D`` skip, before the gate
``gated``      (b, l, e) ``y SiLU(z)``, before its norm
``normed``     (b, l, e) after the norm, the input of ``out_proj``
``out``        (b, l, d) ``out_proj`` output
=============  =========================================================================
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.configuration import Mamba2Configuration
from model.layers import convolution_weights, convolve, initial_step_bias, overwrite
from model.scan import ScanName
from model.ssd import chunked_scan, scan_step, sequential_scan
from model.taps import Stage, silent

__all__ = ["GatedRMSNorm", "Mamba2Mixer"]


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

    def forward(self, gated: Tensor) -> Tensor:
        """Map gated values (..., e) to (..., e)."""
        rows = gated.float().unflatten(-1, (self.groups, -1))  # ... g e/g
        normed = functional.rms_norm(rows, rows.shape[-1:], eps=self.eps).flatten(-2)
        return (normed * self.weight.float()).to(gated.dtype)


class Mamba2Mixer(nn.Module):
    """The mixer of one block, ``mamba_ssm.modules.mamba2.Mamba2``.

    Parameters
    ----------
    configuration : the shape
    scan : ``parallel`` (in chunks) or ``sequential`` (one step after the other)

    Raises
    ------
    ValueError
        For the scan ``triton``, which is Mamba-1's.
    """

    def __init__(self, configuration: Mamba2Configuration, scan: ScanName = "parallel") -> None:
        super().__init__()
        if scan == "triton":
            raise ValueError("scan 'triton' is Mamba-1's; Mamba-2 has parallel and sequential")
        c = self.configuration = configuration
        self._scan = chunked_scan if scan == "parallel" else sequential_scan
        self.in_proj = nn.Linear(c.d_model, c.d_inner + c.convolved + c.heads, bias=c.use_bias)
        self.conv1d = convolution_weights(c.convolved, c.d_conv, bias=c.use_conv_bias)
        self.dt_bias = nn.Parameter(torch.empty(c.heads))  # h
        self.A_log = nn.Parameter(torch.empty(c.heads))  # h
        self.D = nn.Parameter(torch.ones(c.heads))  # h
        self.norm = GatedRMSNorm(c.d_inner, c.n_groups, c.rms_norm_eps)
        self.out_proj = nn.Linear(c.d_inner, c.d_model, bias=c.use_bias)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        """Official initialization: steps log-uniform, A uniform in 1..16."""
        self.dt_bias.copy_(initial_step_bias(self.configuration.heads))
        self.A_log.uniform_(1.0, 16.0).log_()
        self.out_proj.weight.div_(self.configuration.n_layer**0.5)

    def forward(self, hidden: Tensor, convolution: Tensor, ssm: Tensor, tap: Stage) -> Tensor:
        """Map (b, l, d) to (b, l, d).

        ``convolution`` (b, k-1, e + 2 g n) and ``ssm`` (b, h, p, n) are read, then overwritten.
        """
        z, x, b, c, delta = self._project(hidden, convolution, tap)
        transition = -torch.exp(self.A_log.float())  # h
        # Under autocast products of the scan would lose their exponents' precision.
        with torch.autocast(hidden.device.type, enabled=False):
            y, last = self._scan(x.float(), delta, transition, b.float(), c.float(), ssm.clone())
            y = y + self.D.float()[:, None] * x.float()  # b l h p
        overwrite(ssm, last)
        return self._finish(tap("y", y.flatten(-2).to(z.dtype)), z, tap)

    def step(self, hidden: Tensor, convolution: Tensor, ssm: Tensor) -> Tensor:
        """One token, (b, d) to (b, d); updates the state."""
        z, x, b, c, delta = (
            value[:, 0] for value in self._project(hidden[:, None], convolution, silent)
        )  # b ...
        transition = -torch.exp(self.A_log.float())  # h
        y, state = scan_step(ssm, x.float(), delta, transition, b.float(), c.float())  # b h p
        overwrite(ssm, state)
        y = (y + self.D.float()[:, None] * x.float()).flatten(-2)  # b e
        return self._finish(y.to(z.dtype), z, silent)

    def _project(self, hidden: Tensor, convolution: Tensor, tap: Stage) -> tuple[Tensor, ...]:
        """Return z (b, l, e), x (b, l, h, p), B, C (b, l, g, n), delta (b, l, h)."""
        c = self.configuration
        z, mixed, dt = self.in_proj(hidden).split([c.d_inner, c.convolved, c.heads], dim=-1)
        z, mixed = tap("z", z), tap("x", mixed)
        window = torch.cat([convolution.to(mixed.dtype), mixed], dim=1)  # b k-1+l e+2gn
        overwrite(convolution, window[:, mixed.shape[1] :])
        convolved = functional.silu(tap("conv", convolve(self.conv1d, window)))  # b l e+2gn
        states = c.n_groups * c.d_state
        x, b, output = convolved.split([c.d_inner, states, states], dim=-1)
        x, b, output = tap("u", x), tap("B", b), tap("C", output)
        raw = tap("dt_raw", dt.float() + self.dt_bias.float())  # b l h
        delta = tap("delta", functional.softplus(raw).clamp(*c.dt_limit))  # b l h
        return (
            z,
            x.unflatten(-1, (c.heads, c.head_dim)),
            b.unflatten(-1, (c.n_groups, c.d_state)),
            output.unflatten(-1, (c.n_groups, c.d_state)),
            delta,
        )

    def _finish(self, y: Tensor, z: Tensor, tap: Stage) -> Tensor:
        """Gate, normalise and project y (..., e) to (..., d)."""
        gated = tap("gated", y * functional.silu(z))  # ... e
        normed = tap("normed", self.norm(gated))  # ... e
        return tap("out", self.out_proj(normed))  # ... d
