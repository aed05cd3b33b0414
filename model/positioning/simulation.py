"""Synthetic taps along real paths: many processes, resumable, the same for any number of them."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from golden.command import atomic_write, digest
from golden.errors import InputError
from model.positioning.radio import Complexes, delay_taps
from model.positioning.room import Room, add_noise
from model.positioning.sionna_room import SionnaRoom
from model.positioning.trajectories import Trajectory

__all__ = ["simulate", "simulated_taps"]

_BLOCK = 16  # places at a time: their paths fit the cache


def simulated_taps(simulator: Room | SionnaRoom, trajectory: Trajectory, seed: int) -> Complexes:
    """Return noisy taps (n, 10, 100) along a path; noise follows from the seed and the name."""
    generator = np.random.default_rng([seed, zlib.crc32(trajectory.name.encode())])
    noisy = not np.isinf(_room(simulator).signal_to_noise)
    blocks = []
    for start in range(0, len(trajectory.xy), _BLOCK):
        channel = simulator.channel(trajectory.xy[start : start + _BLOCK].astype(float))
        blocks.append(delay_taps(add_noise(channel, generator) if noisy else channel))
    return np.concatenate(blocks)


def simulate(
    trajectories: Sequence[Trajectory],
    simulator: Room | SionnaRoom,
    *,
    seed: int,
    out: Path,
    workers: int | None,
) -> None:
    """Write ``taps/<name>.npy`` of every trajectory that has none yet.

    Parameters
    ----------
    seed : of the noise
    out : folder; ``simulation.json`` in it says what its taps were made with
    workers : processes, None for one a processor; Sionna shares its work out itself

    Raises
    ------
    InputError
        If the folder holds taps that were made with other parameters, or a path leaves the room.
    """
    room = _room(simulator)
    for trajectory in trajectories:
        if not room.holds(trajectory.xy):
            raise InputError(
                f"{trajectory.name} leaves the room {room.low} to {room.high}; correct the path"
            )
    places = b"".join(t.name.encode() + t.xy.tobytes() for t in trajectories)
    record = {
        "simulator": type(simulator).__name__, "room": dataclasses.asdict(room), "seed": seed,
        "places_sha256": digest(places),
    }  # fmt: skip
    text = json.dumps(record, indent=1) + "\n"
    kept = out / "simulation.json"
    if kept.is_file() and kept.read_text(encoding="utf-8") != text:
        raise InputError(f"{out} holds taps made with other parameters; name a new --out")
    atomic_write(kept, text.encode())
    missing = [t for t in trajectories if not _place(out, t).is_file()]
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        done = len(trajectories) - len(missing)
        task = progress.add_task("simulating", total=len(trajectories), completed=done)
        for _ in _run(simulator, missing, seed, out, workers or os.cpu_count() or 1):
            progress.advance(task)


def _run(
    simulator: Room | SionnaRoom,
    missing: Sequence[Trajectory],
    seed: int,
    out: Path,
    workers: int,
) -> Iterator[None]:
    """Simulate trajectories, yielding after each."""
    if workers == 1 or len(missing) < 2 or isinstance(simulator, SionnaRoom):
        for trajectory in missing:
            _one(simulator, trajectory, seed, out)
            yield
        return
    with ProcessPoolExecutor(min(workers, len(missing))) as pool:
        jobs = [pool.submit(_one, simulator, trajectory, seed, out) for trajectory in missing]
        for job in as_completed(jobs):
            yield job.result()


def _room(simulator: Room | SionnaRoom) -> Room:
    return simulator.room if isinstance(simulator, SionnaRoom) else simulator


def _place(out: Path, trajectory: Trajectory) -> Path:
    return out / "taps" / f"{trajectory.name}.npy"


def _one(simulator: Room | SionnaRoom, trajectory: Trajectory, seed: int, out: Path) -> None:
    """Simulate one trajectory."""
    buffer = io.BytesIO()
    np.save(buffer, simulated_taps(simulator, trajectory, seed))
    atomic_write(_place(out, trajectory), buffer.getvalue())
