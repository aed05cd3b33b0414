"""Must the scan be float? ``python -m model.scan_study --preset NAME``.

One kind of number in the scan at a time is given a width, the rest of the scan stays in float32 or
better, and everything outside the scan is the integer program. Loss is measured against the same
program with the whole scan in float, on the same text, with intervals over documents. A width is
as good as float if its interval, and that of every wider one, ends below :data:`TOLERANCE`: a test
of equivalence, so that little text makes it harder to pass and not easier. At last the narrowest of
every kind are measured together.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from golden import command
from golden.artifact import load_program
from golden.builtin import builtin_path
from golden.errors import InputError
from golden.fixed_point import to_real
from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_INPUT_FRACTION
from golden.program import Program
from model.document_statistics import Difference, PairedBootstrap
from model.float_simulation import softplus
from model.mode_report import interval_text, token_groups
from model.scan_study_plot import draw
from model.simulated_program import SimulatedProgram
from model.simulated_scan import ScanWidths
from model.simulation_modes import run_modes
from model.sources import find_tokens
from model.text_windows import WINDOW, Start, cut_windows
from model.unit_tables import UnitTables, exponent_lines, softplus_lines

application = typer.Typer(add_completion=False)

WIDTHS: dict[str, tuple[int, ...]] = {
    "state": (6, 7, 8, 9, 10, 12),
    "delta": (4, 5, 6, 7, 8, 10, 12),
    "decay": (4, 5, 6, 7, 8, 10, 12),
    "scan_output": (5, 6, 7, 8, 10, 12),
}
"""Bits tried; of the decay its fraction bits."""
SEGMENTS: dict[str, tuple[int, ...]] = {
    "exponent_segments": (0, 1, 2, 3, 5),
    "softplus_segments": (2, 3, 4, 5, 7, 9),
}
"""Logarithms of the numbers of lines tried: of ``2**-x`` on [0, 1), of softplus on [0, 16)."""
COMBINED = (8, 10, 12)
"""Widths given to delta, decay, state and y together."""

TOLERANCE = 0.2
"""Percent of the bits: loss below that counts as none."""


@dataclass(frozen=True)
class StudyPoint:
    """One width: what was swept, its bits or the logarithm of its segments, and the loss."""

    sweep: str
    value: int
    bits: float
    loss: Difference


def float_tables(program: Program) -> UnitTables:
    """Return exact softplus and exponential, and the program's SiLU, which is outside the scan."""
    origin = 1 << (ACTIVATION_INPUT_BITS - 1)
    inputs = to_real(np.arange(-origin, origin), ACTIVATION_INPUT_FRACTION)
    own = UnitTables.of(program)
    return UnitTables(silu=own.silu, softplus=softplus(inputs), decay=None)


def _variants(program: Program) -> Iterator[tuple[str, int, ScanWidths, UnitTables]]:
    """Yield sweep, value, widths and tables of every point."""
    free, exact, own = ScanWidths(), float_tables(program), UnitTables.of(program)
    for name, values in WIDTHS.items():
        tables = dataclasses.replace(exact, decay=own.decay) if name == "decay" else exact
        for value in values:
            yield name, value, dataclasses.replace(free, **{name: value}), tables
    for value in SEGMENTS["exponent_segments"]:
        yield (
            "exponent_segments", value, free,
            dataclasses.replace(exact, decay=exponent_lines(value)),
        )  # fmt: skip
    for value in SEGMENTS["softplus_segments"]:
        yield (
            "softplus_segments", value, free,
            dataclasses.replace(exact, softplus=softplus_lines(value)),
        )  # fmt: skip
    for value in COMBINED:
        together = ScanWidths(delta=value, decay=value, state=value, scan_output=value)
        yield "together", value, together, own


def narrowest(points: list[StudyPoint]) -> int | None:
    """Return the smallest value from which on every loss is as good as none; None without one."""
    found = None
    for point in sorted(points, key=lambda point: -point.value):
        if point.loss.high >= TOLERANCE:
            break
        found = point.value
    return found


def narrowest_together(program: Program, limits: dict[str, int | None]) -> Start | None:
    """Return ``program`` with the narrowest of every sweep; None if one of them has none."""
    own = {name: limits[name] for name in (*WIDTHS, *SEGMENTS)}
    found = {name: value for name, value in own.items() if value is not None}
    if len(found) < len(own):
        return None
    tables = dataclasses.replace(
        float_tables(program),
        decay=exponent_lines(found["exponent_segments"]),
        softplus=softplus_lines(found["softplus_segments"]),
    )
    widths = ScanWidths(**{name: found[name] for name in WIDTHS})
    return SimulatedProgram(program, widths=widths, tables=tables).start


