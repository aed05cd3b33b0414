"""What ``python -m model.positioning train`` does: files, progress bar and record.

Writes ``<preset>.safetensors``, the moving average of the weights that was best on the validation
lines, whenever a better one is found, and ``<preset>.training.json`` at the end. The test parts are
not looked at. Weights are stored in half precision, which moves places by far less than the error.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from golden.command import atomic_write, digest
from golden.errors import InputError
from model.positioning.dataset import Dataset, read_dataset
from model.positioning.training import PositioningOptions, PositioningTrainer, new_network
from model.slim import SlimNetwork
from model.slim_checkpoint import load_slim_checkpoint, read_notes, slim_checkpoint_bytes
from model.slim_configuration import SlimConfiguration, slim_preset

__all__ = ["load_trained", "run_with_progress", "train_positioning"]

_PROGRESS_UNITS = 1000


def train_positioning(
    preset: str,
    chosen: dict[str, Any],
    data: Path,
    device: str,
    out: Path,
    every: int,
    checkpoint: Path | None = None,
) -> dict[str, Any]:
    """Train the network ``preset`` on a prepared folder and return the record that is written.

    Parameters
    ----------
    chosen : options of :class:`PositioningOptions` that differ from their defaults
    data : a folder of ``prepare``
    device : ``cpu`` or ``cuda``
    out : folder to write
    every : steps between measurements of the validation lines
    checkpoint : a network of the preset whose weights to go on with

    Raises
    ------
    InputError
        If preset, options, data or checkpoint cannot be used, or the training diverges.
    """
    configuration, options = _choose(preset, chosen)
    dataset = read_dataset(data)
    train, validate = dataset.windows("train"), dataset.windows("validate")
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    network = new_network(configuration, options, train)
    if checkpoint is not None:
        trained = load_trained(checkpoint, dataset)
        if trained.configuration != configuration:
            raise InputError(f"{checkpoint} has not the shape of {preset}; give its own --preset")
        network.load_state_dict(trained.state_dict())
    trainer = PositioningTrainer(network, options, train, validate, device)
    save = _Saver(out / f"{preset}.safetensors", dataset, trainer)
    curve = run_with_progress(trainer, every, save)
    record = {
        "unit": "metres",
        "origin": dataset.origin,
        "validation_error": trainer.best_error,
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "windows": {"train": len(train.ends), "validate": len(validate.ends)},
        "checkpoint_sha256": None if checkpoint is None else digest(checkpoint.read_bytes()),
        "steps": trainer.step,
        "configuration": dataclasses.asdict(configuration),
        "options": dataclasses.asdict(options),
        "constants_sha256": dataset.manifest["constants_sha256"],
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "torch": torch.__version__,
        "curve": curve,
    }
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    atomic_write(out / f"{preset}.training.json", text.encode())
    return record


def load_trained(path: Path, dataset: Dataset) -> SlimNetwork:
    """Return a checkpoint's network, which was trained with the feature constants of ``dataset``.

    Raises
    ------
    InputError
        If the checkpoint cannot be read, or was trained with others.
    """
    network = load_slim_checkpoint(path)
    expected = dataset.manifest["constants_sha256"]
    if read_notes(path).get("constants_sha256", expected) != expected:
        raise InputError(
            f"{path} was trained with other feature constants than those of {dataset.path}; "
            "prepare the data with --constants of its training"
        )
    return network


def _choose(preset: str, chosen: dict[str, Any]) -> tuple[SlimConfiguration, PositioningOptions]:
    try:
        return slim_preset(preset), PositioningOptions(**chosen)
    except ValueError as error:
        raise InputError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class _Saver:
    """Writes the best weights, so that a killed run loses little."""

    path: Path
    dataset: Dataset
    trainer: PositioningTrainer

    def __call__(self) -> None:
        network = self.trainer.best
        assert isinstance(network, SlimNetwork)  # what the trainer was made with
        notes = {
            "origin": self.dataset.origin,
            "constants_sha256": self.dataset.manifest["constants_sha256"],
        }
        atomic_write(self.path, slim_checkpoint_bytes(network, notes, torch.float16))


def run_with_progress(
    trainer: PositioningTrainer, every: int, save: Callable[[], None]
) -> list[dict[str, float]]:
    """Train with a progress bar and return the curve; ``save`` is called after every best."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    curve: list[dict[str, float]] = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=_PROGRESS_UNITS)
        last = None
        for loss in trainer.run():
            last = loss
            if trainer.step % every == 0:
                _measure(trainer, loss, curve, save)
                text = f"step {trainer.step} validate {curve[-1]['validate']:.4f} m"
                done = round(trainer.progress * _PROGRESS_UNITS)
                progress.update(task, completed=done, description=text)
        if last is not None and (not curve or curve[-1]["step"] != trainer.step):
            _measure(trainer, last, curve, save)
    return curve


def _measure(
    trainer: PositioningTrainer,
    loss: torch.Tensor,
    curve: list[dict[str, float]],
    save: Callable[[], None],
) -> None:
    """Append to the curve and save a network that is better than those before."""
    before, train = trainer.best_error, float(loss)
    validate = trainer.validate()
    if not math.isfinite(train + validate):
        raise InputError(
            f"training diverged at step {trainer.step} (loss {train}): lower --learning-rate"
        )
    curve.append({"step": trainer.step, "train": train, "validate": validate})
    if trainer.best_error < before:
        save()
