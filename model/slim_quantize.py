"""What ``python -m model.quantize`` does for a positioning preset: windows in, artifact out."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from golden.artifact import save_program
from golden.errors import InputError
from golden.scheme import Scheme
from model.positioning.dataset import Windows, read_dataset
from model.quantizer import QuantizationChoice
from model.slim_checkpoint import load_slim_checkpoint
from model.slim_parameters import extract_slim_parameters
from model.slim_quantizer import quantize_slim
from model.sources import CHECKPOINTS

__all__ = ["CALIBRATION_WINDOWS", "window_features", "write_slim_program"]

CALIBRATION_WINDOWS = 1024


def window_features(
    windows: Windows, ends: npt.NDArray[np.int64], length: int
) -> npt.NDArray[np.float32]:
    """Return the features (b, K, F) of the windows that end in rows ``ends`` (b)."""
    return windows.features[ends[:, None] + np.arange(1 - length, 1)]


def write_slim_program(
    preset: str,
    checkpoint: Path | None,
    scheme: Scheme,
    choice: QuantizationChoice,
    data: Path | None,
    count: int,
    out: Path,
) -> str:
    """Quantize a positioning network; return the artifact's SHA-256.

    Parameters
    ----------
    data : a folder of ``model.positioning prepare``, of whose training part ``count`` random
        windows calibrate
    out : artifact to write

    Raises
    ------
    InputError
        If checkpoint or data cannot be used, or there are fewer windows.
    """
    if data is None:
        raise InputError(
            f"preset {preset} is calibrated on channel features; give --data FOLDER of "
            "python -m model.positioning prepare"
        )
    path = checkpoint or CHECKPOINTS / f"{preset}.safetensors"
    network, dataset = load_slim_checkpoint(path), read_dataset(data)
    parameters = extract_slim_parameters(network)
    windows = dataset.windows("train")
    if not 1 <= count <= len(windows.ends):
        raise InputError(
            f"calibration windows = {count} is outside 1..{len(windows.ends)}, the training part; "
            "choose a number in that range"
        )
    ends = np.random.default_rng(choice.seed).permutation(windows.ends)[:count]
    features = window_features(windows, np.sort(ends), network.configuration.window)
    provenance: dict[str, object] = {
        "source": "model.quantize",
        "seed": choice.seed,
        "calibration_windows": count,
        "options": dataclasses.asdict(choice),
        "checkpoint": path.name,
        "checkpoint_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "origin": dataset.origin,
        "trajectories": list(windows.names),
        "constants_sha256": dataset.manifest["constants_sha256"],
    }
    with Console(stderr=True).status("quantizing") as status:
        program = quantize_slim(
            parameters,
            scheme,
            features,
            choice,
            provenance,
            lambda part: status.update(f"quantizing {part}"),
        )
    return save_program(program, out)