def _costs(starts: dict[str, Start], stream: Any, task: str) -> dict[str, Any]:
    """Return the bits of every token of ``stream`` by variant, with a bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(task, total=len(stream) * len(starts))
        pieces = cut_windows(stream, WINDOW)
        return run_modes(starts, pieces, lambda done: progress.advance(bar, done))


def study(program: Program, stream: Any, seed: int) -> dict[str, Any]:
    """Measure every point on ``stream``; return the report's losses, JSON values."""
    reference = SimulatedProgram(program, widths=ScanWidths(), tables=float_tables(program))
    starts: dict[str, Start] = {"float scan": reference.start}
    for name, value, widths, tables in _variants(program):
        starts[f"{name} {value}"] = SimulatedProgram(program, widths=widths, tables=tables).start
    costs = _costs(starts, stream, "scan study")
    exact = costs.pop("float scan")
    bootstrap = PairedBootstrap(token_groups(program.shape.vocabulary, stream), seed)
    points = []
    for key, own in costs.items():
        sweep, number = key.split(" ")
        loss = bootstrap.compare(own, exact)
        points.append(StudyPoint(sweep, int(number), float(own.mean()), loss))
    report = _report(float(exact.mean()), points)
    start = narrowest_together(program, report["narrowest"])
    if start is not None:
        (own,) = _costs({"together": start}, stream, "the narrowest together").values()
        loss = bootstrap.compare(own, exact)
        report["narrowest_together"] = {"bits_per_token": float(own.mean()), **loss.to_json()}
    return report


def _sweeps(points: list[StudyPoint]) -> dict[str, list[StudyPoint]]:
    sweeps: dict[str, list[StudyPoint]] = {}
    for point in points:
        sweeps.setdefault(point.sweep, []).append(point)
    return sweeps


def _report(exact: float, points: list[StudyPoint]) -> dict[str, Any]:
    sweeps = _sweeps(points)
    return {
        "float_scan": exact,
        "sweeps": {
            name: [
                {"value": own.value, "bits_per_token": own.bits, **own.loss.to_json()}
                for own in rows
            ]
            for name, rows in sweeps.items()
        },
        "narrowest": {name: narrowest(rows) for name, rows in sweeps.items()},
        "narrowest_together": None,
    }


def together_cells(report: dict[str, Any]) -> tuple[str, str]:
    """Return loss and verdict of the narrowest together, which a report may lack."""
    own = report["narrowest_together"]
    return interval_text(own), "yes" if own["high"] < report["tolerance"] else ""


def _print(report: dict[str, Any]) -> None:
    table = Table(
        title=f"loss against a float scan, {report['tokens']:,} held-out tokens, "
        f"{report['documents']} documents"
    )
    for column in ("sweep", "bits or log2 segments", "loss [95 % interval]", "as good as float"):
        table.add_column(column, justify="left" if column == "sweep" else "right")
    for name, rows in report["sweeps"].items():
        limit = report["narrowest"][name]
        for row in rows:
            good = limit is not None and row["value"] >= limit
            table.add_row(name, str(row["value"]), interval_text(row), "yes" if good else "")
        table.add_section()
    if report["narrowest_together"] is not None:
        table.add_row("the narrowest together", "", *together_cells(report))
    Console(width=100).print(table)


@application.command()
def scan_study(
    preset: Annotated[str, typer.Option(help="network with a built-in program")] = "bytelm",
    artifact: Annotated[Path | None, typer.Option(help="program; else the built-in w8a8")] = None,
    data: Annotated[str, typer.Option(help="corpus name, or a UTF-8 file or folder")] = "wikipedia",
    corpus_file: Annotated[Path | None, typer.Option(help="where a named corpus lies")] = None,
    size: Annotated[int, typer.Option("--bytes", help="held-out text")] = 16 * WINDOW,
    seed: Annotated[int, typer.Option(help="of the intervals' resamples")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
    plot: Annotated[Path | None, typer.Option(help="SVG file to draw")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Sweep the widths of the scan's numbers and the segments of its functions."""
    program = load_program(artifact or builtin_path(preset, "w8a8"))
    tokens = find_tokens(program.shape.vocabulary, data, corpus_file, seed, length=size)
    if not 1 <= size <= len(tokens.held_out):
        raise InputError(f"bytes = {size} is outside 1..{len(tokens.held_out)}, the held-out text")
    stream = tokens.held_out[:size]
    groups = token_groups(program.shape.vocabulary, stream)
    report = {
        **study(program, stream, seed),
        "tokens": size,
        "documents": int(np.unique(groups).size),
        "seed": seed,
        "tolerance": TOLERANCE,
        "scheme": program.scheme.name,
        **tokens.description,
    }
    text = json.dumps(report, indent=1, sort_keys=True)
    if out is not None:
        command.atomic_write(out, (text + "\n").encode())
    if plot is not None:
        command.atomic_write(plot, draw(report))
    if as_json:
        typer.echo(text)
    else:
        _print(report)


if __name__ == "__main__":
    command.run(application)
