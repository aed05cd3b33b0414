"""A schedule as bars: who works when, and how many lanes in vain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from golden.configuration import NetworkShape
from hw.schedule import Schedule
from hw.streaming.plan import FRONT_START, StreamingPlan


@dataclass(frozen=True)
class Bar:
    """One stretch of work.

    Parameters
    ----------
    unit : array or scan
    name : the stage that works
    start, end : cycles of the chart
    busy : share of the unit's lane-cycles in the stretch that compute usefully
    """

    unit: str
    name: str
    start: int
    end: int
    busy: float


@dataclass(frozen=True)
class Chart:
    """What repeats at full speed: one token, or one frame of a streaming engine.

    Parameters
    ----------
    work : token or frame
    start, cycles : the stretch that repeats
    lanes : lanes of every unit, in the order of drawing
    bars : all work of the stretch; what began in the one before is wrapped around
    """

    work: str
    start: int
    cycles: int
    lanes: dict[str, int]
    bars: list[Bar]

    def useful(self, unit: str) -> float:
        """Return the share of a unit's lane-cycles that compute usefully."""
        work = sum((bar.end - bar.start) * bar.busy for bar in self.bars if bar.unit == unit)
        return work / self.cycles


def _wrapped(found: Iterable[Bar], start: int, cycles: int) -> list[Bar]:
    """Return the bars inside the stretch, those that leave it continued at its beginning."""
    inside = []
    for bar in found:
        first = (bar.start - start) % cycles + start
        last = first + bar.end - bar.start
        inside.append(Bar(bar.unit, bar.name, first, min(last, start + cycles), bar.busy))
        if last > start + cycles:
            inside.append(Bar(bar.unit, bar.name, start, last - cycles, bar.busy))
    return sorted(inside, key=lambda bar: (bar.start, bar.unit))


def token_chart(schedule: Schedule, shape: NetworkShape) -> Chart:
    """Return the chart of one token of the engine with one array."""
    found = []
    for instruction in schedule.array:
        lane_cycles = (instruction.end - instruction.start) * schedule.lanes.mac
        busy = instruction.products / lane_cycles
        found.append(Bar("array", instruction.name, instruction.start, instruction.end, busy))
    steps = shape.d_inner * shape.d_state // schedule.lanes.scan
    found += [Bar("scan", "scan", start, start + steps, 1.0) for start in schedule.scan_starts]
    first, lanes = found[0].start, {"array": schedule.lanes.mac, "scan": schedule.lanes.scan}
    return Chart(
        "token", first, schedule.interval, lanes, _wrapped(found, first, schedule.interval)
    )


def frame_chart(plan: StreamingPlan) -> Chart:
    """Return the chart of one frame of a streaming engine at full speed."""
    shape, cycles = plan.shape, plan.frame_interval
    assert shape.frame is not None
    lanes = {name: stage.lanes for name, stage in plan.stages.items()} | {"scan": plan.lanes.scan}
    last = (shape.frame.tokens - 1) * plan.interval
    norm = (plan.probes | plan.frame_probes)["final_norm"]
    before_head = plan.frame_probes["hidden"][-1] if "hidden" in lanes else norm[0]
    # The rows of the next frame are spread evenly under the tokens of this one.
    rows = np.arange(shape.frame.rows) * cycles // shape.frame.rows
    starts = {
        "rows": rows.tolist(),
        "front": [FRONT_START + token * plan.interval for token in range(shape.frame.tokens)],
        "hidden": [last + int(norm[0])],
        "head": [last + int(before_head)],
    }
    blocks = [
        plan.origin + token * plan.interval + layer * plan.hop * plan.beat
        for token in range(shape.frame.tokens)
        for layer in range(shape.n_layer)
    ]
    # An average begins with the first row that arrives, not at a start pulse.
    within = {"scan": plan.tags.get("average", 0)} | plan.starts
    found = []
    for unit in lanes:
        begins = starts.get(unit, [block + within.get(unit, 0) for block in blocks])
        if unit == "scan":
            duration, busy = shape.d_inner * shape.d_state // plan.lanes.scan, 1.0
        else:
            stage = plan.stages[unit]
            duration = stage.duration
            busy = stage.rows * stage.columns / (stage.lanes * duration)
        found += [Bar(unit, unit, begin, begin + duration, busy) for begin in begins]
    return Chart("frame", 0, cycles, lanes, _wrapped(found, 0, cycles))
