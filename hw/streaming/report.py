"""The prediction of a frame network's cycles, as data and as a table for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from golden.scheme import Scheme
from hw.streaming.manifest import prediction
from hw.streaming.plan import StreamingPlan

__all__ = ["print_streaming", "streaming_report"]


def streaming_report(plan: StreamingPlan, scheme: Scheme) -> dict[str, Any]:
    """Return cycles, lanes and utilisation; ``stages`` holds the arrays and the scan by name."""
    stages: dict[str, dict[str, float]] = {
        name: {
            "rows": stage.rows,
            "columns": stage.columns,
            "lanes": stage.lanes,
            "cycles": stage.duration,
            "utilisation": plan.utilisation[name],
        }
        for name, stage in plan.stages.items()
    }
    return {"scheme": scheme.name, **prediction(plan), "stages": stages}


def print_streaming(preset: str, found: dict[str, Any]) -> None:
    """Print a report's table, and a line below it."""
    console = Console()
    table = Table(title=f"{preset} {found['scheme']}: a block every {found['beat']} cycles")
    for column in ("array", "matrix", "lanes", "cycles a run", "lanes busy"):
        table.add_column(column, justify="left" if column == "array" else "right")
    for name, stage in found["stages"].items():
        matrix = f"{stage['rows']} x {stage['columns']}"
        busy = f"{stage['utilisation']:.1%}"
        table.add_row(name, matrix, f"{stage['lanes']}", f"{stage['cycles']:,}", busy)
    console.print(table)
    console.print(
        f"{found['mac_lanes']} MAC lanes ({found['utilisation']['arrays']:.1%} useful), "
        f"{found['scan_lanes']} scan lanes ({found['utilisation']['scan']:.1%} busy): "
        f"{found['predicted_cycles_per_frame']:,} cycles a frame, "
        f"{found['predicted_cycles_per_token']:,} a token, "
        f"{found['predicted_latency']:,} from a frame's first token to its last output",
        highlight=False,
    )
