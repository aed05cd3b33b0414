"""Fills the page's table of trained programs: ``python -m model.qat_page --update FILE``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from golden import command
from golden.errors import InputError
from model.qat_plot import draw

application = typer.Typer(add_completion=False)

BEGIN, END = "<!-- trained: begin -->", "<!-- trained: end -->"
TARGETS: Mapping[str, float | None] = {
    "w8a8-h": 0.10, "w4a8-h": 0.8, "w4a5-se-h": 1.2, "w4a4-h": 2.5, "ternary-h": None,
    "ternary-float": None, "float": None,
}  # fmt: skip
"""What is trained, and the largest loss in percent that it was asked to stay below."""
SEEDS = (0, 1)


def read_reports(folder: Path) -> dict[tuple[str, int], Any]:
    """Return the reports of :mod:`model.qat` in ``folder`` by what was trained and float seed."""
    found = {}
    for name in TARGETS:
        for seed in SEEDS:
            path = folder / f"{name}-{seed}.json"
            if path.is_file():
                found[name, seed] = json.loads(path.read_text())
    if not found:
        raise InputError(f"no reports in {folder}; copy there the training.json of model.qat")
    return found


def _loss(report: Any, which: str) -> float:
    """Return a held-out loss in percent of the float network's bits."""
    held_out = report["held_out"]
    return 100.0 * (float(held_out[which]) / float(held_out["float"]) - 1.0)


def _row(name: str, reports: Mapping[tuple[str, int], Any]) -> list[str]:
    own = [reports.get((name, seed)) for seed in SEEDS]
    cells = [name]
    for report in own:
        parts = ("start", "trained")
        cells += ["", ""] if report is None else [f"{_loss(report, p):+.2f} %" for p in parts]
    worst = max(_loss(report, "trained") for report in own if report is not None)
    target = TARGETS[name]
    if target is None:
        return [*cells, f"{worst:+.2f} %", ""]
    verdict = "met" if worst <= target else "missed"
    return [*cells, f"{worst:+.2f} %", f"at most +{target:.2f} %: {verdict}"]


def table(reports: Mapping[tuple[str, int], Any]) -> list[str]:
    """Return the lines of the Markdown table."""
    header = ["trained", *(f"{part}, seed {s}" for s in SEEDS for part in ("before", "after"))]
    names = [name for name in TARGETS if any(key[0] == name for key in reports)]
    rows = [[*header, "worst", "target"], ["---"] * 7, *(_row(name, reports) for name in names)]
    return [f"| {' | '.join(row)} |" for row in rows]


@application.command()
def page(
    update: Annotated[Path, typer.Option(help="Markdown file with the markers")],
    reports: Annotated[Path, typer.Option(help="folder of model.qat's reports")] = Path("docs/qat"),
) -> None:
    """Rewrite the table between the markers and draw ``qat.svg`` beside the page."""
    found, text = read_reports(reports), update.read_text()
    if BEGIN not in text or END not in text:
        raise InputError(f"{update} lacks the line {BEGIN} or {END}; add both")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    body = "\n".join([BEGIN, *table(found), END])
    command.atomic_write(update, (head + body + tail).encode())
    command.atomic_write(update.with_name("qat.svg"), draw(found))


if __name__ == "__main__":
    command.run(application)
