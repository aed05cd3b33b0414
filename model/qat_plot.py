"""Draws the training of programs: validation loss over steps, one panel for each scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model.figures import svg_bytes
from model.qat_page import runs_of

__all__ = ["draw"]

_COLUMNS = 3


def _draw_runs(axis: Any, runs: Sequence[Any], seed: int) -> None:
    """Draw the curves of runs that went on from each other, and what was kept of the last."""
    color, first = f"C{seed}", 0
    for number, report in enumerate(runs):
        curve, best = report["curve"], report["best"]
        axis.plot(
            [first + entry["step"] for entry in curve],
            [entry["validation"] for entry in curve],
            color=color, label=None if number else f"float network of seed {seed}",
        )  # fmt: skip
        axis.plot(first + best["step"], best["validation"], marker="o", color=color)
        first += curve[-1]["step"]


def draw(reports: Mapping[tuple[str, int], Any]) -> bytes:
    """Return an SVG of the reports by (name, seed); equal reports give equal bytes."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for name, _ in reports))
    rows = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(9.0, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        for (own, seed), report in reports.items():
            if own != name:
                continue
            _draw_runs(axis, runs_of(report), seed)
        axis.set(title=name, xlabel="step", ylabel="bits per byte")
        axis.grid(visible=True, alpha=0.3)
        if name == "ternary-h":
            axis.set_yscale("log")  # before training it predicts next to nothing
    axes.flat[0].legend(fontsize="small")
    figure.suptitle("Validation text, averaged weights; dots: the programs that are kept")
    return svg_bytes(figure)
