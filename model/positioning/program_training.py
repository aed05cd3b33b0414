"""What ``python -m model.positioning qat`` does: trains the integer graph of a program.

The loop, the data and their disturbances are those of the float network's training; see
:mod:`model.positioning.training`. The program that is best on the validation lines is written, that
it started from if none is better.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from golden.artifact import load_program, save_program
from golden.command import atomic_write
from golden.errors import InputError
from model.positioning.dataset import read_dataset
from model.positioning.train import run_with_progress
from model.positioning.training import PositioningOptions, PositioningTrainer
from model.quantized_slim import QuantizedSlim

__all__ = ["train_program"]

_USUAL = {
    "learning_rate": 3e-4, "weight_decay": 0.0, "warmup": 100, "averaging": 0.998, "noise": 0.05,
}  # fmt: skip
"""Options that differ from a float network's: the weights are trained already."""


def train_program(
    path: Path, chosen: dict[str, Any], data: Path, device: str, out: Path, every: int
) -> dict[str, Any]:
    """Train the weights of a program and return the record that is written beside the new one.

    Parameters
    ----------
    path : program of ``model.quantize``
    chosen : options of :class:`PositioningOptions`
    data : a folder of ``prepare``
    device : ``cpu`` or ``cuda``
    out : artifact to write
    every : steps between measurements of the validation lines

    Raises
    ------
    InputError
        If program, options or data cannot be used, or the training diverges.
    """
    program, dataset = load_program(path), read_dataset(data)
    if program.provenance.get("constants_sha256") != dataset.manifest["constants_sha256"]:
        raise InputError(
            f"{path} was calibrated with other feature constants than those of {data}; prepare the "
            "data with --constants of its training"
        )
    try:
        options = PositioningOptions(**_USUAL | chosen)
    except ValueError as error:
        raise InputError(str(error)) from error
    train, validate = dataset.windows("train"), dataset.windows("validate")
    torch.manual_seed(options.seed)
    trainer = PositioningTrainer(QuantizedSlim(program), options, train, validate, device)
    before, notes = trainer.validate(), dataclasses.asdict(options)

    def save() -> None:
        best = trainer.best
        assert isinstance(best, QuantizedSlim)  # what the trainer was made with
        training = {"steps": trainer.step, "options": notes}
        save_program(best.cpu().to_program({"training": training}), out)
        best.to(device)

    save()
    record = {
        "unit": "metres",
        "origin": dataset.origin,
        "scheme": program.scheme.name,
        "curve": run_with_progress(trainer, every, save),
        "validation_error_before": before,
        "validation_error": trainer.best_error,
        "steps": trainer.step,
        "options": notes,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
    }
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    atomic_write(out.with_suffix(".training.json"), text.encode())
    return record
