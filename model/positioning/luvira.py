"""Reads the LuViRA layout: radio ``.mat`` files and ground-truth ``.csv`` files, and pairs them.

Radio: one ``.mat`` a trajectory with a complex array (time, 100 frequency points, 100 antennas),
100 frames a second. Old files (to version 7) are read by SciPy, those of version 7.3, which
MATLAB writes for arrays beyond 2 GB and which are HDF5 with the axes reversed, by h5py: neither
package reads the other kind. Ground truth: one ``.csv`` a trajectory of the radio antenna, columns
time, X, Y, Z, ... in seconds and millimetres.

Published pitfalls that are avoided here. Files are paired by the whole name, not by the last
number in it, which confuses random drives. Frames get places by time: interpolated at the frames'
times, not by row number after rows were dropped. Where the radio has no time stamps and the two
parts differ in length, nothing tells which ends belong together; the reader then asks for
``--align`` instead of assuming that both start together, which can shift places by a second.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from model.positioning.radio import ANTENNAS, SUBCARRIERS, Complexes, Reals

__all__ = ["ALIGNMENTS", "RATE", "Alignment", "RadioFile", "pair_files", "places_of_frames",
           "read_radio", "read_truth"]  # fmt: skip

Alignment = Literal["strict", "start", "middle", "end"]
ALIGNMENTS = ("strict", "start", "middle", "end")

RATE = 100.0  # frames a second
_NAMES = ("H_ueprocess", "H", "Yc", "CSI", "CIR")
_TIMES = ("timestamp", "timestamps", "time", "t", "ts")
_TOLERANCE = 10  # frames by which the parts may differ in length and still be one crop
_FARTHEST = 0.05  # s from a frame to the nearest row of ground truth
_HDF5 = b"MATLAB 7.3"


@dataclass(frozen=True)
class RadioFile:
    """Channels (n, 100, 100) of one trajectory, and times (n,) in seconds if the file has any."""

    channel: Complexes
    times: Reals | None


def read_radio(path: Path) -> RadioFile:
    """Read a radio file.

    Raises
    ------
    InputError
        If it is missing or damaged, holds no complex array of the layout, or NaN.
    """
    variables = _read_variables(path)
    name, array = _choose_array(path, variables)
    channel = _time_first(path, name, array)
    bad = int(np.count_nonzero(~np.isfinite(channel).all(axis=(1, 2))))
    if bad:
        raise InputError(f"{path}: {name} has NaN or infinite values in {bad} frames; remove them")
    times = next((variables[key] for key in _TIMES if key in variables), None)
    if times is not None:
        times = np.asarray(times, float).ravel()
        if len(times) != len(channel) or not (np.diff(times) > 0).all():
            raise InputError(
                f"{path}: {len(times)} time stamps for {len(channel)} frames, or not increasing; "
                "correct or remove them"
            )
    return RadioFile(channel.astype(np.complex64), times)


def _read_variables(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the numeric arrays of a ``.mat`` file in MATLAB's order of axes."""
    if not path.is_file():
        raise InputError(f"no radio file {path}")
    with path.open("rb") as stream:
        header = stream.read(len(_HDF5))
    try:
        return _read_hdf5(path) if header == _HDF5 else _read_old(path)
    except ImportError as error:
        raise InputError(
            f"{path} needs the package {error.name}; pip install scipy h5py"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise InputError(f"{path} is no readable .mat file ({error}); copy it again") from error


def _read_old(path: Path) -> dict[str, npt.NDArray[Any]]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content: Mapping[str, Any] = loadmat(path)
    except MatReadError as error:
        raise ValueError(str(error)) from error
    return {
        key: value
        for key, value in content.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fciu"
    }


def _read_hdf5(path: Path) -> dict[str, npt.NDArray[Any]]:
    import h5py

    found: dict[str, npt.NDArray[Any]] = {}
    with h5py.File(path, "r") as file:
        for key, dataset in file.items():
            if not isinstance(dataset, h5py.Dataset):
                continue
            value = dataset[()]
            if value.dtype.names == ("real", "imag"):  # MATLAB's complex numbers in HDF5
                value = value["real"] + 1j * value["imag"]
            if value.dtype.kind in "fciu":
                found[key] = value.T
    return found


def _choose_array(
    path: Path, variables: Mapping[str, npt.NDArray[Any]]
) -> tuple[str, npt.NDArray[Any]]:
    """Return the channel array: by its usual names, else the largest array of three axes."""
    for name in _NAMES:
        if name in variables and variables[name].ndim == 3:
            return name, variables[name]
        real, imaginary = variables.get(f"{name}_real"), variables.get(f"{name}_imag")
        if real is not None and imaginary is not None and real.shape == imaginary.shape:
            return f"{name}_real", real + 1j * imaginary
    cubes = {name: value for name, value in variables.items() if value.ndim == 3}
    if not cubes:
        raise InputError(
            f"{path} holds {sorted(variables)}, no array (time, frequency, antenna); "
            f"name it {_NAMES[0]}"
        )
    name = max(cubes, key=lambda key: cubes[key].size)
    return name, cubes[name]


def _time_first(path: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array as (time, frequency, antenna); another axis of time is moved first."""
    if not np.iscomplexobj(array):
        raise InputError(f"{path}: {name} is real, expected complex channels")
    if array.shape[1:] != (SUBCARRIERS, ANTENNAS):
        others = [axis for axis, size in enumerate(array.shape) if size != SUBCARRIERS]
        if array.ndim == 3 and len(others) == 1:
            array = np.moveaxis(array, others[0], 0)
    if array.ndim != 3 or array.shape[1:] != (SUBCARRIERS, ANTENNAS) or not len(array):
        raise InputError(
            f"{path}: {name} has shape {array.shape}, "
            f"expected (time, {SUBCARRIERS}, {ANTENNAS}) and not empty"
        )
    return array


def read_truth(path: Path) -> tuple[Reals, Reals]:
    """Return times (n,) in seconds, from the first on, and places (n, 2) in metres.

    Rows with a value that is no number are left out, and rows are sorted by time.

    Raises
    ------
    InputError
        If the file is missing, has fewer than two rows, or does not step by about 0.01 s.
    """
    if not path.is_file():
        raise InputError(f"no ground-truth file {path}")
    rows = []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        for row in csv.reader(stream):
            try:
                values = [float(cell) for cell in row[:3]]
            except ValueError:
                continue  # the header, or a row without a measurement
            if len(values) == 3 and all(map(math.isfinite, values)):
                rows.append(values)
    if len(rows) < 2:
        raise InputError(
            f"{path} has {len(rows)} rows of time, X, Y, expected columns in that order"
        )
    table = np.array(sorted(rows))
    times = table[:, 0] - table[0, 0]
    step = float(np.median(np.diff(times)))
    if not 0.5 < step * RATE < 2.0:
        raise InputError(
            f"{path}: time stamps step by {step:g}, expected about {1 / RATE:g} s; "
            "write them in seconds"
        )
    return times, table[:, 1:] / 1000.0


def places_of_frames(
    name: str, frames: int, radio_times: Reals | None, truth: tuple[Reals, Reals], align: Alignment
) -> tuple[Reals, npt.NDArray[np.bool_]]:
    """Return the place (n, 2) of every frame and whether ground truth was measured there.

    Parameters
    ----------
    frames : n, frames of the radio part
    radio_times : of the frames, seconds on the radio's own clock; None for 100 a second
    truth : see :func:`read_truth`
    align : which part of the longer one belongs to the shorter one, ``strict`` for equal lengths

    Raises
    ------
    InputError
        If the lengths differ and ``align`` is ``strict``.
    """
    times, places = truth
    own = np.arange(frames) / RATE if radio_times is None else radio_times - radio_times[0]
    excess = times[-1] - own[-1]  # s by which the ground truth is longer
    if align == "strict" and abs(excess) * RATE > _TOLERANCE:
        raise InputError(
            f"{name}: radio lasts {own[-1]:.2f} s, ground truth {times[-1]:.2f} s; "
            f"say which ends belong together, --align {'|'.join(ALIGNMENTS[1:])}"
        )
    shift = {"strict": 0.0, "start": 0.0, "middle": excess / 2, "end": excess}[align]
    at = own + shift
    place = np.stack([np.interp(at, times, column) for column in places.T], axis=1)
    after = np.clip(np.searchsorted(times, at), 1, len(times) - 1)
    nearest = np.minimum(np.abs(at - times[after - 1]), np.abs(at - times[after]))
    return place, nearest <= _FARTHEST


def pair_files(radio: Path, truth: Path) -> list[tuple[str, str, Path, Path]]:
    """Return (name, kind, radio file, ground-truth file) of every trajectory.

    Grids are paired by number (``Grid101.mat``, ``Grid0101.csv``), all others by their whole name.

    Raises
    ------
    InputError
        If a folder is missing or empty, two files have one name, or a radio file has no partner.
    """
    radios, truths = _files(radio, ".mat"), _files(truth, ".csv")
    missing = sorted(set(radios) - set(truths))
    if missing:
        raise InputError(
            f"{len(missing)} radio files have no ground truth in {truth}, "
            f"the first is {radios[missing[0]].name}; add or remove it"
        )
    return [
        (key, "grid" if key.startswith("Grid") else "random", path, truths[key])
        for key, path in sorted(radios.items())
    ]


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    """Return the files of a folder by the name of their trajectory."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; name the one with the {suffix} files")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob(f"*{suffix}")):
        key = _key(path.stem)
        if key in found:
            raise InputError(f"{found[key]} and {path} are both {key}; leave one in the folder")
        found[key] = path
    if not found:
        raise InputError(f"folder {folder} holds no {suffix} files")
    return found


def _key(stem: str) -> str:
    """Return the common name: ``Grid101`` of any spelling, else the words in lower case."""
    grid = re.fullmatch(r"grid[ _-]*0*(\d+)", stem, re.IGNORECASE)
    if grid:
        return f"Grid{grid[1]}"
    return "_".join(re.findall(r"[a-z]+|\d+", stem.lower()))
