"""Trains a program's integers: ``python -m model.qat --artifact FILE --out FOLDER``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from golden import command
from golden.artifact import file_digest, load_program
from golden.errors import InputError
from model.mamba import MambaLanguageModel
from model.quantization_run import QuantizationRun
from model.quantization_subject import FloatSubject, ProgramSubject, Subject, float_network
from model.quantization_training import QuantizationTrainer, QuantizationTraining, TrainingText
from model.sources import TokenSource, find_network, find_tokens
from model.teacher_text import sample_text
from model.weight_freezing import watched_weights

application = typer.Typer(add_completion=False)

NETWORKS = ("program", "float", "ternary-float")
_PROGRESS_UNITS = 10_000


def _text(
    tokens: TokenSource, teacher: MambaLanguageModel, options: QuantizationTraining, count: int
) -> TrainingText:
    """Return the training text and at least ``count`` tokens of the teacher's own."""
    if options.generated == 0.0:
        return TrainingText(real=tokens.train, generated=tokens.train)
    length = 2 * options.length
    rows = -(-count // length)
    own = sample_text(teacher, rows=rows, length=length, seed=options.seed)
    return TrainingText(real=tokens.train, generated=own)


def _train(run: QuantizationRun, every: int) -> None:
    """Run the trainer with a bar, judging it every so many steps and at both ends."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    trainer = run.trainer
    losses: list[torch.Tensor] = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("training", total=_PROGRESS_UNITS)
        if not run.curve:
            progress.console.print(json.dumps(run.evaluate([])))
        for loss in trainer.run():
            losses.append(loss)
            if trainer.step % every == 0:
                progress.console.print(json.dumps(run.evaluate(losses)))
                losses = []
            if trainer.step % 20 == 0:  # reading a loss waits for the device
                done = round(trainer.progress * _PROGRESS_UNITS)
                text = f"step {trainer.step} loss {float(loss):.4f} bits"
                progress.update(task, completed=done, description=text)
        if losses:
            progress.console.print(json.dumps(run.evaluate(losses)))


@application.command()
def qat(
    artifact: Annotated[Path, typer.Option(help="program to start from, of model.quantize")],
    out: Annotated[Path, typer.Option(help="folder for the program, its curve and the run")],
    preset: Annotated[str, typer.Option(help="the float network, or a name for it")] = "bytelm",
    checkpoint: Annotated[Path | None, typer.Option(help="float network, any naming")] = None,
    data: Annotated[str, typer.Option(help="corpus name, or a UTF-8 file or folder")] = "wikipedia",
    corpus_file: Annotated[Path | None, typer.Option(help="where a named corpus lies")] = None,
    steps: Annotated[int | None, typer.Option(help="budget in updates")] = None,
    minutes: Annotated[float | None, typer.Option(help="budget in minutes")] = None,
    batch: Annotated[int, typer.Option(help="windows an update")] = 32,
    length: Annotated[int, typer.Option(help="tokens a window")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="in ranges of a weight's format")] = 1e-3,
    scan_rate: Annotated[float, typer.Option(help="of the scan's parameters, as a factor")] = 0.3,
    distillation: Annotated[float, typer.Option(help="share of the float network's word")] = 1.0,
    temperature: Annotated[float, typer.Option(help="of the predictions compared")] = 1.0,
    generated: Annotated[float, typer.Option(help="share of the float network's own text")] = 0.5,
    generated_tokens: Annotated[int, typer.Option(min=1, help="how much of it")] = 1 << 23,
    averaging: Annotated[float, typer.Option(help="moving average of the weights")] = 0.998,
    freezing: Annotated[float, typer.Option(help="turns a step that hold a 4-bit weight")] = 0.0,
    validate_every: Annotated[int, typer.Option(min=1, help="updates between judgements")] = 250,
    network: Annotated[
        str, typer.Option(help=f"what is trained: {', '.join(NETWORKS)}")
    ] = "program",
    seed: Annotated[int, typer.Option(help="of the batches")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    *,
    compiled: Annotated[bool, typer.Option("--compile", help="use torch.compile")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in --out")] = False,
) -> None:
    """Train the integers of a program to predict what its float network predicts.

    Formats and widths stay, and the result is a program as any other; the folder gets the one that
    did best on validation text. In the program's stead the float network can be trained by the same
    updates on the same text, which is what training alone is worth, or the float network with
    BitNet's ternary weights, the peer of ternary programs; their folder gets a checkpoint.
    """
    if network not in NETWORKS:
        raise InputError(f"unknown network {network!r}; choose one of {', '.join(NETWORKS)}")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"device {device!r} is not available here; choose cpu or a machine's cuda")
    options = QuantizationTraining(
        seed=seed, steps=steps, minutes=minutes, batch=batch, length=length,
        learning_rate=learning_rate, scan_rate=scan_rate, distillation=distillation,
        temperature=temperature, generated=generated, averaging=averaging,
        freezing=freezing,
    )  # fmt: skip
    program = load_program(artifact)
    source = find_network(preset, checkpoint, seed)
    tokens = find_tokens(program.shape.vocabulary, data, corpus_file, seed, length=16 * length)
    teacher = float_network(source.model, device)
    provenance: dict[str, object] = {
        "source": "model.qat",
        "start": {**program.provenance, "sha256": file_digest(artifact)},
        "options": dataclasses.asdict(options),
        "device": device,
        "network": network,
        **source.description,
        **tokens.description,
    }
    subject: Subject
    if network == "program":
        probe = tokens.validation[None, :length].astype(np.int64)
        subject = ProgramSubject(program, out / artifact.name, probe, device)
    else:
        path, ternary = out / f"{preset}.safetensors", network == "ternary-float"
        subject = FloatSubject(source.model, path, device, ternary=ternary)
    trained = subject.network()
    if options.freezing > 0.0:
        watched_weights(trained, options.freezing)  # refuses before the text, which takes long
    text = _text(tokens, teacher, options, generated_tokens)
    trainer = QuantizationTrainer(trained, teacher, text, options, device, compiled=compiled)
    run = QuantizationRun(out, trainer, tokens.validation, subject.write, provenance)
    if resume:
        run.resume()
    _train(run, validate_every)
    judged = {"float": teacher, "start": subject.network(), "trained": subject.written()}
    results = run.finish(judged, tokens.held_out)
    typer.echo(
        f"{subject.path}: bits a token of held-out text: float network {results['float']:.4f}, "
        f"before training {results['start']:.4f}, now {results['trained']:.4f}"
    )


if __name__ == "__main__":
    command.run(application)
