"""Tables in the documents: written by commands between two marking lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from golden.command import atomic_write
from golden.errors import InputError


@dataclass(frozen=True)
class Marks:
    """The two lines that a table stands between.

    Parameters
    ----------
    name : of the table
    command : that writes it, without the document
    """

    name: str
    command: str

    @property
    def begin(self) -> str:
        """The line before the table."""
        return f"<!-- {self.name}: begin, written by {self.command} -->"

    @property
    def end(self) -> str:
        """The line behind the table."""
        return f"<!-- {self.name}: end -->"

    def renewed(self, document: Path, text: str) -> str:
        """Return the document with what stands between the marks replaced.

        Raises
        ------
        InputError
            If the document lacks the lines.
        """
        return self.replaced(document.read_text(), text, document)

    def replaced(self, content: str, text: str, document: Path) -> str:
        """Return ``content`` with what stands between the marks replaced.

        Raises
        ------
        InputError
            If it lacks the lines; ``document`` names it there.
        """
        before, found_begin, rest = content.partition(self.begin)
        _, found_end, after = rest.partition(self.end)
        if not found_begin or not found_end:
            raise InputError(
                f"{document} lacks the lines {self.begin!r} and {self.end!r}; "
                "add them where the table belongs"
            )
        return f"{before}{self.begin}\n\n{text}\n\n{self.end}{after}"


def publish(marks: Marks, text: str, *, update: Sequence[Path], check: Sequence[Path]) -> None:
    """Print a table, put it into the documents of ``update``, compare it with those of ``check``.

    Raises
    ------
    InputError
        If a document lacks the marks, or one of ``check`` has another table.
    """
    typer.echo(text)
    for document in update:
        atomic_write(document, marks.renewed(document, text).encode())
    for document in check:
        if marks.renewed(document, text) != document.read_text():
            raise InputError(f"{document} is not current; run: {marks.command} {document}")


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
