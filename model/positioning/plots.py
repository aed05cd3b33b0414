"""Figures of positions as the sources show them: trajectories, error CDF and error heat map.

Each returns SVG; dense clouds and histograms in it are images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from model.figures import svg_bytes
from model.positioning.metrics import Reals, distances

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_cdf", "draw_heat_map", "draw_trajectories"]

_FARTHEST = 99.5  # percentile of the errors that axes end with
_SPREAD = 4.0  # deviations that the heat map shows of a signed error
_BINS = 100
_DOTS = 120  # an inch, of the images inside


def draw_trajectories(title: str, parts: Mapping[str, tuple[Reals, Reals]]) -> bytes:
    """Draw the true path and the places found, coloured by error, one panel a part.

    ``parts`` maps a name to found and true places (n, 2), metres.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0 * len(parts), 5.5), dpi=_DOTS, layout="constrained")
    farthest = max(
        float(np.percentile(distances(found, true), _FARTHEST)) for found, true in parts.values()
    )
    for axis, (name, (found, true)) in zip(
        figure.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True
    ):
        cloud = axis.scatter(
            *found.T, c=distances(found, true), s=2, cmap="plasma", vmin=0.0, vmax=farthest,
            rasterized=True, linewidths=0,
        )  # fmt: skip
        axis.scatter(*true.T, s=0.3, color="tab:blue", rasterized=True, linewidths=0)
        axis.plot([], [], color="tab:blue", label="true path")
        axis.set(title=name, xlabel="x in m", ylabel="y in m", aspect="equal")
        axis.legend(loc="upper right", fontsize="small")
        axis.grid(linewidth=0.3)
    figure.colorbar(cloud, ax=figure.axes, label="error of the place found in m", shrink=0.8)
    figure.suptitle(title, fontsize="medium")
    return svg_bytes(figure)


def draw_cdf(title: str, parts: Mapping[str, Mapping[str, Reals]]) -> bytes:
    """Draw the cumulative distribution of the errors, one panel a part, one line a network."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0 * len(parts), 4.0), layout="constrained")
    shares = np.linspace(0.0, 100.0, 401)
    for axis, (name, errors) in zip(
        figure.subplots(1, len(parts), sharey=True, squeeze=False)[0], parts.items(), strict=True
    ):
        for network, own in errors.items():
            style = "--" if network.startswith("mamba") else "-"
            axis.plot(np.percentile(own, shares), shares, style, linewidth=1.2, label=network)
        limit = max(float(np.percentile(own, 95)) for own in errors.values())
        axis.set(title=name, xlabel="error in m", xlim=(0.0, limit), ylim=(0.0, 100.0))
        axis.grid(linewidth=0.3)
    figure.axes[0].set_ylabel("share of windows in %")
    figure.axes[0].legend(loc="lower right", fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return svg_bytes(figure)


def draw_heat_map(title: str, found: Reals, true: Reals) -> bytes:
    """Draw how often which error of x, of y and in all occurs along the windows, in their order."""
    from matplotlib.figure import Figure

    error = np.asarray(found, float) - np.asarray(true, float)
    total = distances(found, true)
    figure = Figure(figsize=(8.0, 7.0), dpi=_DOTS, layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for axis, name, values in zip(panels[:2], "xy", error.T, strict=True):
        half = _SPREAD * float(values.std())
        centre = float(values.mean())
        _histogram(axis, f"{name} error in m", values, (centre - half, centre + half), "turbo")
    limit = float(np.percentile(total, _FARTHEST))
    _histogram(panels[2], "error in m", total, (0.0, limit), "hot")
    panels[2].set_xlabel("window")
    figure.suptitle(title, fontsize="medium")
    return svg_bytes(figure)


def _histogram(
    axis: Axes, label: str, values: Reals, limits: tuple[float, float], colours: str
) -> None:
    """Draw one panel: windows from left to right, errors from bottom to top."""
    count = len(values)
    bins = min(_BINS, max(1, count // 10))
    span: Any = [(0, count), limits]
    histogram, _, _ = np.histogram2d(np.arange(count), values, bins=bins, range=span)
    image = axis.imshow(
        histogram.T, origin="lower", extent=(0, count, *limits), aspect="auto", cmap=colours,
        interpolation="nearest",
    )  # fmt: skip
    axis.set_ylabel(label)
    axis.figure.colorbar(image, ax=axis, label="windows")
