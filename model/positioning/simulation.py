"""Synthetic taps along real paths: many processes, resumable, the same for any number of them."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from golden.command import atomic_write
from golden.errors import InputError
from model.positioning.radio import Complexes, delay_taps
from model.positioning.room import Room, add_noise
from model.positioning.trajectories import Trajectory

__all__ = ["simulate", "simulated_taps"]

_BLOCK = 16  # places at a time: their paths fit the cache


def simulated_taps(room: Room, trajectory: Trajectory, seed: int) -> Complexes:
    """Return noisy taps (n, 10, 100) along a path; noise follows from the seed and the name."""
    generator = np.random.default_rng([seed, zlib.crc32(trajectory.name.encode())])
    noisy = not np.isinf(room.signal_to_noise)
    blocks = []
    for start in range(0, len(trajectory.xy), _BLOCK):
        channel = room.channel(trajectory.xy[start : start + _BLOCK].astype(float))
        blocks.append(delay_taps(add_noise(channel, generator) if noisy else channel))
    return np.concatenate(blocks)


def simulate(
    trajectories: Sequence[Trajectory], room: Room, *, seed: int, out: Path, workers: int | None
) -> None:
    """Write ``taps/<name>.npy`` of every trajectory that has none yet.

    Parameters
    ----------
    seed : of the noise
    out : folder; ``simulation.json`` in it says what its taps were made with
    workers : processes; None for one a processor

    Raises
    ------
    InputError
        If the folder holds taps that were made with other parameters, or a path leaves the room.
    """
    for trajectory in trajectories:
        if not room.holds(trajectory.xy):
            raise InputError(
                f"{trajectory.name} leaves the room {room.low} to {room.high}; correct the path"
            )
    record = json.dumps({"room": dataclasses.asdict(room), "seed": seed}, indent=1) + "\n"
    kept = out / "simulation.json"
    if kept.is_file() and kept.read_text(encoding="utf-8") != record:
        raise InputError(f"{out} holds taps made with other parameters; name a new --out")
    atomic_write(kept, record.encode())
    missing = [t for t in trajectories if not _place(out, t).is_file()]
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    count = max(1, min(workers or os.cpu_count() or 1, len(missing)))
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        ProcessPoolExecutor(count) as pool,
    ):
        task = progress.add_task(
            "simulating", total=len(trajectories), completed=len(trajectories) - len(missing)
        )
        jobs = [pool.submit(_one, room, trajectory, seed, out) for trajectory in missing]
        for job in as_completed(jobs):
            job.result()
            progress.advance(task)


def _place(out: Path, trajectory: Trajectory) -> Path:
    return out / "taps" / f"{trajectory.name}.npy"


def _one(room: Room, trajectory: Trajectory, seed: int, out: Path) -> None:
    """Simulate one trajectory, in a process of its own."""
    buffer = io.BytesIO()
    np.save(buffer, simulated_taps(room, trajectory, seed))
    atomic_write(_place(out, trajectory), buffer.getvalue())
