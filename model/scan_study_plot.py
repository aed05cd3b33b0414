"""Draws the study of the scan's numbers: loss against width, one panel a sweep."""

from __future__ import annotations

from typing import Any

from model.figures import svg_bytes

__all__ = ["draw"]

_TITLES = {
    "state": ("state h", "bits"),
    "delta": ("step size delta", "bits"),
    "decay": ("decay exp(delta A)", "fraction bits"),
    "scan_output": ("output y", "bits"),
    "exponent_segments": ("lines of 2^-x on [0, 1)", "log2 of their number"),
    "softplus_segments": ("lines of softplus on [0, 16)", "log2 of their number"),
}
_CLIP = 5.0
"""Percent: the axis ends there, so that the widths of interest can be told apart."""


def draw(report: dict[str, Any]) -> bytes:
    """Return an SVG of a report of :mod:`model.scan_study`; equal reports give equal bytes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, (name, (title, unit)) in zip(axes.flat, _TITLES.items(), strict=True):
        rows = report["sweeps"][name]
        values = [row["value"] for row in rows]
        losses = [row["percent"] for row in rows]
        below = [row["percent"] - row["low"] for row in rows]
        above = [row["high"] - row["percent"] for row in rows]
        axis.axhline(0.0, color="0.6", linewidth=0.8)
        axis.errorbar(values, losses, yerr=[below, above], marker="o", markersize=3, capsize=2)
        limit = report["narrowest"][name]
        if limit is not None:
            axis.axvline(limit, color="tab:green", linestyle=":", label="as good as float")
            axis.legend(loc="upper right", fontsize="small")
        axis.set_ylim(-0.3, min(_CLIP, max(0.6, 1.1 * max(losses))))
        axis.set(title=title, xlabel=unit, ylabel="loss in %", xticks=values)
    return svg_bytes(figure)
