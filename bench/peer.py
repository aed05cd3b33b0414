"""Our figures beside the peer's: ``python -m bench.peer --collect REPORT... --update README.md``.

The peer is Sway, an open re-implementation of eMamba's radar-pose model on the same FPGA with the
same open tools; its figures are the published ones of its engine with one lane a unit. Ours come
from the ``report.json`` files that ``python -m hw.report`` writes; ``--collect`` keeps what the
table needs in ``bench/peer.json``, so that it can be written and checked without routing again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.collected import table_application, tools_text
from golden import command
from golden.document import Marks, markdown_table
from golden.errors import InputError
from golden.json_file import read_object

FIGURES = Path(__file__).parent / "peer.json"
MARKS = Marks("peer", "python -m bench.peer --update")
PEER_CELLS = {"TRELLIS_COMB": 39_794, "TRELLIS_FF": 57_790, "MULT18X18D": 45, "DP16KD": 22}
PEER: dict[str, Any] = {
    "cycles_per_frame": 18_592,
    "clock_mhz": 101.5,
    "lanes_busy": 0.234,
    "cells": PEER_CELLS,
}
"""Published, after place and route on the LFE5U-85F at speed grade 6."""
PEER_NAME = "Sway, published"
KEPT = (
    "preset",
    "scheme",
    "mac_lanes",
    "scan_lanes",
    "cycles_per_token",
    "cycles_per_frame",
    "array_utilisation",
    "scan_utilisation",
    "clock_mhz",
    "clock_mhz_by_seed",
    "device",
    "tools",
)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    name : what is compared
    value : the figure of a design, None if it has none
    shown : how the figure is written
    less_is_better : whether ours should be the smaller one
    """

    name: str
    value: Callable[[dict[str, Any]], float | None]
    shown: str
    less_is_better: bool = True


def _busy(design: dict[str, Any]) -> float:
    """Return the useful share of lane-cycles, each lane of array and scan counting one."""
    if "lanes_busy" in design:
        return float(design["lanes_busy"])
    lanes = {"array": design["mac_lanes"], "scan": design["scan_lanes"]}
    useful = sum(count * design[f"{unit}_utilisation"] for unit, count in lanes.items())
    return float(useful) / sum(lanes.values())


def _frames(design: dict[str, Any]) -> float | None:
    """Return the frames a second at full speed."""
    cycles = design.get("cycles_per_frame")
    return None if cycles is None else design["clock_mhz"] * 1e6 / cycles


def _count(kind: str, design: dict[str, Any]) -> int:
    """Return a design's cells of one type."""
    return int(design["cells"].get(kind, 0))


ROWS = (
    Row("cycles a frame", lambda design: design.get("cycles_per_frame"), "{:,.0f}"),
    Row("cycles a token", lambda design: design.get("cycles_per_token"), "{:,.0f}"),
    Row(
        "clock after routing, MHz",
        lambda design: design["clock_mhz"],
        "{:,.1f}",
        less_is_better=False,
    ),
    Row("frames a second", _frames, "{:,.0f}", less_is_better=False),
    *(Row(kind.removeprefix("TRELLIS_"), partial(_count, kind), "{:,.0f}") for kind in PEER_CELLS),
    Row("lane-cycles that compute usefully", _busy, "{:.1%}", less_is_better=False),
)


def collect(reports: list[Path], *, routed: bool = True) -> list[dict[str, Any]]:
    """Return what the table needs of every report, in the order given.

    Raises
    ------
    InputError
        If a file is missing or, where ``routed`` designs are asked for, is of another.
    """
    found = []
    for path in reports:
        report = read_object(path, "run: python -m hw.report")
        if routed and "clock_mhz" not in report:
            raise InputError(f"{path} has no routed clock; run hw.report with --target ecp5")
        kept = {name: report[name] for name in KEPT if name in report}
        kept["cells"] = {kind: report["cells"].get(kind, 0) for kind in PEER_CELLS}
        found.append(kept)
    return found


def _cell(row: Row, design: dict[str, Any]) -> str:
    """Return a design's figure, and how it compares with the peer's where both have one."""
    value, peer = row.value(design), row.value(PEER)
    if value is None:
        return ""
    text = row.shown.format(value)
    if design is PEER or peer is None or not value:
        return text
    factor = peer / value if row.less_is_better else value / peer
    return f"{text} ({factor:.2f}x)"


def table(designs: list[dict[str, Any]]) -> str:
    """Return the Markdown table: the peer first, a column a design, and what the figures are."""
    names = [
        f"`{d['preset']}` {d['scheme']}, {d['mac_lanes']} + {d['scan_lanes']}" for d in designs
    ]
    columns = [PEER_NAME, *names]
    everyone = [PEER, *designs]
    rows = [[row.name, *(_cell(row, design) for design in everyone)] for row in ROWS]
    seeds = sorted({len(design["clock_mhz_by_seed"]) for design in designs})
    note = (
        f"{designs[0]['device']}; clock: median of {' or '.join(map(str, seeds))} seeds; factors "
        f"above 1 are in our favour; lanes: arrays + scan; {tools_text(designs)}."
    )
    return f"{markdown_table(['on the same FPGA', *columns], rows)}\n\n{note}"


application = table_application(
    "Print our figures beside the peer's.",
    marks=MARKS, kept=FIGURES, collect=collect, table=table,
)  # fmt: skip

if __name__ == "__main__":
    command.run(application)
