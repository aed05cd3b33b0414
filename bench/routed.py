"""A network inside one FPGA: ``python -m bench.routed --collect REPORT --update README.md``.

Clock and cells come from a ``report.json`` of ``python -m hw.report``; ``--collect`` keeps what the
table needs in ``bench/routed.json`` or the file of ``--figures``, so that it can be written and
checked without routing again. Cycles of a language model are those of the schedule as it is now,
with one stream and with two contexts, those of a frame network the report's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.collected import table_application, tools_text
from bench.peer import collect
from golden import command
from golden.document import Marks, markdown_table
from golden.errors import InputError
from golden.json_file import read_object
from golden.presets import find_preset
from golden.scheme import find_scheme
from hw.lanes import Lanes
from hw.latencies import latencies
from hw.manifest import cycles_generating
from hw.report.flow import DEVICE_NAME
from hw.schedule import build_schedule

FIGURES = Path(__file__).parent / "routed.json"
MARKS = Marks("routed", "python -m bench.routed --update")
DEVICE_CELLS = {"TRELLIS_COMB": 83_640, "TRELLIS_FF": 83_640, "MULT18X18D": 156, "DP16KD": 208}
"""What the LFE5U-85F has, as nextpnr counts it."""
CLOCK_TARGET = 100.0
USEFUL_TARGETS = {1: 0.90, 2: 0.97}
"""Smallest share of useful lane-cycles of the array, by streams."""


def _stream_rows(design: dict[str, Any]) -> list[list[str]]:
    """Return cycles and tokens a second of one stream, and of two that share the engine."""
    shape, scheme = find_preset(design["preset"]), find_scheme(design["scheme"])
    rows = []
    for contexts, target in USEFUL_TARGETS.items():
        lanes = Lanes(mac=design["mac_lanes"], scan=design["scan_lanes"], contexts=contexts)
        schedule = build_schedule(shape, lanes, latencies(shape, scheme, lanes))
        cycles = cycles_generating(schedule)
        name = "one stream, generating" if contexts == 1 else f"{contexts} contexts, generating"
        useful = schedule.utilisation(cycles)
        rows.append([f"cycles a token, {name}", f"{cycles:,.0f}", ""])
        rows.append([f"array usefully busy, {name}", f"{useful:.1%}", f"≥ {target:.0%}"])
        if contexts == 1:
            rate = design["clock_mhz"] * 1e6 / cycles
            rows.append([f"tokens a second, {name}", f"{rate:,.0f}", ""])
    return rows


def _frame_rows(design: dict[str, Any]) -> list[list[str]]:
    """Return cycles and frames a second while input is there."""
    cycles = design["cycles_per_frame"]
    rows = [
        ["cycles a frame", f"{cycles:,}", ""],
        ["arrays usefully busy", f"{design['array_utilisation']:.1%}", ""],
    ]
    if "clock_mhz" in design:
        rows.append(["frames a second", f"{design['clock_mhz'] * 1e6 / cycles:,.0f}", ""])
    return rows


def _clock_rows(design: dict[str, Any]) -> list[list[str]]:
    """Return the clock of a design that was routed."""
    if "clock_mhz" not in design:
        return []
    seeds = design["clock_mhz_by_seed"]
    spread = f"{min(seeds.values()):.1f} to {max(seeds.values()):.1f}"
    name = f"clock after routing, median of {len(seeds)} seeds"
    return [[name, f"{design['clock_mhz']:.1f} MHz ({spread})", f"≥ {CLOCK_TARGET:.0f} MHz"]]


def table(design: dict[str, Any]) -> str:
    """Return the Markdown table of a network and a line on what was measured.

    Frame networks may have been packed only; then there is no clock.
    """
    of_work = _frame_rows if "cycles_per_frame" in design else _stream_rows
    rows = [
        *_clock_rows(design),
        *of_work(design),
        *(
            [kind.removeprefix("TRELLIS_"), f"{design['cells'][kind]:,}", f"≤ {limit:,}"]
            for kind, limit in DEVICE_CELLS.items()
        ),
    ]
    lanes = f"{design['mac_lanes']} + {design['scan_lanes']}"
    columns = [f"`{design['preset']}` {design['scheme']}, {lanes} lanes", "measured", "target"]
    packed = "" if "clock_mhz" in design else " after packing, not routed"
    limits = "cells' limits are the device's; all weights inside"
    note = f"{DEVICE_NAME}{packed}; {limits}; {tools_text([design])}."
    return f"{markdown_table(columns, rows)}\n\n{note}"


def _collect(reports: list[Path]) -> list[dict[str, Any]]:
    """Return what the table needs of the one report; that of a frame network may be packed only."""
    if len(reports) != 1:
        raise InputError(f"{len(reports)} reports; this table is of one network, give one report")
    frames = "cycles_per_frame" in read_object(reports[0], "run: python -m hw.report")
    return collect(reports, routed=not frames)


def _only(designs: list[dict[str, Any]]) -> str:
    """Return the table of the one design."""
    return table(designs[0])


application = table_application(
    "Print what a network reaches inside one FPGA.",
    marks=MARKS, kept=FIGURES, collect=_collect, table=_only,
)  # fmt: skip

if __name__ == "__main__":
    command.run(application)
