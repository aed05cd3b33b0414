"""A prepared data set: a folder of taps and places, with its split and feature constants.

``dataset.json`` says where the data come from and how they are split, ``constants.safetensors`` is
:class:`model.positioning.features.FeatureConstants`, ``taps/<name>.npy`` complex64 (n, 10, 100)
and ``places.npz`` float32 (n, 2) of every trajectory. Features are computed from the taps when they
are read.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.command import atomic_write, digest
from golden.errors import InputError
from model.positioning.features import FEATURES, FeatureConstants, Floats, constants_of
from model.positioning.radio import ANTENNAS, TAPS, Complexes
from model.positioning.trajectories import Trajectory

__all__ = ["CONTEXT", "Dataset", "Windows", "read_dataset", "write_dataset"]

CONTEXT = 16
"""Windows of any length end in the same frames: those with 16 frames behind them."""
_REMEDY = "prepare it: python -m model.positioning prepare"
_VERSION = 1


@dataclass(frozen=True)
class Windows:
    """Frames of some trajectories, one after the other, and where windows end in them.

    Parameters
    ----------
    features : (frames, 2100)
    places : (frames, 2), metres
    ends : (windows,), rows of a window's last frame, whose place is the window's label
    segments : (windows, 2), first and last row of the drive without gaps that a window is in
    starts : (trajectories + 1,), windows of trajectory i are ``starts[i]:starts[i + 1]``
    names : of the trajectories
    """

    features: Floats
    places: Floats
    ends: npt.NDArray[np.int64]
    segments: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def labels(self) -> Floats:
        """Places (windows, 2) that the network is to find."""
        return self.places[self.ends]


@dataclass(frozen=True)
class Dataset:
    """A prepared folder; taps are read when they are asked for."""

    path: Path
    manifest: dict[str, Any]
    constants: FeatureConstants
    trajectories: dict[str, Trajectory]

    @property
    def origin(self) -> str:
        """One line that says what is real and what is not; every figure carries it."""
        return str(self.manifest["origin"])

    def taps(self, name: str) -> Complexes:
        """Return the taps (n, 10, 100) of a trajectory."""
        return read_taps(self.path, name, len(self.trajectories[name].xy))

    def windows(self, part: str) -> Windows:
        """Return the frames and windows of a part of the split."""
        names = tuple(self.manifest["split"][part])
        trajectories = [self.trajectories[name] for name in names]
        row, ends, segments = 0, [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
        for trajectory in trajectories:
            own = window_ends(len(trajectory.xy), trajectory.gaps)
            ends.append(row + own)
            segments.append(row + window_segments(own, len(trajectory.xy), trajectory.gaps))
            row += len(trajectory.xy)
        return Windows(
            features=np.concatenate(
                [np.zeros((0, FEATURES), np.float32)]
                + [self.constants.features(self.taps(name)) for name in names]
            ),
            places=np.concatenate([np.zeros((0, 2), np.float32)] + [t.xy for t in trajectories]),
            ends=np.concatenate(ends),
            segments=np.concatenate(segments),
            starts=np.cumsum([len(own) for own in ends]),
            names=names,
        )


def window_ends(rows: int, gaps: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the rows in which windows may end: with a context of frames and no gap in it."""
    ends = np.arange(CONTEXT - 1, rows)
    for gap in gaps:
        ends = ends[(ends <= gap) | (ends >= gap + CONTEXT)]
    return ends


def window_segments(
    ends: npt.NDArray[np.int64], rows: int, gaps: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Return first and last row (windows, 2) of the part between gaps that every window is in."""
    first = np.array([0, *(gap + 1 for gap in sorted(gaps))])
    last = np.array([*sorted(gaps), rows - 1])
    part = np.searchsorted(first, ends, side="right") - 1
    return np.stack([first[part], last[part]], axis=1)


def read_taps(path: Path, name: str, rows: int) -> Complexes:
    """Return the taps of one trajectory of a prepared folder.

    Raises
    ------
    InputError
        If the file is missing, of another shape, or not finite.
    """
    file = path / "taps" / f"{name}.npy"
    try:
        taps = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file} cannot be read ({error}); {_REMEDY}") from error
    if taps.shape != (rows, TAPS, ANTENNAS) or taps.dtype != np.complex64:
        raise InputError(
            f"{file} holds {taps.dtype} {taps.shape}, expected complex64 "
            f"{(rows, TAPS, ANTENNAS)}; {_REMEDY}"
        )
    if not np.isfinite(taps).all():
        raise InputError(f"{file} holds NaN or infinite taps; {_REMEDY}")
    return taps


def write_dataset(
    path: Path,
    trajectories: Sequence[Trajectory],
    split: dict[str, list[str]],
    description: dict[str, Any],
    earlier: Path | None = None,
) -> Dataset:
    """Complete a folder whose taps are written: constants, places and description.

    ``description`` has at least ``origin`` and ``rate_hz``. Networks that were trained with other
    constants need those: ``earlier`` is their file.
    """
    rows = {t.name: len(t.xy) for t in trajectories}
    constants = (
        FeatureConstants.read(earlier)
        if earlier
        else constants_of(split["train"], lambda name: read_taps(path, name, rows[name]))
    )
    content = constants.to_bytes()
    atomic_write(path / "constants.safetensors", content)
    places = io.BytesIO()
    arrays: dict[str, Any] = {t.name: t.xy.astype(np.float32) for t in trajectories}
    np.savez(places, **arrays)
    atomic_write(path / "places.npz", places.getvalue())
    manifest = description | {
        "version": _VERSION,
        "split": split,
        "trajectories": {t.name: {"kind": t.kind, "gaps": t.gaps} for t in trajectories},
        "constants_sha256": digest(content),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    atomic_write(path / "dataset.json", text.encode())  # last: it says that the folder is whole
    return read_dataset(path)


def read_dataset(path: Path) -> Dataset:
    """Read a prepared folder.

    Raises
    ------
    InputError
        If it is missing, incomplete, of another version, or its constants are not its own.
    """
    try:
        manifest = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
        constants = FeatureConstants.read(path / "constants.safetensors")
        sha256 = digest((path / "constants.safetensors").read_bytes())
        if manifest["version"] != _VERSION or manifest["constants_sha256"] != sha256:
            raise ValueError("another version, or constants that were exchanged")
        with np.load(path / "places.npz", allow_pickle=False) as places:
            trajectories = {
                name: Trajectory(
                    name=name, kind=own["kind"], xy=places[name], gaps=tuple(own["gaps"])
                )
                for name, own in manifest["trajectories"].items()
            }
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no prepared data set ({error}); {_REMEDY}") from error
    return Dataset(path, manifest, constants, trajectories)
