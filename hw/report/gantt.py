"""The schedule of one token as bars: who works when, and how many lanes in vain."""

from __future__ import annotations

from dataclasses import dataclass

from golden.configuration import NetworkShape
from hw.schedule import Schedule


@dataclass(frozen=True)
class Bar:
    """One stretch of work.

    Parameters
    ----------
    unit : array or scan
    name : instruction, or the scan's block
    start, end : cycles
    busy : share of the unit's lane-cycles in the stretch that compute usefully
    """

    unit: str
    name: str
    start: int
    end: int
    busy: float


def bars(schedule: Schedule, shape: NetworkShape) -> list[Bar]:
    """Return the work of one token on array and scan, in order of the start."""
    found = []
    for instruction in schedule.array:
        lane_cycles = (instruction.end - instruction.start) * schedule.lanes.mac
        busy = instruction.products / lane_cycles
        found.append(Bar("array", instruction.name, instruction.start, instruction.end, busy))
    steps = shape.d_inner * shape.d_state // schedule.lanes.scan
    for block, start in enumerate(schedule.scan_starts):
        found.append(Bar("scan", f"scan {block}", start, start + steps, 1.0))
    return sorted(found, key=lambda bar: (bar.start, bar.unit))


def idle_lane_cycles(found: list[Bar], unit: str, interval: int) -> float:
    """Return the share of a unit's lane-cycles, of ``interval`` cycles a token, without use."""
    useful = sum((bar.end - bar.start) * bar.busy for bar in found if bar.unit == unit)
    return 1 - useful / interval
