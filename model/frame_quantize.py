"""What ``python -m model.quantize`` does for a frame preset: calibration frames and artifact."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console

from golden.artifact import save_program
from golden.errors import InputError
from golden.scheme import Scheme
from model.frame_parameters import extract_frame_parameters
from model.frame_quantizer import quantize_frames
from model.quantizer import QuantizationChoice
from model.radar import read_radar
from model.sources import find_frame_network

__all__ = ["CALIBRATION_FRAMES", "write_frame_program"]

CALIBRATION_FRAMES = 4096


def write_frame_program(
    preset: str,
    checkpoint: Path | None,
    scheme: Scheme,
    choice: QuantizationChoice,
    data: Path | None,
    frames: int,
    out: Path,
) -> str:
    """Quantize the frame network of ``preset`` or ``checkpoint``; return the artifact's SHA-256.

    Parameters
    ----------
    data : the radar data set, of whose training split ``frames`` random ones calibrate
    out : artifact to write

    Raises
    ------
    InputError
        If checkpoint or data cannot be used, or ``frames`` is not in 1..rows of the split.
    """
    source, radar = find_frame_network(preset, checkpoint), read_radar(data)
    features = radar["train"].features(source.network.frame)
    if not 1 <= frames <= len(features):
        raise InputError(
            f"calibration frames = {frames} is outside 1..{len(features)}, the training split; "
            "choose a number in that range"
        )
    rows = np.random.default_rng(choice.seed).permutation(len(features))[:frames]
    provenance: dict[str, object] = {
        "source": "model.quantize",
        "seed": choice.seed,
        "calibration_frames": frames,
        "options": dataclasses.asdict(choice),
        "data_sha256": radar.digest,
        **source.description,
    }
    with Console(stderr=True).status("quantizing") as status:
        program = quantize_frames(
            extract_frame_parameters(source.network),
            scheme,
            features[np.sort(rows)],
            choice,
            provenance,
            lambda part: status.update(f"quantizing {part}"),
        )
    return save_program(program, out)
