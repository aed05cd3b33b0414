"""Measures and writes the accuracy page and the README's table: ``model.evaluate --table``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from golden.command import atomic_write
from golden.document import Marks
from model.accuracy_page import (
    AccuracyFigures,
    block_losses,
    page_tables,
    readme_table,
    result_bars,
)
from model.accuracy_plan import STATISTICS, find_rows
from model.accuracy_plot import draw_blocks, draw_losses
from model.accuracy_records import Sources, measure_rows
from model.qat_page import freezing_table, read_pilots, read_reports, trained_table
from model.qat_plot import draw
from model.statistics_plot import draw_histograms

__all__ = ["FREEZING", "RECORDS", "TRAINED", "make_table", "page_files"]

_COMMAND = "python -m model.evaluate --table"
RECORDS, TRAINED = Path("docs/accuracy"), Path("docs/qat")
FREEZING = TRAINED / "freezing"
_PAGE, _README = Path("docs/accuracy.md"), Path("README.md")
_HISTOGRAMS = {
    "u": "u, scan's input",
    "scan_output": "y, scan's output",
    "before rotation": "y SiLU(z)",
    "gated": "the same, rotated",
}


def _renewed(document: Path, tables: dict[str, str]) -> bytes:
    """Return the document with every table replaced."""
    content = document.read_text(encoding="utf-8")
    for name, text in tables.items():
        content = Marks(name, _COMMAND).replaced(content, text, document)
    return content.encode()


def page_files(root: Path = Path()) -> dict[Path, bytes]:
    """Return pages and figures by path, from the records below ``root``.

    Raises
    ------
    InputError
        If a record, a report or a marker is missing.
    """
    reports = read_reports(root / TRAINED)
    figures = AccuracyFigures(root / RECORDS, reports)
    tables = {
        **page_tables(figures),
        "trained": trained_table(reports),
        "freezing": freezing_table(read_pilots(root / FREEZING)),
    }
    drawings: dict[str, Callable[[], bytes]] = {
        "losses.svg": lambda: draw_losses(result_bars(figures)),
        "blocks.svg": lambda: draw_blocks(*block_losses(figures)),
        "histograms.svg": lambda: draw_histograms(
            figures.record(STATISTICS)["layers"], _HISTOGRAMS,
            f"{STATISTICS.scheme}: values before and after rounding, on a logarithmic scale",
        ),
        "training.svg": lambda: draw(reports),
    }  # fmt: skip
    return {
        root / _PAGE: _renewed(root / _PAGE, tables),
        root / _README: _renewed(root / _README, {"accuracy": readme_table(figures)}),
        **{root / RECORDS / name: drawn() for name, drawn in drawings.items()},
    }


def make_table(corpus_file: Path | None, second: Path | None, only: list[str]) -> None:
    """Measure the rows that are not yet, or ``only`` those named, and write the pages.

    Parameters
    ----------
    corpus_file : where the corpus lies, if its package is not installed
    second : float network of training seed 1
    only : rows to measure, leaving the pages as they are; none for all
    """
    rows = find_rows(only)
    measured = measure_rows(rows, RECORDS, Sources(corpus_file, second))
    if not only:
        for path, content in page_files().items():
            atomic_write(path, content)
    Console(stderr=True).print(
        f"{len(measured)} of {len(rows)} rows measured, the others were finished", highlight=False
    )
