"""Draws scale statistics: histograms before and after rounding, and what is clipped where."""

from __future__ import annotations

import math
from typing import Any

from model.figures import svg_bytes

__all__ = ["draw_histograms", "draw_layer", "draw_summary"]

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


def draw_histograms(layers: list[Tensors], labels: dict[str, str], title: str) -> bytes:
    """Return an SVG of histograms before and after rounding: a row a tensor, a column a layer.

    Parameters
    ----------
    layers : statistics of every layer by tensor
    labels : what a tensor is called, by name; the rows
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.3 * len(layers), 1.75 * len(labels)), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(labels), len(layers), squeeze=False)
    for row, (name, label) in zip(axes, labels.items(), strict=True):
        row[0].set_ylabel(label, fontsize="small")
        for index, (axis, tensors) in enumerate(zip(row, layers, strict=True)):
            own = tensors[name]
            _draw_histogram(axis, own)
            axis.set_title(
                f"block {index}: {100 * own['clipped']:.2g} % clipped", fontsize="x-small"
            )
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
        fontsize="small",
    )  # fmt: skip
    return svg_bytes(figure)


def _draw_histogram(axis: Any, own: dict[str, Any]) -> None:
    """Draw one panel: counts on a logarithmic axis, and where the format ends."""
    axis.stairs(own["before"], own["edges"], color="tab:gray", fill=True, label="before rounding")
    axis.stairs(own["after"], own["edges"], color="tab:red", label="after rounding and clipping")
    taken = [at for at, count in enumerate(own["after"]) if count]
    ends = (own["edges"][taken[0]], own["edges"][taken[-1] + 1])
    axis.vlines(
        ends, 0, max(own["before"]), color="black", linestyle=":", label="ends of what is left"
    )
    axis.set_yscale("symlog")
    axis.set_yticks([])
    axis.tick_params(labelsize="x-small")
