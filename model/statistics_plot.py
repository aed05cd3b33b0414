"""Draws scale statistics: histograms before and after rounding, and what is clipped where."""

from __future__ import annotations

import math
from typing import Any

from model.figures import svg_bytes

__all__ = ["draw_layer", "draw_summary"]

Tensors = dict[str, dict[str, Any]]
_COLUMNS = 4


def draw_layer(index: int, tensors: Tensors) -> bytes:
    """Return an SVG with one panel a tensor of layer ``index``, counts on a logarithmic axis."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(tensors) / _COLUMNS)
    figure = Figure(figsize=(11.0, 2.4 * rows), layout="constrained")
    figure.suptitle(f"layer {index}: values before and after requantizing")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for axis, (name, own) in zip(axes, tensors.items(), strict=False):
        axis.stairs(own["before"], own["edges"], label="before", color="tab:gray", fill=True)
        axis.stairs(own["after"], own["edges"], label="after", color="tab:red")
        axis.set_yscale("symlog")
        axis.set_title(f"{name}: {100 * own['clipped']:.3f} % clipped", fontsize="small")
    for axis in figure.axes[len(tensors) :]:
        axis.set_axis_off()
    figure.axes[0].legend(fontsize="small")
    return svg_bytes(figure)


def draw_summary(layers: list[Tensors]) -> bytes:
    """Return an SVG of clipped share, outliers and noise by tensor, one line a layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    names = list(layers[0])
    panels = (
        ("clipped", 100.0, "clipped values in %"),
        ("outliers", 100.0, "outliers in %"),
        ("signal_to_noise_db", 1.0, "signal to noise in dB"),
    )
    for axis, (field, factor, title) in zip(figure.subplots(1, 3), panels, strict=True):
        for index, tensors in enumerate(layers):
            values = [tensors[name][field] for name in names]
            heights = [math.nan if value is None else factor * value for value in values]
            axis.plot(range(len(names)), heights, marker="o", label=f"layer {index}")
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axis.set_title(title, fontsize="medium")
    figure.axes[0].legend(fontsize="small")
    return svg_bytes(figure)
