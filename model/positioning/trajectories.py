"""Positions of the robot: sequences of x, y in metres, from the published ``.npz`` of real paths.

The file holds ``ids``, ``kind`` (``grid`` or ``random``), ``gap_after_row`` (-1 for none),
``rate_hz`` and one ``xy_<id>`` (n, 2) a trajectory.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from golden.errors import InputError

__all__ = ["Trajectory", "read_trajectories"]


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One drive of the robot.

    Parameters
    ----------
    name : such as ``Grid101`` or ``Random_circle1``
    kind : ``grid`` or ``random``
    xy : places (n, 2), metres, at a uniform rate
    gaps : rows after which rows are missing
    """

    name: str
    kind: str
    xy: npt.NDArray[np.float32]
    gaps: tuple[int, ...] = ()

    def every(self, step: int) -> Trajectory:
        """Return every ``step``-th row."""
        gaps = tuple(gap // step for gap in self.gaps)
        return Trajectory(name=self.name, kind=self.kind, xy=self.xy[::step], gaps=gaps)


def read_trajectories(path: Path) -> tuple[list[Trajectory], float]:
    """Return the trajectories of a file and their rate in hertz.

    Raises
    ------
    InputError
        If the file is missing or damaged, or a trajectory is empty or not finite.
    """
    remedy = "give --trajectories FILE with ids, kind, gap_after_row, rate_hz and xy_<id>"
    if not path.is_file():
        raise InputError(f"no file {path}; {remedy}")
    try:
        with np.load(path, allow_pickle=False) as content:
            rate = float(content["rate_hz"])
            rows = zip(content["ids"], content["kind"], content["gap_after_row"], strict=True)
            trajectories = [
                Trajectory(
                    name=str(name),
                    kind=str(kind),
                    xy=content[f"xy_{name}"],
                    gaps=(int(gap),) if gap >= 0 else (),
                )
                for name, kind, gap in rows
            ]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).strip("'\"")
        raise InputError(f"{path} cannot be used: {reason}; {remedy}") from error
    for trajectory in trajectories:
        check_places(trajectory.name, trajectory.xy)
    if not trajectories:
        raise InputError(f"{path} holds no trajectory; {remedy}")
    return trajectories, rate


def check_places(name: str, xy: npt.NDArray[np.float32]) -> None:
    """Refuse places that are no finite (n, 2), n > 0."""
    if xy.ndim != 2 or xy.shape[1] != 2 or not len(xy):
        raise InputError(f"{name}: positions have shape {xy.shape}, must be (n, 2) and not empty")
    bad = int(np.count_nonzero(~np.isfinite(xy).all(axis=1)))
    if bad:
        raise InputError(f"{name}: {bad} of {len(xy)} positions are NaN or infinite; remove them")
