"""What ``python -m model.positioning prepare`` does: taps, split and constants in one folder."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from golden.command import atomic_write, digest
from golden.errors import InputError
from model.positioning.dataset import Dataset, write_dataset
from model.positioning.luvira import (
    ALIGNMENTS,
    RATE,
    Alignment,
    pair_files,
    places_of_frames,
    read_radio,
    read_truth,
)
from model.positioning.radio import delay_taps
from model.positioning.room import Room
from model.positioning.simulation import simulate
from model.positioning.sionna_room import SionnaRoom
from model.positioning.splits import make_split
from model.positioning.trajectories import Trajectory, read_trajectories

__all__ = ["PreparationOptions", "prepare_measured", "prepare_synthetic"]

_SYNTHETIC = "real paths of the LuViRA robot, synthetic channels"
_MEASURED = "real paths, measured channels"
_SIMULATORS = ("room", "sionna")


@dataclass(frozen=True, kw_only=True)
class PreparationOptions:
    """What both kinds of data are asked for.

    Parameters
    ----------
    split : name in :data:`model.positioning.splits.SPLITS`
    every : take every n-th frame
    constants : file of feature constants of an earlier data set, None to make them
    out : folder; taps that are there already are kept
    """

    split: str
    every: int
    constants: Path | None
    out: Path

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"--every {self.every} must be at least 1")


def prepare_synthetic(
    trajectories: Path,
    options: PreparationOptions,
    *,
    simulator: str,
    signal_to_noise: float,
    seed: int,
    workers: int | None,
) -> Dataset:
    """Compute channels along the paths of a file and write a prepared folder.

    Parameters
    ----------
    trajectories : see :mod:`model.positioning.trajectories`
    simulator : ``room``, or ``sionna`` for :mod:`model.positioning.sionna_room`
    signal_to_noise : decibels at 3 m
    seed : of scatterers and noise
    workers : processes, None for one a processor

    Raises
    ------
    InputError
        If the file, the split or a value cannot be used.
    """
    paths, rate = read_trajectories(trajectories)
    paths = [path.every(options.every) for path in paths]
    split = make_split(options.split, paths)
    try:
        room = Room(signal_to_noise=signal_to_noise, seed=seed)
    except ValueError as error:
        raise InputError(str(error)) from error
    if simulator not in _SIMULATORS:
        raise InputError(f"--simulator {simulator} is unknown, known: {', '.join(_SIMULATORS)}")
    model = SionnaRoom(room) if simulator == "sionna" else room
    simulate(paths, model, seed=seed, out=options.out, workers=workers)
    description: dict[str, Any] = {
        "origin": _SYNTHETIC,
        "rate_hz": rate / options.every,
        "split_name": options.split,
        "simulator": simulator,
        "seed": seed,
        "room": dataclasses.asdict(room),
        "trajectories_sha256": digest(trajectories.read_bytes()),
    }
    return write_dataset(options.out, paths, split, description, options.constants)


def prepare_measured(
    radio: Path, truth: Path, options: PreparationOptions, *, align: Alignment
) -> Dataset:
    """Read a LuViRA folder of radio files and one of ground truth, and write a prepared folder.

    See :mod:`model.positioning.luvira`.

    Raises
    ------
    InputError
        If a folder, a file, the split or ``align`` cannot be used.
    """
    if align not in ALIGNMENTS:
        raise InputError(f"--align {align} is unknown, known: {', '.join(ALIGNMENTS)}")
    paths = []
    for name, kind, radio_file, truth_file in track(
        pair_files(radio, truth), "reading", console=Console(stderr=True)
    ):
        file = read_radio(radio_file)
        place, measured = places_of_frames(
            name, len(file.channel), file.times, read_truth(truth_file), align
        )
        kept = np.flatnonzero(measured)
        if not len(kept):
            raise InputError(
                f"{name}: no frame has ground truth; check that the files belong together"
            )
        gaps = tuple(int(row) for row in np.flatnonzero(np.diff(kept) > 1))
        path = Trajectory(name=name, kind=kind, xy=place[kept].astype(np.float32), gaps=gaps)
        taps = io.BytesIO()
        np.save(taps, delay_taps(file.channel[kept][:: options.every]))
        atomic_write(options.out / "taps" / f"{name}.npy", taps.getvalue())
        paths.append(path.every(options.every))
    description: dict[str, Any] = {
        "origin": _MEASURED,
        "rate_hz": RATE / options.every,
        "split_name": options.split,
        "align": align,
    }
    split = make_split(options.split, paths)
    return write_dataset(options.out, paths, split, description, options.constants)
