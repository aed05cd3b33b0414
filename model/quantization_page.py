"""Fills the quantization page: ``python -m model.quantization_page --update FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from golden import command
from golden.document import Marks, markdown_table
from golden.json_file import read_object
from golden.scheme import DualScale
from model.mode_report import interval_text
from model.scan_study import together_cells

application = typer.Typer(add_completion=False)
_COMMAND = "python -m model.quantization_page --update"
_REMEDY = "the page names the command that writes it"

MILLION = 1_000_000


def _load(folder: Path, name: str) -> Any:
    return read_object(folder / f"{name}.json", _REMEDY)


def _modes(folder: Path, name: str) -> str:
    rows = [
        [
            row["mode"], f"{row['bits_per_token']:.4f}", interval_text(row["against_int8"]),
            interval_text(row["against_float"]),
        ]
        for row in _load(folder, name)["modes"]
    ]  # fmt: skip
    return markdown_table(["mode", "bits per byte", "against int8", "against float"], rows)


def _study(folder: Path) -> str:
    report = _load(folder, "scan-study")
    rows = []
    for name, points in report["sweeps"].items():
        limit = report["narrowest"][name]
        for point in points:
            good = "yes" if limit is not None and point["value"] >= limit else ""
            rows.append([name, str(point["value"]), interval_text(point), good])
    if report["narrowest_together"] is not None:
        rows.append(["the narrowest together", "", *together_cells(report)])
    return markdown_table(["sweep", "bits or log2 of segments", "loss", "as good as float"], rows)


def _observers(folder: Path) -> str:
    rows = [
        [row["group"], row["value"], interval_text(row)]
        for row in _load(folder, "observer-sweep")["settings"]
    ]
    return markdown_table(["group", "setting", "loss"], rows)


def _pieces(folder: Path) -> str:
    rows = [
        [
            row["storage"], str(row["scales_a_layer"]), str(row["bits_a_value"]),
            interval_text(row),
        ]
        for row in _load(folder, "piecewise-scales")["storages"]
    ]  # fmt: skip
    return markdown_table(["storage", "scales a layer", "bits a value", "loss"], rows)


def storage_account(code_bits: int, channels: int) -> dict[str, float]:
    """Return the bits that dual scale stores a token and layer of ``channels`` (Q6).

    ``payload`` are the codes, ``flags`` a bit each; ``scales`` is one exponent byte a channel, kept
    once and not a token; ``saved_percent`` compares payload and flags with INT8.
    """
    stored = DualScale(code_bits=code_bits).code_bits + 1
    return {
        "payload": float(code_bits * channels),
        "flags": float(channels),
        "scales": float(8 * channels),
        "saved_percent": 100.0 * (1.0 - stored / 8.0),
    }


def _storage() -> str:
    rows = []
    for name, bits in (("a5: 4-bit codes", 4), ("a6: 5-bit codes", 5)):
        own = storage_account(bits, 256)
        sizes = [f"{own[part]:,.0f}" for part in ("payload", "flags", "scales")]
        rows.append([name, *sizes, f"{own['saved_percent']:.1f} %"])
    header = ["storage of 256 channels", "payload bits", "flag bits", "scale bits", "saved"]
    return markdown_table(header, rows)


def _costs(folder: Path) -> str:
    rows = []
    for path in sorted((folder / "costs").glob("*.json"), reverse=True):
        report = read_object(path, _REMEDY)
        seconds, memory = f"{report['seconds']:.0f} s", f"{report['gibibytes']:.1f} GiB"
        if report["tokens"] is not None:
            share = MILLION / report["tokens"]
            seconds += (
                f" for {report['tokens']:,} bytes: {share * report['seconds']:.0f} s a million"
            )
        commands = "<br>".join(f"`{own}`" for own in report["commands"])
        rows.append([commands, seconds, memory, report["machine"]["processor"]])
    return markdown_table(["on two cores", "time", "memory", "processor"], rows)


def page_text(text: str, folder: Path) -> str:
    """Return ``text`` with every marked table written anew from the reports in ``folder``.

    Raises
    ------
    InputError
        If a marker or a report is missing.
    """
    tables = {
        "modes": _modes(folder, "simulation-modes"),
        "modes with INT8 codes": _modes(folder, "simulation-modes-int8-codes"),
        "scan study": _study(folder),
        "observers": _observers(folder),
        "pieces": _pieces(folder),
        "storage": _storage(),
        "costs": _costs(folder),
    }
    for name, table in tables.items():
        text = Marks(name, _COMMAND).replaced(text, table, folder / "quantization.md")
    return text


@application.command()
def page(update: Annotated[Path, typer.Option(help="Markdown file with the markers")]) -> None:
    """Rewrite the marked tables of a page from the reports beside it."""
    command.atomic_write(update, page_text(update.read_text(), update.parent).encode())


if __name__ == "__main__":
    command.run(application)
