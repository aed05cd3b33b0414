"""A sweep as JSON and as a table for people; alike for language models and frame networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from hw.schedule.area import SHARED, STREAMING, calibration
from hw.schedule.sweep import Candidate, Engine
from hw.streaming.sweep import FrameCandidate

__all__ = ["print_sweep", "sweep_json"]

WIDEST = 1000
"""Characters that no table reaches."""


def _lane_columns(candidate: Engine) -> dict[str, str]:
    """Return what tells the engine from others, and its cycles, by heading."""
    if isinstance(candidate, FrameCandidate):
        return {
            "beat": str(candidate.beat),
            **{name: str(lanes) for name, lanes in candidate.lanes.items()},
            "MAC": str(sum(candidate.lanes.values())),
            "scan": str(candidate.scan_lanes),
            "cycles a frame": f"{candidate.cycles:,}",
        }
    assert isinstance(candidate, Candidate)
    return {
        "MAC": str(candidate.mac_lanes),
        "scan": str(candidate.scan_lanes),
        "cycles a token": f"{candidate.cycles:,}",
    }


def _organisation(candidates: Sequence[Engine]) -> str:
    return STREAMING if any(isinstance(c, FrameCandidate) for c in candidates) else SHARED


def print_sweep(preset: str, scheme: str, candidates: Sequence[Engine]) -> None:
    """Print the engines, those on the Pareto front bold, and the estimate's error below."""
    console = Console()
    table = Table(title=f"{preset} {scheme}: cycles against estimated area")
    for number, candidate in enumerate(candidates):
        columns = {
            **_lane_columns(candidate),
            "useful": f"{candidate.array_utilisation:.1%}",
            **{kind.removeprefix("TRELLIS_"): f"{n:,}" for kind, n in candidate.cells.items()},
            "Pareto": "front" if candidate.pareto else "",
        }
        if number == 0:
            for name in columns:
                table.add_column(name, justify="right", no_wrap=True)
        table.add_row(*columns.values(), style="bold" if candidate.pareto else None)
    # Figures are never cut: a terminal that is too narrow wraps lines.
    free = console.options.update(max_width=WIDEST)
    console.width = max(console.width, console.measure(table, options=free).maximum)
    console.print(table)
    errors = calibration(_organisation(candidates))["held_out_error"]
    console.print(
        "cycles are exact; cells are estimated for ECP5, at most "
        + ", ".join(f"{kind.removeprefix('TRELLIS_')} {errors[kind]:.1%}" for kind in errors)
        + " off on synthesized engines that took no part in the calibration",
        highlight=False,
    )


def sweep_json(preset: str, scheme: str, candidates: Sequence[Engine]) -> str:
    """Return the engines and the estimate's error as JSON."""
    content: dict[str, Any] = {
        "preset": preset,
        "scheme": scheme,
        "held_out_error": calibration(_organisation(candidates))["held_out_error"],
        "engines": [asdict(candidate) for candidate in candidates],
    }
    return json.dumps(content, indent=2)
