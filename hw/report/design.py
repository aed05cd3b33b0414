"""What is known of a design without any tool: cycles, lanes and the chart of its schedule."""

from __future__ import annotations

from typing import Any

from golden.configuration import NetworkShape
from hw.generate import Generated
from hw.report.gantt import Chart, frame_chart, token_chart
from hw.schedule import Schedule
from hw.streaming.plan import StreamingPlan


def _cycles(schedule: Schedule | StreamingPlan, shape: NetworkShape) -> dict[str, Any]:
    """Return lanes, exact cycles at full speed and the share of useful lane-cycles."""
    if isinstance(schedule, StreamingPlan):
        busy = schedule.utilisation
        return {
            "mac_lanes": schedule.lanes.mac,
            "scan_lanes": schedule.lanes.scan,
            "cycles_per_token": schedule.interval,
            "cycles_per_frame": schedule.frame_interval,
            "array_utilisation": round(busy["arrays"], 6),
            "scan_utilisation": round(busy["scan"], 6),
        }
    scanned = len(schedule.scan_starts) * shape.d_inner * shape.d_state // schedule.lanes.scan
    return {
        "mac_lanes": schedule.lanes.mac,
        "scan_lanes": schedule.lanes.scan,
        "cycles_per_token": schedule.interval,
        "array_utilisation": round(schedule.utilisation(schedule.interval), 6),
        "scan_utilisation": round(scanned / schedule.interval, 6),
    }


def describe(preset: str, made: Generated) -> dict[str, Any]:
    """Return the report's description of a generated design."""
    named = {"preset": preset, "scheme": made.program.scheme.name, "top": made.top}
    return named | _cycles(made.schedule, made.program.shape)


def chart(made: Generated) -> Chart:
    """Return the chart of the design's schedule."""
    if isinstance(made.schedule, StreamingPlan):
        return frame_chart(made.schedule)
    return token_chart(made.schedule, made.program.shape)
