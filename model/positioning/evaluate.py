"""What ``python -m model.positioning evaluate`` does: errors of networks on the test parts.

Writes ``positioning.json`` and the figures ``positioning-trajectories.svg``, ``-cdf.svg`` and
``-heat-map.svg``; the first network given is the one in the trajectories and the heat map.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from golden.command import atomic_write
from golden.errors import InputError
from model.positioning.dataset import Dataset, Windows, read_dataset
from model.positioning.features import FEATURES
from model.positioning.metrics import (
    STATISTICS,
    Reals,
    distances,
    error_statistics,
    nearest_distance,
)
from model.positioning.plots import draw_cdf, draw_heat_map, draw_trajectories
from model.positioning.splits import TESTS
from model.positioning.training import predict
from model.slim import SlimNetwork
from model.slim_checkpoint import load_slim_checkpoint, read_notes

__all__ = ["evaluate_positioning", "print_report"]

_PART_TITLES = {"test-lines": "held-out lines", "test-random": "random drives"}


@dataclass(frozen=True)
class _Network:
    name: str
    network: SlimNetwork


def evaluate_positioning(data: Path, checkpoints: Sequence[Path], out: Path) -> dict[str, Any]:
    """Measure networks on the test parts of a prepared folder; return the report that is written.

    Parameters
    ----------
    data : a folder of ``prepare``
    checkpoints : one or more; a network is named by its file
    out : folder to write

    Raises
    ------
    InputError
        If data or a checkpoint cannot be used, or one was trained with other feature constants.
    """
    names = [path.name for path in checkpoints]
    if len(set(names)) < len(names):
        raise InputError(f"checkpoints {', '.join(names)} share a name; rename one file")
    dataset = read_dataset(data)
    networks = [_load(path, dataset) for path in checkpoints]
    parts = {part: dataset.windows(part) for part in TESTS if dataset.manifest["split"][part]}
    training = [dataset.trajectories[name].xy for name in dataset.manifest["split"]["train"]]
    found: dict[str, dict[str, Reals]] = {}
    with Console(stderr=True).status("measuring") as status:
        for own in networks:
            status.update(f"measuring {own.name}")
            found[own.name] = {
                part: predict(own.network, windows).numpy() for part, windows in parts.items()
            }
    report = {
        "unit": "metres",
        "origin": dataset.origin,
        "rate_hz": dataset.manifest["rate_hz"],
        "split": dataset.manifest["split_name"],
        "constants_sha256": dataset.manifest["constants_sha256"],
        "parts": {
            part: {
                "trajectories": len(windows.names),
                "windows": len(windows.ends),
                "nearest_training_place": nearest_distance(windows.labels[::5], _stack(training)),
            }
            for part, windows in parts.items()
        },
        "networks": {own.name: _describe(own.network, found[own.name], parts) for own in networks},
    }
    _draw(report, found, parts, out)
    text = json.dumps(report, indent=1, sort_keys=True) + "\n"
    atomic_write(out / "positioning.json", text.encode())
    return report


def _load(path: Path, dataset: Dataset) -> _Network:
    network = load_slim_checkpoint(path)
    expected = dataset.manifest["constants_sha256"]
    trained = read_notes(path).get("constants_sha256", expected)
    if network.configuration.features != FEATURES or network.configuration.outputs != 2:
        raise InputError(
            f"{path} reads {network.configuration.features} features, the data have {FEATURES}; "
            "give a positioning network"
        )
    if trained != expected:
        raise InputError(
            f"{path} was trained with other feature constants than those of {dataset.path}; "
            "prepare the data with --constants of its training"
        )
    return _Network(path.name.removesuffix(path.suffix), network)


def _stack(arrays: Sequence[Reals]) -> Reals:
    return np.concatenate(list(arrays))


def _describe(
    network: SlimNetwork, found: dict[str, Reals], parts: dict[str, Windows]
) -> dict[str, Any]:
    """Return what the report says of one network."""
    configuration = network.configuration
    return {
        "mixer": configuration.mixer,
        "window": configuration.window,
        "parameters": sum(p.numel() for p in network.parameters()),
        "float": {
            part: error_statistics(distances(found[part], windows.labels))
            for part, windows in parts.items()
        },
    }


def _draw(
    report: dict[str, Any],
    found: dict[str, dict[str, Reals]],
    parts: dict[str, Windows],
    out: Path,
) -> None:
    """Write the figures; every title says what is real."""
    origin, first = report["origin"], next(iter(found))
    titles = {part: f"{_PART_TITLES[part]}, {len(w.ends):,} windows" for part, w in parts.items()}
    clouds = {titles[part]: (found[first][part], w.labels) for part, w in parts.items()}
    errors = {
        titles[part]: {name: distances(own[part], w.labels) for name, own in found.items()}
        for part, w in parts.items()
    }
    labels = _stack([windows.labels for windows in parts.values()])
    places = _stack([found[first][part] for part in parts])
    figures = {
        "trajectories": draw_trajectories(f"{first}: places found ({origin})", clouds),
        "cdf": draw_cdf(f"errors ({origin})", errors),
        "heat-map": draw_heat_map(f"{first}: errors along the test windows ({origin})", places,
                                  labels),
    }  # fmt: skip
    for name, content in figures.items():
        atomic_write(out / f"positioning-{name}.svg", content)


def print_report(report: dict[str, Any]) -> None:
    """Print the errors in centimetres as a table."""
    console = Console()
    table = Table(title=f"errors in cm; {report['origin']}")
    table.add_column("network")
    for column in ("K", "parameters", "part", *STATISTICS):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, own in report["networks"].items():
        for part, errors in own["float"].items():
            values = (f"{100 * errors[statistic]:.2f}" for statistic in STATISTICS)
            table.add_row(
                name, str(own["window"]), f"{own['parameters']:,}", _PART_TITLES[part], *values
            )
    console.print(table)
    for part, own in report["parts"].items():
        console.print(
            f"{_PART_TITLES[part]}: {own['windows']:,} windows of {own['trajectories']} "
            f"trajectories, {100 * own['nearest_training_place']:.1f} cm (median) from the nearest "
            "training place"
        )
