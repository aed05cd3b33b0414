"""The report of ``evaluate`` as tables: on the screen and on the page of the documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from golden.errors import InputError
from golden.json_file import read_object
from model.positioning.metrics import STATISTICS

__all__ = ["BEGIN", "END", "PART_TITLES", "page_text", "print_report"]

PART_TITLES = {"test-lines": "held-out lines", "test-random": "random drives", "all": "both"}
BEGIN = "<!-- positioning: begin, written by python -m model.positioning page -->"
END = "<!-- positioning: end -->"
_CENTIMETRES = 100.0
_COLUMNS = ("network", "K", "parameters", "program", "tested on", *STATISTICS, "loss")
_TEXTS = ("network", "program", "tested on")


def _rows(report: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a row of texts for every network, program and part; errors are centimetres."""
    for name, own in report["networks"].items():
        programs = {"float": own["float"], **own["programs"]}
        for program, parts in programs.items():
            for part, errors in parts.items():
                if part == "all" and len(programs) == 1:
                    continue  # of interest where programs are compared
                loss = f"{errors['loss_percent']:+.2f} %" if "loss_percent" in errors else ""
                values = [f"{_CENTIMETRES * errors[name]:.2f}" for name in STATISTICS]
                yield [
                    name, str(own["window"]), f"{own['parameters']:,}", program,
                    PART_TITLES[part], *values, loss,
                ]  # fmt: skip


def _notes(report: dict[str, Any]) -> list[str]:
    """Return what the tests consist of, a sentence a part."""
    return [
        f"{PART_TITLES[part]}: {own['windows']:,} windows of {own['trajectories']} trajectories, "
        f"in the median {_CENTIMETRES * own['nearest_training_place']:.1f} cm from the nearest "
        "training place"
        for part, own in report["parts"].items()
    ]


def print_report(report: dict[str, Any]) -> None:
    """Print the report of :mod:`model.positioning.evaluate`."""
    console = Console()
    table = Table(title=f"errors in cm; {report['origin']}", box=SIMPLE_HEAD)
    shown = [index for index, column in enumerate(_COLUMNS) if column != "parameters"]
    for index in shown:
        justify = "left" if _COLUMNS[index] in _TEXTS else "right"
        table.add_column(_COLUMNS[index], justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in _rows(report):
        table.add_row(*(row[index] for index in shown))
    console.print(table)
    for note in _notes(report):
        console.print(note)


def page_text(text: str, report: Path) -> str:
    """Return ``text`` with the table between the markers written anew from a report.

    Raises
    ------
    InputError
        If a marker or the report is missing.
    """
    if BEGIN not in text or END not in text:
        raise InputError(f"the page lacks the line {BEGIN} or {END}; add both")
    content = read_object(report, "write it with: python -m model.positioning evaluate")
    lines = [
        f"Errors in centimetres; {content['origin']}, {content['rate_hz']:g} frames a second, "
        f"split `{content['split']}`. "
        + "; ".join(_notes(content))
        + ". Loss: of a program's mean "
        "error, against float.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|" + "|".join("---" if column in _TEXTS else "---:" for column in _COLUMNS) + "|",
        *(f"| {' | '.join(row)} |" for row in _rows(content)),
    ]
    head, tail = text.split(BEGIN, maxsplit=1)[0], text.split(END)[1]
    return head + "\n".join([BEGIN, "", *lines, "", END]) + tail
