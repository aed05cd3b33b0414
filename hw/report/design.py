"""A design for the tools: its Verilog and memory images, and what is known without any tool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component

from golden.configuration import NetworkShape
from golden.program import Program
from hw.design_files import IMAGE_FOLDER, top_name, write_sources
from hw.lanes import chosen_lanes
from hw.multiplier import Multipliers
from hw.parameter_memory import MemoryPlan
from hw.primitives import Primitives
from hw.report.gantt import Chart, frame_chart, token_chart
from hw.schedule import Schedule
from hw.streaming.choice import choose_streaming
from hw.streaming.generate import refuse_shared_options, refuse_streaming_options
from hw.streaming.plan import StreamingPlan
from hw.streaming.top import StreamingAccelerator
from hw.top import Accelerator


@dataclass(frozen=True)
class Design:
    """A design that was written.

    Parameters
    ----------
    preset, scheme, multipliers, primitives : what it realises
    top : name of the top module
    shape : of the network
    schedule : cycles of a token, or the plan of a streaming engine
    dense_trits : whether ternary weights are stored five to a byte
    persistent : whether the state of a frame network outlives a frame
    contexts : independent streams
    """

    preset: str
    scheme: str
    multipliers: Multipliers
    primitives: Primitives
    top: str
    shape: NetworkShape
    schedule: Schedule | StreamingPlan
    dense_trits: bool = False
    persistent: bool = False
    contexts: int = 1

    def describe(self) -> dict[str, Any]:
        """Return names, lanes, exact cycles at full speed and the useful share of lane-cycles."""
        found: dict[str, Any] = {
            "preset": self.preset,
            "scheme": self.scheme,
            "multipliers": str(self.multipliers),
            "dense_trits": self.dense_trits,
            "persistent": self.persistent,
            "contexts": self.contexts,
            "primitives": str(self.primitives),
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
    beat: int | None = None,
    multipliers: Multipliers | None = None,
    dense_trits: bool = False,
    primitives: Primitives = Primitives.NONE,
    persistent: bool = False,
    contexts: int = 1,
) -> Design:
    """Write the Verilog and the memory images of a network into ``folder``.

    Without ``multipliers`` a frame network gets a mix and a language model hardware multipliers.

    Raises
    ------
    InputError
        If the lanes do not fit the shape, an option is of the other organisation, or contexts have
        no state to keep apart.
    """
    chosen = multipliers or Multipliers.usual(frames=program.shape.frame is not None)
    plan = MemoryPlan(
        IMAGE_FOLDER, multipliers=chosen, dense_trits=dense_trits, primitives=primitives
    )
    accelerator: Component
    schedule: Schedule | StreamingPlan
    if program.shape.frame is None:
        refuse_streaming_options(beat, persistent=persistent)
        lanes = chosen_lanes(program.shape, mac_lanes, scan_lanes, contexts)
        accelerator = Accelerator(program=program, lanes=lanes, plan=plan)
        schedule = accelerator.schedule
    else:
        refuse_shared_options(mac_lanes, dense_trits=dense_trits)
        schedule = choose_streaming(program.shape, program.scheme, scan=scan_lanes, beat=beat)
        accelerator = StreamingAccelerator(
            program=program,
            plan=schedule,
            realisation=plan,
            persistent=persistent,
            contexts=contexts,
        )
    top = top_name(preset, program.scheme.name)
    rtl = write_sources(folder, accelerator, top, plan)
    _remove_others(folder / "rtl", set(rtl))
    _remove_others(folder / IMAGE_FOLDER, {f"{name}.hex" for name in plan.images})
    return Design(
        preset,
        program.scheme.name,
        chosen,
        primitives,
        top,
        program.shape,
        schedule,
        dense_trits=dense_trits,
        persistent=persistent,
        contexts=contexts,
    )


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove the files of an earlier design."""
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
