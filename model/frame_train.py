"""What ``python -m model.train`` does for a frame preset: files, progress bar and results.

Writes ``<preset>.safetensors``, the moving average of the weights that was best on the validation
split, and ``training.json`` with inputs, curve and results. The test split is measured once, at
the end, and decides nothing.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from golden.command import atomic_write
from golden.errors import InputError
from golden.presets import find_preset
from model.frame_training import FrameTrainer, FrameTrainingOptions, predict
from model.frames import frame_checkpoint_bytes
from model.radar import RadarData, mean_absolute_error, read_radar, root_mean_square_error

__all__ = ["train_frames"]


def train_frames(
    preset: str,
    chosen: dict[str, Any],
    data: Path | None,
    device: str,
    out: Path,
    every: int | None,
) -> dict[str, float]:
    """Train the frame network ``preset`` and return its errors in centimetres.

    Parameters
    ----------
    chosen : options of :class:`FrameTrainingOptions` that differ from their defaults
    data : the radar data set
    device : ``cpu`` or ``cuda``
    out : folder to write
    every : steps between measurements of the validation split; None for 40 a run

    Raises
    ------
    InputError
        If an option is unknown to frame networks or out of range, the data cannot be used, or the
        training diverges.
    """
    options, radar = _options(chosen), read_radar(data)
    trainer = FrameTrainer(find_preset(preset), options, radar, device)
    every = every or max(1, options.steps // 40)
    curve = _loop(trainer, every)
    network = trainer.best
    results = {"validate_rmse": trainer.best_error}
    test = radar["test"]
    outputs = predict(network, test).numpy()
    results["test_rmse"] = root_mean_square_error(outputs, test.labels)
    results["test_mae"] = mean_absolute_error(outputs, test.labels)
    atomic_write(out / f"{preset}.safetensors", frame_checkpoint_bytes(network))
    report = _report(trainer, radar, curve, results)
    text = json.dumps(report, indent=1, sort_keys=True) + "\n"
    atomic_write(out / "training.json", text.encode())
    return results


def _options(chosen: dict[str, Any]) -> FrameTrainingOptions:
    known = {field.name for field in dataclasses.fields(FrameTrainingOptions)}
    unknown = sorted(set(chosen) - known)
    if unknown:
        raise InputError(
            f"--{unknown[0].replace('_', '-')} is for language models; "
            "a frame network trains without it"
        )
    try:
        return FrameTrainingOptions(**chosen)
    except ValueError as error:
        raise InputError(str(error)) from error


def _loop(trainer: FrameTrainer, every: int) -> list[dict[str, float]]:
    """Train with a progress bar and return the curve."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    curve: list[dict[str, float]] = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=trainer.options.steps)
        for loss in trainer.run():
            progress.advance(task)
            if trainer.step % every and trainer.step < trainer.options.steps:
                continue
            train, validate = float(loss), trainer.validate()
            if not math.isfinite(train + validate):
                raise InputError(
                    f"training diverged at step {trainer.step} (loss {train}): "
                    "lower --learning-rate"
                )
            curve.append({"step": trainer.step, "train": train, "validate": validate})
            progress.update(task, description=f"step {trainer.step} validate {validate:.2f} cm")
    return curve


def _report(
    trainer: FrameTrainer,
    radar: RadarData,
    curve: list[dict[str, float]],
    results: dict[str, float],
) -> dict[str, Any]:
    device = trainer.device
    return {
        "unit": "centimetres",
        "results": results,
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "data_sha256": radar.digest,
        "rows": {name: len(split.labels) for name, split in radar.splits.items()},
        "shape": dataclasses.asdict(trainer.network.shape),
        "options": dataclasses.asdict(trainer.options),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "torch": torch.__version__,
        "curve": curve,
    }
