"""A design for the tools: its Verilog and memory images, and what is known without any tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component

from golden import command
from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.program import Program
from hw.design_files import top_name
from hw.lanes import chosen_lanes
from hw.multiplier import Multipliers
from hw.parameter_memory import ROM_MODULE, ROM_VERILOG, MemoryPlan
from hw.report.gantt import Chart, frame_chart, token_chart
from hw.schedule import Schedule
from hw.streaming.choice import choose_streaming
from hw.streaming.plan import StreamingPlan
from hw.streaming.top import StreamingAccelerator
from hw.top import Accelerator
from hw.verilog import emit


@dataclass(frozen=True)
class Design:
    """A design that was written.

    Parameters
    ----------
    preset, scheme, multipliers : what it realises
    top : name of the top module
    shape : of the network
    schedule : cycles of a token, or the plan of a streaming engine
    """

    preset: str
    scheme: str
    multipliers: Multipliers
    top: str
    shape: NetworkShape
    schedule: Schedule | StreamingPlan

    def describe(self) -> dict[str, Any]:
        """Return names, lanes, exact cycles at full speed and the useful share of lane-cycles."""
        found: dict[str, Any] = {
            "preset": self.preset,
            "scheme": self.scheme,
            "multipliers": str(self.multipliers),
            "top": self.top,
            "mac_lanes": self.schedule.lanes.mac,
            "scan_lanes": self.schedule.lanes.scan,
            "cycles_per_token": self.schedule.interval,
        }
        if isinstance(self.schedule, StreamingPlan):
            found["cycles_per_frame"] = self.schedule.frame_interval
            array, scan = (self.schedule.utilisation[name] for name in ("arrays", "scan"))
        else:
            array = self.schedule.utilisation(self.schedule.interval)
            steps = self.shape.d_inner * self.shape.d_state // self.schedule.lanes.scan
            scan = len(self.schedule.scan_starts) * steps / self.schedule.interval
        return found | {"array_utilisation": round(array, 6), "scan_utilisation": round(scan, 6)}

    def chart(self) -> Chart:
        """Return the chart of the schedule."""
        if isinstance(self.schedule, StreamingPlan):
            return frame_chart(self.schedule)
        return token_chart(self.schedule, self.shape)


def build(
    program: Program,
    *,
    preset: str,
    folder: Path,
    mac_lanes: int | None = None,
    scan_lanes: int | None = None,
    multipliers: Multipliers = Multipliers.DSP,
) -> Design:
    """Write the Verilog and the memory images of a network into ``folder``.

    Raises
    ------
    InputError
        If the lanes do not fit the shape, or array lanes are given for a streaming engine.
    """
    plan = MemoryPlan("mem", multipliers)
    accelerator: Component
    schedule: Schedule | StreamingPlan
    if program.shape.frame is None:
        lanes = chosen_lanes(program.shape, mac_lanes, scan_lanes)
        accelerator = Accelerator(program=program, lanes=lanes, plan=plan)
        schedule = accelerator.schedule
    else:
        if mac_lanes is not None:
            raise InputError(
                f"mac lanes = {mac_lanes} is given, but the lanes of a frame network's arrays "
                "follow from the scan's; give --scan-lanes alone"
            )
        schedule = choose_streaming(program.shape, program.scheme, scan=scan_lanes)
        accelerator = StreamingAccelerator(program=program, plan=schedule, realisation=plan)
    top = top_name(preset, program.scheme.name)
    _write(folder / "rtl", {**emit(accelerator, top), f"{ROM_MODULE}.v": ROM_VERILOG})
    _write(folder / "mem", {f"{name}.hex": plan.hex_text(name) for name in plan.images})
    return Design(preset, program.scheme.name, multipliers, top, program.shape, schedule)


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files, and remove those of an earlier design."""
    for name, text in texts.items():
        command.atomic_write(folder / name, text.encode())
    for path in folder.iterdir():
        if path.name not in texts:
            path.unlink()
