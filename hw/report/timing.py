"""The critical path in the design's own names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# What tools append to the net's name: cell types, ports, packing, and Yosys' private names.
_INVENTED = re.compile(r"(_(TRELLIS_FF|LUT4|CCU2C|PFUMX|L6MUX21|MULT18X18D|DP16KD)_.*|\$CCU2_.*)$")


@dataclass(frozen=True)
class PathStep:
    """One delay of a path.

    Parameters
    ----------
    kind : clk-to-q, logic, routing or setup
    delay : ns
    cell : cell that the delay ends in
    signal : net of the design that the path runs through, for routing
    """

    kind: str
    delay: float
    cell: str
    signal: str


def plain_name(name: str) -> str:
    """Return the design's part of a cell's or net's name."""
    return _INVENTED.sub("", name)


def critical_path(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of the slowest register-to-register path of nextpnr's report."""
    paths = [
        path["path"]
        for path in report.get("critical_paths", [])
        if path["from"].startswith("posedge") and path["to"].startswith("posedge")
    ]
    if not paths:
        return []
    slowest = max(paths, key=lambda steps: sum(step["delay"] for step in steps))
    return [
        asdict(
            PathStep(
                kind=step["type"],
                delay=round(step["delay"], 4),
                cell=step["to"]["cell"],
                signal=plain_name(step.get("net", "")),
            )
        )
        for step in slowest
    ]


def signals(path: Sequence[PathStep]) -> list[str]:
    """Return the named signals along a path, each once, in order."""
    found: list[str] = []
    for step in path:
        if step.signal and step.signal not in found:
            found.append(step.signal)
    return found


def share(path: Sequence[PathStep], kind: str) -> float:
    """Return the ns of a path that are of one kind."""
    return sum(step.delay for step in path if step.kind == kind)
