"""Fills the tables of the accuracy page: ``python -m model.accuracy_page --update FILE``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from golden import command
from golden.errors import InputError
from golden.scheme import SCHEMES

application = typer.Typer(add_completion=False)
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
TARGETS = {
    "w8a8": 1.0, "w4a8": 4.5, "w4a5-se": 6.0,
    "w8a8-h": 0.25, "w4a8-h": 1.7, "w4a5-se-h": 2.7, "w4a4-h": 8.0,
}  # fmt: skip
"""Largest loss in percent that post-training quantization was asked to stay below."""
STAGED = ("w8a8", "w4a8", "w4a5-se")
"""Schemes whose stages the page shows."""


def _load(path: Path, remedy: str) -> Any:
    if not path.is_file():
        raise InputError(f"no file {path}; write it with: {remedy}")
    return json.loads(path.read_text())


def _place(scheme: str) -> tuple[int, str]:
    """Return a key that sorts schemes as they are defined; others come last."""
    known = list(SCHEMES)
    return (known.index(scheme) if scheme in known else len(known), scheme)


def _summary(report: dict[str, Any]) -> list[str]:
    origin = (
        f"Held-out text: {report['tokens']:,} bytes of {report['data']}, windows of "
        f"{report['window']:,} bytes, the state reset at each."
    )
    lines = [
        origin,
        "",
        "| program | bits per byte | loss | target |",
        "|---|---|---|---|",
        f"| float | {report['float']:.4f} | | |",
    ]
    for scheme, bits in sorted(report["schemes"].items(), key=lambda item: _place(item[0])):
        target = f"at most +{TARGETS[scheme]} %" if scheme in TARGETS else ""
        loss = f"{report['loss_percent'][scheme]:+.2f} %"
        lines.append(f"| {scheme} | {bits:.4f} | {loss} | {target} |")
    return lines


def _stages(reports: dict[str, list[dict[str, Any]]]) -> list[str]:
    names = [loss["stage"] for loss in next(iter(reports.values())) if loss["stage"] != "float"]
    losses = {
        scheme: {loss["stage"]: loss["loss_percent"] for loss in report}
        for scheme, report in reports.items()
    }
    lines = [f"| stage alone | {' | '.join(reports)} |", "|---|" + "---|" * len(reports)]
    lines += [
        f"| {name} | " + " | ".join(f"{losses[scheme][name]:+.2f} %" for scheme in reports) + " |"
        for name in names
    ]
    return lines


def update_page(update: Path, accuracy: Path) -> None:
    """Rewrite the tables of ``update`` between the markers from the reports beside ``accuracy``.

    Raises
    ------
    InputError
        If a report or a marker is missing.
    """
    report = _load(accuracy, "python -m model.evaluate --out docs/accuracy.json")
    stages = {
        scheme: _load(
            accuracy.with_name(f"stages-{scheme}.json"),
            f"python -m model.quantize --scheme {scheme} --out FILE --report FILE.json",
        )
        for scheme in STAGED
    }
    text = update.read_text()
    if BEGIN not in text or END not in text:
        raise InputError(f"{update} lacks the line {BEGIN} or {END}; add both")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    body = "\n".join([BEGIN, *_summary(report), "", *_stages(stages), END])
    command.atomic_write(update, (head + body + tail).encode())


@application.command()
def page(
    update: Annotated[Path, typer.Option(help="Markdown file with the markers")],
    accuracy: Annotated[Path, typer.Option(help="report of model.evaluate")] = Path(
        "docs/accuracy.json"
    ),
) -> None:
    """Rewrite the tables between the markers from the reports beside ``accuracy``."""
    update_page(update, accuracy)


if __name__ == "__main__":
    command.run(application)
