"""The MARS data set: radar point clouds of people and the positions of their joints.

S. An and U. Y. Ogras, MARS: mmWave-based Assistive Rehabilitation System for Smart Healthcare, ACM
TECS 20(5s), 2021, doi 10.1145/3477003; data of the repository SizheAn/MARS. One ``.npz`` file holds
``x_<split>`` (rows, 8, 8, 5), the up to 64 points of a frame, sorted by x, each x, y, z, Doppler
velocity and intensity, unused ones all zero; ``y_<split>`` (rows, 57), the X, Y and Z of 19 joints
in metres; and ``subject_<split>`` (rows,), for the splits train, validate and test.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.configuration import FrameShape
from golden.errors import InputError

__all__ = ["ORIGIN", "RadarData", "RadarSplit", "read_radar", "root_mean_square_error"]

Reals = npt.NDArray[np.float32]

POINTS, POINT_FEATURES, OUTPUTS = 64, 5, 57
SPLITS = ("train", "validate", "test")
ORIGIN = "the MARS data set (github.com/SizheAn/MARS, doi 10.1145/3477003) as one .npz file"
CENTRE = np.array([0.0, 1.7, 0.3, 0.0, 0.0], np.float32)
"""Where people stand: taken from every point in use, so that an unused one is an average one."""
_CENTIMETRES = 100.0


@dataclass(frozen=True)
class RadarSplit:
    """Frames of one split.

    Parameters
    ----------
    points : those in use less :data:`CENTRE`, unused ones zero, (rows, 64, 5) float32
    labels : metres, (rows, 57) float32
    subject : (rows,)
    """

    points: Reals
    labels: Reals
    subject: npt.NDArray[np.int64]

    def features(self, frame: FrameShape) -> Reals:
        """Return the points as tokens of ``frame`` in the stored order, (rows, T, F).

        Raises
        ------
        InputError
            If the frame has another number of values.
        """
        if frame.tokens * frame.features != POINTS * POINT_FEATURES:
            raise InputError(
                f"{frame.tokens} tokens of {frame.features} features are not the "
                f"{POINTS} points of {POINT_FEATURES} of a radar frame; use the preset mars"
            )
        return self.points.reshape(-1, frame.tokens, frame.features)


@dataclass(frozen=True)
class RadarData:
    """The data set: its splits by name and the SHA-256 of its file."""

    splits: Mapping[str, RadarSplit]
    digest: str

    def __getitem__(self, split: str) -> RadarSplit:
        return self.splits[split]


def read_radar(path: Path | None) -> RadarData:
    """Read the data set.

    Raises
    ------
    InputError
        If no file is named or there is none, it is no such ``.npz`` file, or an array is missing,
        of another shape or not finite; the message names the data set's origin.
    """
    if path is None or not path.is_file():
        where = "no --data given" if path is None else f"no file {path}"
        raise InputError(f"{where}; give --data FILE with {ORIGIN}")
    try:
        with np.load(path, allow_pickle=False) as content:
            splits = {name: _split(content, name) for name in SPLITS}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).strip("'\"")
        raise InputError(f"{path} cannot be used: {reason}; give {ORIGIN}") from error
    return RadarData(splits, hashlib.sha256(path.read_bytes()).hexdigest())


def _split(content: Mapping[str, Any], name: str) -> RadarSplit:
    x, y, subject = (content[f"{part}_{name}"] for part in ("x", "y", "subject"))
    rows = len(y) if y.ndim else 0
    for part, array, shape in (
        ("x", x, (rows, 8, 8, POINT_FEATURES)),
        ("y", y, (rows, OUTPUTS)),
        ("subject", subject, (rows,)),
    ):
        if array.shape != shape or not rows:
            raise ValueError(f"{part}_{name} has shape {array.shape}, not {shape} of 1 row or more")
        if not np.isfinite(array).all():
            raise ValueError(f"{part}_{name} holds NaN or infinite values")
    points = x.reshape(rows, POINTS, POINT_FEATURES)
    used = points[..., 4:] != 0  # a real point never has intensity 0
    return RadarSplit(
        points=np.ascontiguousarray((points - CENTRE) * used, np.float32),
        labels=np.ascontiguousarray(y, np.float32),
        subject=subject.astype(np.int64),
    )


def root_mean_square_error(outputs: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the mean over the coordinates of their root mean square errors, in centimetres.

    Outputs and labels (rows, 57) are in metres; this is the figure of the MARS paper.
    """
    error = np.asarray(outputs, dtype=float) - np.asarray(labels, dtype=float)
    return float(_CENTIMETRES * np.sqrt(np.square(error).mean(axis=0)).mean())


def mean_absolute_error(outputs: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the mean absolute error over all coordinates, in centimetres."""
    error = np.asarray(outputs, dtype=float) - np.asarray(labels, dtype=float)
    return float(_CENTIMETRES * np.abs(error).mean())
