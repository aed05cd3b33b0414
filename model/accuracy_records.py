"""Records of measurements: JSON files that say by digest what was measured, and who needs one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from golden.command import atomic_write
from golden.errors import InputError
from golden.json_file import read_object
from model.sources import BYTE_VALUES, FloatSource, TokenSource, find_network, find_tokens

__all__ = ["Identity", "Row", "Sources", "measure_rows", "read_record"]

Identity = dict[str, Any]
"""What a record must say to be the one of a row; JSON values."""


class Sources:
    """Networks and text of all rows, each read when it is first asked for.

    Parameters
    ----------
    corpus_file : where the corpus lies, if its package is not installed
    second : float network of training seed 1; None relies on the records there are
    """

    def __init__(self, corpus_file: Path | None, second: Path | None) -> None:
        self._corpus_file, self._second = corpus_file, second
        self._networks: dict[tuple[str, int], FloatSource] = {}

    @cached_property
    def tokens(self) -> TokenSource:
        """The corpus."""
        return find_tokens(BYTE_VALUES, "wikipedia", self._corpus_file, 0, length=0)

    def network(self, preset: str, seed: int) -> FloatSource:
        """Return the preset's float network of a training seed.

        Raises
        ------
        InputError
            If the seed is 1 and its checkpoint was not given.
        """
        key = preset, seed
        if key not in self._networks:
            if seed and self._second is None:
                raise InputError(
                    "the networks of training seed 1 are not measured yet; give their float "
                    "network as --second-checkpoint"
                )
            self._networks[key] = find_network(preset, self._second if seed else None, 0)
        return self._networks[key]

    def identity(self, preset: str, seed: int) -> Identity:
        """Return the digests of network and text; of a network that is not there, none."""
        own: Identity = dict(self.tokens.description)
        if not seed or self._second is not None:
            own |= self.network(preset, seed).description
        return own

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar; what is yielded is told how many tokens were just processed."""
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        ) as progress:
            task = progress.add_task(name, total=total)
            yield lambda count: progress.advance(task, count)


class Row(Protocol):
    """Something to measure: a name for its record, what it is, and how."""

    @property
    def name(self) -> str:
        """Name of the record, unique."""

    def identity(self, sources: Sources) -> Identity:
        """Return what is measured."""

    def measure(self, sources: Sources) -> dict[str, Any]:
        """Return the figures, JSON values."""


def read_record(folder: Path, name: str) -> dict[str, Any]:
    """Return a record.

    Raises
    ------
    InputError
        If there is none, with the command that measures it, or it is no JSON object.
    """
    remedy = f"delete what is damaged, then python -m model.evaluate --table --only {name}"
    return read_object(folder / f"{name}.json", remedy)


def _is_finished(folder: Path, row: Row, identity: Identity) -> bool:
    """Return whether the row's record says that it is of what ``identity`` says."""
    if not (folder / f"{row.name}.json").is_file():
        return False
    record = read_record(folder, row.name)
    return all(name in record and record[name] == value for name, value in identity.items())


def measure_rows(rows: Sequence[Row], folder: Path, sources: Sources) -> list[str]:
    """Measure the rows whose record is missing or of something else; return their names."""
    console, measured = Console(stderr=True), list[str]()
    for number, row in enumerate(rows, 1):
        # As it comes back from a file: tuples are lists there.
        identity = json.loads(json.dumps(row.identity(sources)))
        if _is_finished(folder, row, identity):
            continue
        console.print(f"{number} of {len(rows)}: {row.name}", highlight=False)
        record = {**identity, **row.measure(sources)}
        text = json.dumps(record, indent=1, sort_keys=True) + "\n"
        atomic_write(folder / f"{row.name}.json", text.encode())
        measured.append(row.name)
    return measured
