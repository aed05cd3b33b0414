"""What the loss feels of an error at each product's output: the second moments of its gradient.

An error ``e`` of a product's outputs raises the expected loss by about ``e^T M e / 2`` with
``M = E[g g^T]``, g the gradient of the loss there: the Fisher information, at labels drawn from the
network's own prediction, so that the text only serves as input. :mod:`model.weight_rounding` moves
rounding errors to where M is small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from model.mamba import MambaLanguageModel
from model.text_windows import inputs_of

__all__ = ["LayerSensitivity", "measure_sensitivity"]

Array = npt.NDArray[Any]

_OUTPUTS = {
    "in_proj": ("x", "z"), "x_proj": ("dt", "B", "C"), "dt_proj": ("dt_raw",), "out_proj": ("out",),
}  # fmt: skip
_ROWS = 4
"""Windows whose gradients are taken at once."""


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """Second moments of the loss's gradient at each product's outputs, (rows, rows)."""

    in_proj: Array
    x_proj: Array
    dt_proj: Array
    out_proj: Array

    def rotated(self, rotation: Array) -> LayerSensitivity:
        """Return the moments after ``rotation`` (d, d) of the residual stream."""
        return LayerSensitivity(
            in_proj=self.in_proj,
            x_proj=self.x_proj,
            dt_proj=self.dt_proj,
            out_proj=rotation.T @ self.out_proj @ rotation,
        )


def measure_sensitivity(
    model: MambaLanguageModel,
    targets: Array,
    seed: int,
    advance: Callable[[int], None] = lambda _tokens: None,
) -> tuple[LayerSensitivity, ...]:
    """Return every layer's moments.

    Parameters
    ----------
    targets : windows of text (b, l)
    seed : of the drawn labels
    advance : told how many tokens were just processed
    """
    generator = torch.Generator().manual_seed(seed)
    layers = model.configuration.n_layer
    totals: list[dict[str, Array]] = [{} for _ in range(layers)]
    inputs = torch.from_numpy(inputs_of(targets))
    for first in range(0, len(inputs), _ROWS):
        seen = _gradients(model, inputs[first : first + _ROWS], generator)
        for index, total in enumerate(totals):
            for name, parts in _OUTPUTS.items():
                rows = torch.cat([seen[f"layers.{index}.{part}"] for part in parts], dim=-1)
                flat = rows.reshape(-1, rows.shape[-1]).double().numpy()
                total[name] = total.get(name, 0.0) + flat.T @ flat
        advance(inputs[first : first + _ROWS].numel())
    return tuple(LayerSensitivity(**total) for total in totals)


def _gradients(
    model: MambaLanguageModel, inputs: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the gradient at every product's outputs by the name of its tap."""
    kept: dict[str, Tensor] = {}
    wanted = {part for parts in _OUTPUTS.values() for part in parts}

    def tap(name: str, value: Any) -> None:
        if name.rsplit(".", 1)[-1] in wanted and isinstance(value, Tensor):
            value.retain_grad()
            kept[name] = value

    with torch.enable_grad():
        model.zero_grad()
        logits = model(inputs, None, tap)
        flat = logits.reshape(-1, logits.shape[-1])
        labels = torch.multinomial(flat.detach().softmax(dim=-1), 1, generator=generator)[:, 0]
        functional.cross_entropy(flat, labels, reduction="sum").backward()
    model.zero_grad()
    return {name: value.grad for name, value in kept.items() if value.grad is not None}
