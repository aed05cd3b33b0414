"""The figure of a training run."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

__all__ = ["loss_figure"]


def loss_figure(curve: Sequence[Mapping[str, float]], results: Mapping[str, float]) -> bytes:
    """Return a PNG: training and validation bits per byte over steps, and the held-out result."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [entry["step"] for entry in curve]
    axes.plot(steps, [entry["train"] for entry in curve], label="training")
    axes.plot(steps, [entry["validation"] for entry in curve], label="validation, averaged weights")
    held_out = results["held_out_4096"]
    axes.axhline(held_out, color="black", linewidth=0.8, label=f"held out, final: {held_out:.4f}")
    axes.set_xlabel("step")
    axes.set_ylabel("bits per byte")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()
