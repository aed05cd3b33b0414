"""Draws the sweep of observers: one bar a setting with its interval, one panel a group."""

from __future__ import annotations

from typing import Any

from model.figures import svg_bytes

__all__ = ["draw"]

_GROUPS = {
    "observer": "observer",
    "alpha": "alpha, sigma 0.1",
    "sigma": "sigma, alpha 0.9995",
    "asymmetric": "asymmetric, alpha",
}


def draw(report: dict[str, Any]) -> bytes:
    """Return an SVG of a report of :mod:`model.observer_sweep`."""
    from matplotlib.figure import Figure

    groups = {name: [row for row in report["settings"] if row["group"] == name] for name in _GROUPS}
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    widths = [len(rows) for rows in groups.values()]
    axes = figure.subplots(1, len(groups), sharey=True, width_ratios=widths)
    for axis, (name, rows) in zip(axes, groups.items(), strict=True):
        losses = [row["percent"] for row in rows]
        below = [row["percent"] - row["low"] for row in rows]
        above = [row["high"] - row["percent"] for row in rows]
        places = range(len(rows))
        axis.bar(places, losses, yerr=[below, above], capsize=2, color="tab:blue")
        axis.axhline(0.0, color="0.4", linewidth=0.8)
        axis.set_xticks(places, [row["value"] for row in rows], rotation=60, ha="right")
        axis.set_title(_GROUPS[name], fontsize="medium")
    axes[0].set_ylabel(f"loss in % with {report['bits']}-bit activations")
    return svg_bytes(figure)
