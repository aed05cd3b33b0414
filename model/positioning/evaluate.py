"""What ``python -m model.positioning evaluate`` does: errors of networks on the test parts.

Writes ``positioning.json`` and the figures ``positioning-trajectories.svg``, ``-cdf.svg`` and
``-heat-map.svg``; the first network given is the one in the trajectories and the heat map.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from golden.artifact import load_program
from golden.command import atomic_write, digest
from golden.errors import InputError
from golden.fixed_point import to_real
from golden.frames import FrameExecutor, features_of
from golden.program import Program
from model.positioning.dataset import Dataset, Windows, read_dataset
from model.positioning.features import FEATURES
from model.positioning.metrics import Reals, distances, error_statistics, nearest_distance
from model.positioning.plots import draw_cdf, draw_heat_map, draw_trajectories
from model.positioning.report import PART_TITLES
from model.positioning.splits import TESTS
from model.positioning.train import load_trained
from model.positioning.training import predict
from model.slim import SlimNetwork

__all__ = ["evaluate_positioning", "integer_places"]

_BLOCK = 256  # windows whose integers are in memory at a time


@dataclass(frozen=True)
class _Measured:
    """A network, its integer programs by name, and the places that each finds, by part."""

    name: str
    digest: str
    network: SlimNetwork
    programs: dict[str, Program] = field(default_factory=dict)
    found: dict[str, dict[str, Reals]] = field(default_factory=dict)


def integer_places(program: Program, windows: Windows, length: int) -> Reals:
    """Return the places (windows, 2) in metres that an integer program finds.

    ``length`` is the number of frames of a window.
    """
    executor = FrameExecutor(program)
    back = np.arange(1 - length, 1)
    blocks = []
    for start in range(0, len(windows.ends), _BLOCK):
        rows = windows.ends[start : start + _BLOCK, None] + back
        features = features_of(program, windows.features[rows])
        blocks.append(to_real(executor.forward(features), program.logit_fraction))
    return np.concatenate(blocks)


def evaluate_positioning(
    data: Path, checkpoints: Sequence[Path], artifacts: Sequence[Path], out: Path
) -> dict[str, Any]:
    """Measure networks on the test parts of a prepared folder; return the report that is written.

    Parameters
    ----------
    data : a folder of ``prepare``
    checkpoints : one or more; a network is named by its file
    artifacts : integer programs that were quantized from one of the checkpoints
    out : folder to write

    Raises
    ------
    InputError
        If data, a checkpoint or a program cannot be used, or one was trained with other feature
        constants.
    """
    names = [path.name for path in checkpoints]
    if len(set(names)) < len(names):
        raise InputError(f"checkpoints {', '.join(names)} share a name; rename one file")
    dataset = read_dataset(data)
    networks = [_load(path, dataset) for path in checkpoints]
    for path in artifacts:
        _add_program(path, networks)
    parts = {part: dataset.windows(part) for part in TESTS if dataset.manifest["split"][part]}
    with Console(stderr=True).status("measuring") as status:
        for own in networks:
            status.update(f"measuring {own.name}")
            own.found["float"] = {p: predict(own.network, w).numpy() for p, w in parts.items()}
            length = own.network.configuration.window
            for scheme, program in own.programs.items():
                status.update(f"measuring {own.name} {scheme}")
                own.found[scheme] = {
                    part: integer_places(program, windows, length)
                    for part, windows in parts.items()
                }
    report = _report(dataset, networks, parts)
    _draw(networks, parts, dataset.origin, out)
    text = json.dumps(report, indent=1, sort_keys=True) + "\n"
    atomic_write(out / "positioning.json", text.encode())
    return report


def _load(path: Path, dataset: Dataset) -> _Measured:
    network = load_trained(path, dataset)
    if network.configuration.features != FEATURES or network.configuration.outputs != 2:
        raise InputError(
            f"{path} reads {network.configuration.features} features, the data have {FEATURES}; "
            "give a positioning network"
        )
    return _Measured(path.stem, digest(path.read_bytes()), network)


def _add_program(path: Path, networks: Sequence[_Measured]) -> None:
    """Give a program to the network that it was quantized from."""
    program = load_program(path)
    source = program.provenance.get("checkpoint_sha256")
    own = next((network for network in networks if network.digest == source), None)
    if own is None:
        raise InputError(
            f"{path} was quantized from none of the checkpoints given; give its --checkpoint"
        )
    trained = ", trained" if "training" in program.provenance else ""
    own.programs[program.scheme.name + trained] = program


def _report(
    dataset: Dataset, networks: Sequence[_Measured], parts: dict[str, Windows]
) -> dict[str, Any]:
    """Return what ``positioning.json`` says."""
    training = np.concatenate(
        [dataset.trajectories[name].xy for name in dataset.manifest["split"]["train"]]
    )
    return {
        "unit": "metres",
        "origin": dataset.origin,
        "rate_hz": dataset.manifest["rate_hz"],
        "split": dataset.manifest["split_name"],
        "constants_sha256": dataset.manifest["constants_sha256"],
        "parts": {
            part: {
                "trajectories": len(windows.names),
                "windows": len(windows.ends),
                "nearest_training_place": nearest_distance(windows.labels, training),
            }
            for part, windows in parts.items()
        },
        "networks": {own.name: _describe(own, parts) for own in networks},
    }


def _describe(own: _Measured, parts: dict[str, Windows]) -> dict[str, Any]:
    """Return what the report says of one network."""
    configuration = own.network.configuration
    errors = {name: _errors(found, parts) for name, found in own.found.items()}
    exact = errors.pop("float")
    for program in errors.values():
        for part, statistics in program.items():
            statistics["loss_percent"] = 100.0 * (statistics["mean"] / exact[part]["mean"] - 1.0)
    return {
        "mixer": configuration.mixer,
        "window": configuration.window,
        "parameters": sum(p.numel() for p in own.network.parameters()),
        "checkpoint_sha256": own.digest,
        "float": exact,
        "programs": errors,
    }


def _errors(found: dict[str, Reals], parts: dict[str, Windows]) -> dict[str, dict[str, float]]:
    """Return the statistics of every part and of ``all`` windows together."""
    errors = {part: distances(found[part], windows.labels) for part, windows in parts.items()}
    statistics = {part: error_statistics(own) for part, own in errors.items()}
    return statistics | {"all": error_statistics(np.concatenate(list(errors.values())))}


def _draw(networks: Sequence[_Measured], parts: dict[str, Windows], origin: str, out: Path) -> None:
    """Write the figures; every title says what is real."""
    first = networks[0]
    titles = {part: f"{PART_TITLES[part]}, {len(w.ends):,} windows" for part, w in parts.items()}
    clouds = {
        titles[part]: (first.found["float"][part], windows.labels)
        for part, windows in parts.items()
    }
    errors = {
        titles[part]: {
            own.name: distances(own.found["float"][part], windows.labels) for own in networks
        }
        for part, windows in parts.items()
    }
    places = np.concatenate([first.found["float"][part] for part in parts])
    labels = np.concatenate([windows.labels for windows in parts.values()])
    along = f"{first.name}: errors along the test windows ({origin})"
    figures = {
        "trajectories": draw_trajectories(f"{first.name}: places found ({origin})", clouds),
        "cdf": draw_cdf(f"errors ({origin})", errors),
        "heat-map": draw_heat_map(along, places, labels),
    }
    for name, content in figures.items():
        atomic_write(out / f"positioning-{name}.svg", content)
