"""The files of a run of :mod:`model.qat`: the best network so far, its curve, and how to go on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from golden.command import atomic_write
from golden.errors import InputError
from model.quantization_training import QuantizationTrainer
from model.text_windows import WINDOW
from model.training import bits_per_byte

__all__ = ["QuantizationRun"]


class QuantizationRun:
    """A trainer with its output folder.

    It holds what ``write`` makes of the network that did best on validation text,
    ``training.json`` (options, curve, results) and ``resume.safetensors``.

    Parameters
    ----------
    folder : where the files go
    trainer : what is judged by its moving average
    validation : text that chooses the best network, (length,)
    write : writes a network into the folder, given the provenance
    provenance : what the run started from, JSON values
    """

    def __init__(
        self,
        folder: Path,
        trainer: QuantizationTrainer,
        validation: np.ndarray,
        write: Callable[[nn.Module, dict[str, object]], None],
        provenance: dict[str, object],
    ) -> None:
        self.folder, self.trainer, self.provenance = folder, trainer, provenance
        self.curve: list[dict[str, float]] = []
        self._validation, self._write = validation, write

    @property
    def best(self) -> dict[str, float]:
        """The curve's entry with the least validation loss."""
        return min(self.curve, key=lambda entry: entry["validation"])

    def evaluate(self, losses: list[Tensor]) -> dict[str, float]:
        """Measure the moving average, keep it if it is the best, and save the run."""
        trainer = self.trainer
        entry = {
            "step": trainer.step,
            "seconds": round(trainer.seconds, 1),
            "loss": float(torch.stack(losses).mean()) if losses else 0.0,
            "validation": bits_per_byte(trainer.average, self._validation, WINDOW),
        }
        if trainer.freezing is not None:
            entry["frozen"] = trainer.freezing.share
        if not all(map(math.isfinite, entry.values())):
            raise InputError(
                f"training diverged at step {trainer.step} (loss {entry['loss']}): lower "
                "--learning-rate; the best network so far is kept"
            )
        self.curve.append(entry)
        if entry is self.best:
            self._write(trainer.average, {**self.provenance, "best": entry})
        self._save({})
        return entry

    def finish(self, networks: dict[str, nn.Module], held_out: np.ndarray) -> dict[str, float]:
        """Measure ``networks`` on held-out text and save the report with the results."""
        results = {
            name: bits_per_byte(network, held_out, WINDOW) for name, network in networks.items()
        }
        self._save(results)
        return results

    def _save(self, results: dict[str, float]) -> None:
        position = {"step": self.trainer.step, "seconds": self.trainer.seconds}
        record = {**position, "curve": self.curve, "provenance": self.provenance}
        metadata = {"run": json.dumps(record, sort_keys=True)}
        atomic_write(self.folder / "resume.safetensors", save(self.trainer.tensors(), metadata))
        report: dict[str, Any] = {
            **self.provenance,
            **position,
            "unit": "bits per token",
            "options": dataclasses.asdict(self.trainer.options),
            "best": self.best,
            "held_out": results,
            "curve": self.curve,
        }
        text = json.dumps(report, indent=1, sort_keys=True) + "\n"
        atomic_write(self.folder / "training.json", text.encode())

    def resume(self) -> None:
        """Load the saved run; refuse one of another start, shape or text."""
        path = self.folder / "resume.safetensors"
        if not path.is_file():
            raise InputError(f"--resume: {path} does not exist, start without --resume")
        try:
            with safe_open(path, framework="pt") as file:
                record = json.loads((file.metadata() or {})["run"])
            self.trainer.restore(load_file(path), record["step"], record["seconds"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"--resume: {path} cannot be used: {error}") from error
        if record["provenance"] != json.loads(json.dumps(self.provenance)):
            raise InputError(f"--resume: {path} started from something else; give another --out")
        self.curve = record["curve"]
