"""Commands of the positioning pipeline: ``python -m model.positioning prepare|train|evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from golden import command
from golden.errors import InputError
from model.positioning.dataset import Dataset
from model.positioning.evaluate import evaluate_positioning
from model.positioning.prepare import PreparationOptions, prepare_measured, prepare_synthetic
from model.positioning.program_training import train_program
from model.positioning.report import page_text, print_report
from model.positioning.train import train_positioning

application = typer.Typer(add_completion=False, help="Positioning from radio channels.")


@application.command()
def prepare(
    *,
    out: Annotated[Path, typer.Option(help="Folder to write; taps there are kept.")],
    trajectories: Annotated[
        Path | None, typer.Option(help="Real paths (.npz); channels are computed along them.")
    ] = None,
    radio: Annotated[
        Path | None, typer.Option(help="LuViRA's radio files (.mat), measured channels.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="LuViRA's ground truth of the antenna (.csv).")
    ] = None,
    align: Annotated[
        str, typer.Option(help="Where lengths differ: strict, start, middle or end.")
    ] = "strict",
    constants: Annotated[
        Path | None, typer.Option(help="Feature constants of an earlier data set.")
    ] = None,
    simulator: Annotated[
        str, typer.Option(help="room, or sionna (pip install sionna-rt), slower and finer.")
    ] = "room",
    signal_to_noise: Annotated[
        float, typer.Option(help="Decibels at 3 m, synthetic channels; inf for none.")
    ] = 25.0,
    split: Annotated[str, typer.Option(help="block, leave-out or odd-even.")] = "block",
    every: Annotated[int, typer.Option(help="Take every n-th frame.")] = 1,
    seed: Annotated[int, typer.Option(help="Of scatterers and noise.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; one a processor.")] = None,
) -> None:
    """Write taps, split and feature constants of a data set."""
    options = PreparationOptions(split=split, every=every, constants=constants, out=out)
    if trajectories is not None and radio is None and truth is None:
        dataset = prepare_synthetic(
            trajectories,
            options,
            simulator=simulator,
            signal_to_noise=signal_to_noise,
            seed=seed,
            workers=workers,
        )
    elif radio is not None and truth is not None and trajectories is None:
        dataset = prepare_measured(radio, truth, options, align=align)  # type: ignore[arg-type]
    else:
        raise InputError("no data; give --trajectories FILE, or --radio DIR and --truth DIR")
    _print_dataset(dataset)


def _print_dataset(dataset: Dataset) -> None:
    parts = dataset.manifest["split"]
    console = Console()
    console.print(f"{dataset.origin}, {dataset.manifest['rate_hz']:g} frames a second")
    for part, names in parts.items():
        frames = sum(len(dataset.trajectories[name].xy) for name in names)
        console.print(f"{part}: {len(names)} trajectories, {frames:,} frames")


@application.command()
def train(
    *,
    data: Annotated[Path, typer.Option(help="A folder of prepare.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    preset: Annotated[str, typer.Option(help="slim, mamba, slim-k1, ...")] = "slim",
    checkpoint: Annotated[
        Path | None, typer.Option(help="A network of the preset to go on with.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Budget in steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Budget in minutes, alone or as well.")
    ] = None,
    evaluate_every: Annotated[int, typer.Option(help="Steps between validations.")] = 500,
    batch: Annotated[int | None, typer.Option(help="Windows a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Largest rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of the matrices.")] = None,
    dropout: Annotated[float | None, typer.Option(help="On block outputs.")] = None,
    noise: Annotated[float | None, typer.Option(help="Deviation, on the features.")] = None,
    antenna_dropout: Annotated[float | None, typer.Option(help="Share of antennas lost.")] = None,
    replay: Annotated[
        int | None, typer.Option(help="Replay drives up to so many times faster; 0 for not.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, batches and noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a positioning network on a prepared data set."""
    _check_device(device)
    given: dict[str, Any] = {
        "steps": steps, "minutes": minutes, "batch": batch, "learning_rate": learning_rate,
        "weight_decay": weight_decay, "dropout": dropout, "noise": noise,
        "antenna_dropout": antenna_dropout, "replay": replay, "seed": seed,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    record = train_positioning(preset, chosen, data, device, out, evaluate_every, checkpoint)
    Console().print(
        f"{record['validation_error']:.4f} m mean error on the validation lines after "
        f"{record['steps']:,} steps; {record['origin']}"
    )


@application.command()
def qat(
    *,
    data: Annotated[Path, typer.Option(help="A folder of prepare.")],
    artifact: Annotated[Path, typer.Option(help="Program of model.quantize to start from.")],
    out: Annotated[Path, typer.Option(help="Program to write.")],
    steps: Annotated[int | None, typer.Option(help="Budget in steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes instead.")] = None,
    evaluate_every: Annotated[int, typer.Option(help="Steps between validations.")] = 250,
    batch: Annotated[int | None, typer.Option(help="Windows a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Largest rate.")] = None,
    noise: Annotated[float | None, typer.Option(help="Deviation, on the features.")] = None,
    replay: Annotated[
        int | None, typer.Option(help="Replay drives up to so many times faster; 0 for not.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of batches and noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a positioning program through its integer graph; the exponents stay."""
    _check_device(device)
    given: dict[str, Any] = {
        "steps": steps, "minutes": minutes, "batch": batch, "learning_rate": learning_rate,
        "noise": noise, "replay": replay, "seed": seed,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    record = train_program(artifact, chosen, data, device, out, evaluate_every)
    Console().print(
        f"{record['scheme']}: {record['validation_error']:.4f} m mean error on the validation "
        f"lines, {record['validation_error_before']:.4f} m before; {record['origin']}"
    )


def _check_device(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device {device} is unknown, known: cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device is available")


@application.command()
def evaluate(
    *,
    data: Annotated[Path, typer.Option(help="A folder of prepare.")],
    checkpoint: Annotated[
        list[Path], typer.Option(help="A network; may be repeated, the first one is drawn.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the report and the figures.")],
    artifact: Annotated[
        list[Path] | None, typer.Option(help="An integer program of a network; repeatable.")
    ] = None,
) -> None:
    """Measure networks on the test parts: errors, trajectories, CDF and heat map."""
    print_report(evaluate_positioning(data, checkpoint, artifact or [], out))


@application.command()
def page(
    *,
    update: Annotated[Path, typer.Option(help="Markdown file with the markers.")],
    report: Annotated[Path, typer.Option(help="What evaluate wrote.")] = Path(
        "docs/positioning.json"
    ),
) -> None:
    """Write the table of a page from a report."""
    text = update.read_text(encoding="utf-8")
    command.atomic_write(update, page_text(text, report).encode())


if __name__ == "__main__":
    command.run(application)
