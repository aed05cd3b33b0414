"""Trains a program's integers: ``python -m model.qat --scheme NAME --artifact FILE --out FILE``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from golden import command
from golden.artifact import file_digest, load_program, save_program
from golden.errors import InputError
from model.checkpoint import checkpoint_bytes
from model.mamba import MambaLanguageModel, ScanName
from model.quantization_training import QuantizationTrainer, QuantizationTraining
from model.quantized_network import QuantizedNetwork
from model.sources import find_network, find_tokens

application = typer.Typer(add_completion=False)


def _float_network(model: MambaLanguageModel, device: str) -> MambaLanguageModel:
    """Return a copy of the float network with the scan that suits the device."""
    scan: ScanName = "triton" if device == "cuda" else "parallel"
    network = MambaLanguageModel(model.configuration, scan=scan)
    network.load_state_dict(model.state_dict())
    return network.eval().to(device)


def _train(trainer: QuantizationTrainer) -> float:
    """Run the trainer with a bar; return the mean loss of the last tenth, bits a token."""
    steps = trainer.options.steps
    losses: list[torch.Tensor] = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("training", total=steps)
        for step, loss in enumerate(trainer.run()):
            losses.append(loss)
            if step % 50 == 0:  # reading a loss waits for the device
                progress.update(task, completed=step, description=f"loss {float(loss):.4f}")
        progress.update(task, completed=steps)
    return float(torch.stack(losses[-max(1, steps // 10) :]).mean())


@application.command()
def qat(
    artifact: Annotated[Path, typer.Option(help="program to start from, of model.quantize")],
    out: Annotated[Path, typer.Option(help="artifact to write")],
    preset: Annotated[str, typer.Option(help="the float network, or a name for it")] = "bytelm",
    checkpoint: Annotated[Path | None, typer.Option(help="float network, any naming")] = None,
    data: Annotated[str, typer.Option(help="corpus name, or a UTF-8 file or folder")] = "wikipedia",
    corpus_file: Annotated[Path | None, typer.Option(help="where a named corpus lies")] = None,
    steps: Annotated[int, typer.Option(help="updates")] = 2000,
    batch: Annotated[int, typer.Option(help="windows an update")] = 32,
    length: Annotated[int, typer.Option(help="tokens a window")] = 1024,
    learning_rate: Annotated[float, typer.Option(help="in ranges of a weight's format")] = 1e-3,
    distillation: Annotated[float, typer.Option(help="share of the float network's word")] = 1.0,
    seed: Annotated[int, typer.Option(help="of the batches")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    *,
    control: Annotated[
        bool, typer.Option("--control", help="train the float network as long; --out is of it")
    ] = False,
) -> None:
    """Train the integers of a program to predict what its float network predicts.

    Formats and widths stay, and the result is a program as any other. The control is the float
    network after the same updates on the same text: what training alone is worth.
    """
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"device {device!r} is not available here; choose cpu or a machine's cuda")
    options = QuantizationTraining(
        seed=seed, steps=steps, batch=batch, length=length, learning_rate=learning_rate,
        distillation=distillation,
    )  # fmt: skip
    program = load_program(artifact)
    source = find_network(preset, checkpoint, seed)
    vocabulary = program.shape.vocabulary
    tokens = find_tokens(vocabulary, data, corpus_file, seed, length=16 * length)
    teacher = _float_network(source.model, device)
    provenance = {
        "source": "model.qat",
        "start": {**program.provenance, "sha256": file_digest(artifact)},
        "options": dataclasses.asdict(options),
        "device": device,
        **source.description,
        **tokens.description,
    }
    if control:
        network = _float_network(source.model, device)
        loss = _train(QuantizationTrainer(network, teacher, tokens.train, options, device))
        command.atomic_write(out, checkpoint_bytes(network.cpu()))
        typer.echo(f"{out}: loss {loss:.4f} bits a token at the end of training")
        return
    quantized = QuantizedNetwork(program, torch.float32).to(device)
    loss = _train(QuantizationTrainer(quantized, teacher, tokens.train, options, device))
    digest = save_program(quantized.cpu().build(provenance), out)
    typer.echo(f"{out}: loss {loss:.4f} bits a token at the end of training, SHA-256 {digest}")


if __name__ == "__main__":
    command.run(application)
