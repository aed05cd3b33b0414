"""Cost of scale selection: ``python -m hw.study --liberty FILE [--liberty FILE] [--out DIR]``."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from golden import command
from golden.document import Marks, markdown_table
from golden.errors import InputError
from hw.report.targets import LIBERTY, parse_target
from hw.report.tools import YOSYS, package_version
from hw.study.measurement import dual_scale_parts, measure, selectors
from hw.study.selection import SELECTORS

TARGETS = {"dequantizing MUX": 50.0, "pack and unpack": 20.0}
"""NAND2-equivalents a lane, from the source documents."""
SHARE_TARGET = 0.05

MARKS = Marks("scale study", "python -m hw.study --update")

application = typer.Typer(add_completion=False)


def study(libraries: list[Path], preset: str, folder: Path, console: Console) -> dict[str, Any]:
    """Return gates of the format's parts and of the alternatives on every library."""
    targets = [parse_target(f"{LIBERTY}:{library}") for library in libraries]
    found: dict[str, Any] = {"preset": preset, "tools": {YOSYS: package_version(YOSYS)}}
    found["libraries"] = {}
    for target in track(targets, "libraries", console=console):
        parts = measure(dual_scale_parts(preset), target, folder)
        mux = parts["dequantizing MUX"]["nand2_equivalents"]
        packing = sum(
            parts[name]["nand2_equivalents"] for name in ("pack (flag, clamp, choice)", "unpack")
        )
        assert target.library is not None
        found["libraries"][target.library.name] = {
            "dual_scale": parts,
            "pack_and_unpack": round(packing, 1),
            "share_of_lane": round((mux + packing) / parts["scan lane"]["nand2_equivalents"], 4),
            "selection": measure(selectors(), target, folder),
        }
    found["selection"] = {
        kind.name: {"cycles": kind.cycles, "table_bits": kind.table_bits()} for kind in SELECTORS
    }
    return found


def _rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of the format: part, target, and gates on every library."""
    libraries = list(found["libraries"].values())
    parts = list(libraries[0]["dual_scale"])
    rows = [
        (
            name,
            f"≤ {TARGETS[name]:.0f}" if name in TARGETS else "",
            *(f"{lib['dual_scale'][name]['nand2_equivalents']:,.1f}" for lib in libraries),
        )
        for name in parts
    ]
    packing = tuple(f"{lib['pack_and_unpack']:,.1f}" for lib in libraries)
    shares = tuple(f"{lib['share_of_lane']:.2%}" for lib in libraries)
    rows.insert(3, ("pack and unpack", f"≤ {TARGETS['pack and unpack']:.0f}", *packing))
    return [*rows, ("MUX, pack and unpack of a lane", f"≤ {SHARE_TARGET:.0%}", *shares)]


def _selection_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of alternatives: cycles, table bits, gates and delay on every library."""
    rows = []
    for name, cost in found["selection"].items():
        cells = [name, f"{cost['cycles']}", f"{cost['table_bits']:,}"]
        for library in found["libraries"].values():
            unit = library["selection"][name]
            cells += [f"{unit['nand2_equivalents']:,.1f}", f"{unit['delay_ps']:,.0f}"]
        rows.append(tuple(cells))
    return rows


def _short(library: str) -> str:
    return library.split("_", maxsplit=1)[0].split(".", maxsplit=1)[0]


def tables(found: dict[str, Any]) -> list[tuple[str, list[str], list[tuple[str, ...]]]]:
    """Return title, columns and rows of both tables."""
    names = [_short(name) for name in found["libraries"]]
    both = [f"{name} {what}" for name in names for what in ("NAND2", "ps")]
    return [
        ("dual scale, NAND2-equivalents", ["part", "target", *names], _rows(found)),
        (
            "finding the scale of a channel",
            ["unit", "cycles a channel", "table bits", *both],
            _selection_rows(found),
        ),
    ]


def markdown(found: dict[str, Any]) -> str:
    """Return both tables as Markdown."""
    return "\n\n".join(markdown_table(columns, rows) for _, columns, rows in tables(found))


@application.command()
def run(
    liberty: Annotated[list[Path], typer.Option(help="standard-cell library, .lib or .lib.gz")],
    preset: Annotated[str, typer.Option(help="network whose scan lane is compared")] = "micro",
    out: Annotated[Path | None, typer.Option(help="directory for study.json and the work")] = None,
    update: Annotated[Path | None, typer.Option(help="document to put the tables into")] = None,
) -> None:
    """Measure the dual-scale hardware and the alternatives of scale selection."""
    if len({path.name for path in liberty}) != len(liberty):
        raise InputError("two Liberty files have one name; give each library once")
    for path in liberty:
        parse_target(f"{LIBERTY}:{path}")
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = study(liberty, preset, folder, Console(stderr=True))
    if out is not None:
        text = json.dumps(found, indent=1, ensure_ascii=False)
        command.atomic_write(out / "study.json", (text + "\n").encode())
    if update is not None:
        command.atomic_write(update, MARKS.renewed(update, markdown(found)).encode())
    for title, columns, rows in tables(found):
        table = Table(title=title)
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)


if __name__ == "__main__":
    command.run(application)
