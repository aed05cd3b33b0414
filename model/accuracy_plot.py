"""Draws the accuracy page: loss by scheme beside its targets, and loss by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.figures import svg_bytes

__all__ = ["Bar", "draw_blocks", "draw_losses"]

_COLORS = {"powers of two": "tab:blue", "any scale": "tab:green", "trained": "tab:orange"}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar.

    Parameters
    ----------
    loss : in percent
    target : the largest loss allowed, None if there is none
    """

    loss: float
    target: float | None


def draw_losses(losses: Mapping[str, Mapping[str, Bar]]) -> bytes:
    """Return an SVG of the loss by scheme and by way of making the program.

    Parameters
    ----------
    losses : bars by way (the keys of the legend), by scheme
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axis = figure.subplots()
    ways = [way for way in _COLORS if any(way in own for own in losses.values())]
    width = 0.8 / len(ways)
    targets_named = False
    for place, own in enumerate(losses.values()):
        for index, way in enumerate(ways):
            if way not in own:
                continue
            bar, at = own[way], place + (index - (len(ways) - 1) / 2) * width
            axis.bar(at, bar.loss, 0.92 * width, color=_COLORS[way])
            axis.annotate(
                f"{bar.loss:.2f}", (at, bar.loss), xytext=(0, -3), textcoords="offset points",
                ha="center", va="top", fontsize="x-small", color="white",
            )  # fmt: skip
            if bar.target is not None:
                axis.hlines(
                    bar.target, at - width / 2, at + width / 2, color="black", linewidth=2,
                    label="" if targets_named else "target: stay below",
                )  # fmt: skip
                targets_named = True
    for way in ways:
        axis.bar([0], [0], color=_COLORS[way], label=_LEGEND[way])
    axis.set_yscale("symlog", linthresh=1.0)
    axis.set_ylim(bottom=0.0)
    axis.set_yticks([0, 0.25, 0.5, 1, 2, 5, 10], ["0", "0.25", "0.5", "1", "2", "5", "10"])
    axis.set_xticks(range(len(losses)), list(losses))
    axis.set_ylabel("more bits per byte than float, in %")
    axis.set_title("What quantization costs on held-out text (the worse of two training seeds)")
    axis.grid(visible=True, axis="y", alpha=0.3)
    axis.legend(fontsize="small", loc="upper left")
    return svg_bytes(figure)


_LEGEND = {
    "powers of two": "quantized after training, scales are powers of two (in hardware)",
    "any scale": "quantized after training, a real scale for 32 weights (simulated)",
    "trained": "its integers trained on, scales are powers of two (in hardware)",
}


def draw_blocks(losses: Mapping[str, Sequence[float]], labels: Sequence[str]) -> bytes:
    """Return an SVG of the loss with one part of the network made integer at a time.

    Parameters
    ----------
    losses : percent by scheme, a figure for each label
    labels : the parts
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(losses)
    for index, (scheme, own) in enumerate(losses.items()):
        places = [at + (index - (len(losses) - 1) / 2) * width for at in range(len(labels))]
        axis.bar(places, own, 0.92 * width, label=scheme)
    axis.axhline(0.0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(labels)), labels)
    axis.set_ylabel("more bits per byte than float, in %")
    axis.set_title("Which part is sensitive: one made integer, everything else in float")
    axis.grid(visible=True, axis="y", alpha=0.3)
    axis.legend(fontsize="small")
    return svg_bytes(figure)
