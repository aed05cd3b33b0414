"""Tables in the documents: written by commands between two marking lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from golden.errors import InputError


def renewed(document: Path, begin: str, end: str, text: str) -> str:
    """Return the document with what stands between its lines ``begin`` and ``end`` replaced.

    Raises
    ------
    InputError
        If the document lacks the lines.
    """
    before, found_begin, rest = document.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise InputError(
            f"{document} lacks the lines {begin!r} and {end!r}; add them where the table belongs"
        )
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])
