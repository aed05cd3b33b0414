"""The command of tables made from reports: collect figures, print, update or check a document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from golden import command
from golden.document import Marks, publish
from golden.errors import InputError
from golden.json_file import read_object

__all__ = ["table_application", "tools_text"]

Designs = list[dict[str, Any]]


def tools_text(designs: Designs) -> str:
    """Return the tools with their versions that made the designs' reports."""
    return ", ".join(sorted({f"{k} {v}" for design in designs for k, v in design["tools"].items()}))


def table_application(
    purpose: str,
    *,
    marks: Marks,
    kept: Path,
    collect: Callable[[list[Path]], Designs],
    table: Callable[[Designs], str],
) -> typer.Typer:
    """Return the command of a table whose figures come from ``report.json`` files.

    Parameters
    ----------
    purpose : what it prints, for --help
    marks : the lines that the table stands between in a document
    kept : file of the collected figures, unless --figures names another
    collect : returns what the table needs of every report
    table : returns the Markdown of the collected designs
    """
    application = typer.Typer(add_completion=False)
    remedy = f"run: {marks.command.removesuffix(' --update')} --collect REPORT..."

    @application.command(help=f"{purpose} Put the table into a document, or compare it with one.")
    def main(
        reports: Annotated[
            list[Path] | None, typer.Argument(help="report.json files for --collect")
        ] = None,
        *,
        collecting: Annotated[
            bool, typer.Option("--collect", help="first keep the reports' figures")
        ] = False,
        figures: Annotated[Path, typer.Option(help="where they are kept")] = kept,
        update: Annotated[list[Path] | None, typer.Option(help="document to rewrite")] = None,
        check: Annotated[list[Path] | None, typer.Option(help="document to compare")] = None,
    ) -> None:
        if collecting != bool(reports):
            raise InputError("give --collect together with the report.json files, or neither")
        if reports:
            content = json.dumps({"designs": collect(reports)}, indent=1, sort_keys=True) + "\n"
            command.atomic_write(figures, content.encode())
        text = table(read_object(figures, remedy)["designs"])
        publish(marks, text, update=update or (), check=check or ())

    return application
