"""What Quamba2's piecewise scales are worth: ``python -m model.piecewise_scales --preset NAME``.

The scan's input is stored with one scale a layer, with scales a piece of clustered heads and dims,
with a flat (head, dim) look-up table, or by dual scale, in the otherwise unchanged integer program
(:mod:`model.simulated_program`). Ranges are the calibrated maxima, so nothing is clipped there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from golden import command
from golden.artifact import load_program
from golden.builtin import builtin_path
from golden.errors import InputError
from golden.fixed_point import integer_range
from golden.program import Program
from model.channel_clusters import GROUPS, piecewise_scales
from model.document_statistics import PairedBootstrap
from model.mode_report import interval_text, token_groups
from model.scan_input import DualScaleInput, ScanInput, UniformInput, float_input
from model.simulated_program import SimulatedProgram
from model.simulation_modes import ObservedInput, run_modes
from model.sources import find_tokens
from model.text_windows import WINDOW, Start, choose_windows, cut_windows, inputs_of

application = typer.Typer(add_completion=False)
Array = npt.NDArray[Any]

LAYOUTS = ((1, 4, 4), (GROUPS, 2, 2), (GROUPS, 4, 4))
"""Groups, head groups and dim groups tried."""
_QUANTILE = 0.99
_CALIBRATION = (16, 1024)


@dataclass(frozen=True)
class Storage:
    """One way to store u: scales a layer, bits a value, and the function."""

    name: str
    scales: int
    bits: int
    stored: ScanInput


def storages(values: list[Array], bits: int, seed: int) -> Iterator[Storage]:
    """Yield every storage with codes of ``bits``; ``values`` has (samples, e) of each layer."""
    limit = integer_range(bits)[1]
    maxima = np.stack([own.max(axis=0) for own in values])  # layers e
    channels = maxima.shape[1]
    yield Storage("one scale", 1, bits, UniformInput(_steps(maxima.max(1)[:, None], limit), bits))
    quantiles = np.stack([np.quantile(own, _QUANTILE) for own in values])[:, None]
    dual = DualScaleInput(_steps(quantiles, limit), 4.0, limit)
    yield Storage("dual scale, ratio 4", 2, bits + 1, dual)
    for groups, heads, dims in LAYOUTS:
        pieces = [piecewise_scales(row, groups, heads, dims, seed) for row in maxima]
        magnitudes = np.stack([own.channel_magnitudes() for own in pieces])
        stored = UniformInput(_steps(magnitudes, limit), bits)
        yield Storage(f"{groups}x{heads}x{dims}", pieces[0].count, bits, stored)
    flat = UniformInput(_steps(maxima, limit), bits)
    yield Storage("flat (head, dim) table", channels, bits, flat)


def _steps(magnitudes: Array, limit: int) -> Array:
    """Return scales; a channel that was always zero gets a step that stays harmless."""
    return np.where(magnitudes > 0, magnitudes, 1.0) / limit


def compare(
    program: Program, calibration: Array, stream: Array, seed: int, widths: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Return one JSON row a storage, loss against a float scan input on the same text."""
    observed = ObservedInput(program.shape.n_layer)
    SimulatedProgram(program, scan_input=observed).start(len(calibration))(inputs_of(calibration))
    values = [np.concatenate(own) for own in observed.values]
    chosen = [own for bits in widths for own in storages(values, bits, seed)]
    starts: dict[str, Start] = {"float": SimulatedProgram(program, scan_input=float_input).start}
    for index, own in enumerate(chosen):
        starts[str(index)] = SimulatedProgram(program, scan_input=own.stored).start
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("storages", total=len(stream) * len(starts))
        costs = run_modes(
            starts, cut_windows(stream, WINDOW), lambda done: progress.advance(task, done)
        )
    bootstrap = PairedBootstrap(token_groups(program.shape.vocabulary, stream), seed)
    return [
        {
            "storage": own.name,
            "scales_a_layer": own.scales,
            "bits_a_value": own.bits,
            **bootstrap.compare(costs[str(index)], costs["float"]).to_json(),
        }
        for index, own in enumerate(chosen)
    ]


def _print(report: dict[str, Any]) -> None:
    table = Table(
        title=f"storage of the scan's input, {report['tokens']:,} held-out tokens; "
        "loss against a float input"
    )
    for column in ("storage", "scales a layer", "bits a value", "loss [95 % interval]"):
        table.add_column(column, justify="left" if column == "storage" else "right")
    for row in report["storages"]:
        table.add_row(
            row["storage"], str(row["scales_a_layer"]), str(row["bits_a_value"]),
            interval_text(row),
        )  # fmt: skip
    Console(width=100).print(table)


@application.command()
def piecewise(
    preset: Annotated[str, typer.Option(help="network with a built-in program")] = "bytelm",
    artifact: Annotated[Path | None, typer.Option(help="program; else the built-in w8a8")] = None,
    data: Annotated[str, typer.Option(help="corpus name, or a UTF-8 file or folder")] = "wikipedia",
    corpus_file: Annotated[Path | None, typer.Option(help="where a named corpus lies")] = None,
    size: Annotated[int, typer.Option("--bytes", help="held-out text")] = 8 * WINDOW,
    seed: Annotated[int, typer.Option(help="of clusters, calibration text and intervals")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare one scale, piecewise scales, a flat table and dual scale, at 4 and 8 bits."""
    program = load_program(artifact or builtin_path(preset, "w8a8"))
    count, window = _CALIBRATION
    vocabulary = program.shape.vocabulary
    tokens = find_tokens(vocabulary, data, corpus_file, seed, length=max(size, count * window))
    if not 1 <= size <= len(tokens.held_out):
        raise InputError(f"bytes = {size} is outside 1..{len(tokens.held_out)}, the held-out text")
    calibration = choose_windows(tokens.train, count, window, seed)
    rows = compare(program, calibration, tokens.held_out[:size], seed, (4, 8))
    report = {"storages": rows, "tokens": size, "seed": seed, **tokens.description}
    text = json.dumps(report, indent=1, sort_keys=True)
    if out is not None:
        command.atomic_write(out, (text + "\n").encode())
    if as_json:
        typer.echo(text)
    else:
        _print(report)


if __name__ == "__main__":
    command.run(application)
