"""Runs the simulation modes with a progress bar and reports them as a table or as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from golden.program import Program
from model.document_statistics import Difference, document_numbers, window_numbers
from model.float_simulation import FloatNetwork
from model.simulation_modes import (
    ModeResult,
    ResearchChoice,
    compare_modes,
    prepare_modes,
    run_modes,
)
from model.sources import BYTE_VALUES, TokenSource
from model.text_windows import WINDOW, choose_windows, cut_windows

__all__ = ["interval_text", "mode_report", "print_modes", "token_groups"]

_CALIBRATION_WINDOWS, _CALIBRATION_WINDOW = 16, 1024
_GROUP = 512
"""Tokens that count as a document where the stream has none: about an article's length."""


def token_groups(vocabulary: int, stream: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the document of every token of ``stream``: articles of text, else equal stretches."""
    if vocabulary == BYTE_VALUES:
        return document_numbers(stream)
    return window_numbers(len(stream), _GROUP)


def _row(result: ModeResult) -> dict[str, Any]:
    return {
        "mode": result.name,
        "bits_per_token": result.bits,
        "against_int8": result.against_int8.to_json(),
        "against_float": result.against_float.to_json(),
    }


def mode_report(
    program: Program,
    network: FloatNetwork,
    tokens: TokenSource,
    modes: tuple[str, ...],
    choice: ResearchChoice,
    *,
    size: int | None,
    seed: int,
) -> dict[str, Any]:
    """Return the JSON report of ``modes`` on the first ``size`` held-out tokens."""
    stream = tokens.held_out[:size]
    pieces = cut_windows(stream, WINDOW)
    count = min(_CALIBRATION_WINDOWS, max(1, len(tokens.train) // _CALIBRATION_WINDOW))
    calibration = choose_windows(tokens.train, count, _CALIBRATION_WINDOW, seed)
    starts = prepare_modes(program, network, modes, calibration, choice)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("modes", total=len(stream) * len(starts))
        costs = run_modes(starts, pieces, lambda done: progress.advance(task, done))
    groups = token_groups(network.parameters.shape.vocabulary, stream)
    results = compare_modes(costs, groups, seed)
    return {
        "modes": [_row(result) for result in results],
        "documents": int(np.unique(groups).size),
        "tokens": len(stream),
        "window": WINDOW,
        "seed": seed,
        "scheme": program.scheme.name,
        "quantile": choice.quantile,
        "code_bits": choice.code_bits,
        "margin": choice.margin,
        "per_channel": choice.per_channel,
    }


def interval_text(difference: dict[str, float] | Difference) -> str:
    """Return a loss with its interval, in percent."""
    values = difference if isinstance(difference, dict) else difference.to_json()
    return f"{values['percent']:+.3f} % [{values['low']:+.3f}, {values['high']:+.3f}]"


def print_modes(report: dict[str, Any]) -> None:
    """Print the table of a report."""
    table = Table(
        title=f"{report['tokens']:,} held-out tokens, {report['documents']} documents, "
        f"{report['scheme']}; 95 % intervals of a paired bootstrap over documents"
    )
    for column in ("mode", "bits per token", "against int8", "against float"):
        table.add_column(column, justify="left" if column == "mode" else "right")
    for row in report["modes"]:
        table.add_row(
            row["mode"],
            f"{row['bits_per_token']:.4f}",
            interval_text(row["against_int8"]),
            interval_text(row["against_float"]),
        )
    Console(width=110).print(table)
