"""Cosimulates a generated frame network with cocotb on Verilator against its golden program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from golden.vectors import Trace
from hw.streaming.expectation import expected_events
from hw.streaming.generate import StreamingGenerated
from sim.compiled_design import CompiledDesign
from sim.cosimulation import Difference
from sim.streaming_bench import feature_stream

__all__ = [
    "FrameOutcome",
    "FrameStimulus",
    "StreamingCosimulation",
    "find_frame_differences",
    "frame_stimulus",
]


@dataclass(frozen=True, kw_only=True)
class FrameStimulus:
    """What the test bench plays.

    Parameters
    ----------
    features : (value, TLAST) of the stream
    outputs : values to wait for
    watchdog : cycles after which to end with what was recorded so far
    stall_seed : random stalls on both streams from this seed; None for full speed
    longest_stall : cycles of a pause when stalling
    pause_rate : probability of a pause before a feature, and in a cycle of the outputs
    """

    features: list[tuple[int, int]]
    outputs: int
    watchdog: int
    stall_seed: int | None = None
    longest_stall: int = 1
    pause_rate: float = 0.0


@dataclass(frozen=True)
class FrameOutcome:
    """What a cosimulation recorded.

    Parameters
    ----------
    starts, row_starts : cycle 0 of every token, and of every projected row
    probes : cycles and unsigned values of every probe point, in order of appearance
    outputs : (value, TLAST, cycle) as taken from the stream
    unaligned : the output of that name at the end
    finished : False if the watchdog ended the simulation
    """

    starts: np.ndarray
    row_starts: np.ndarray
    probes: dict[str, tuple[np.ndarray, np.ndarray]]
    outputs: list[tuple[int, int, int]]
    unaligned: int
    finished: bool

    @property
    def frame_distances(self) -> list[int]:
        """Return the cycles from each frame's TLAST to the next, counted at the output stream."""
        ends = [cycle for _, last, cycle in self.outputs if last]
        return np.diff(ends).tolist()


def frame_stimulus(
    made: StreamingGenerated, trace: Trace, *, stall_seed: int | None = None, cut: bool = False
) -> FrameStimulus:
    """Return the stimulus of golden frames.

    Parameters
    ----------
    stall_seed : random stalls from this seed
    cut : leave the zeros at the ends of frames to the engine's padding
    """
    plan, frames, sent = made.plan, int(trace.last.sum()), trace.tokens.size
    busy = (frames + 2) * (plan.latency + plan.frame_interval)
    return FrameStimulus(
        features=feature_stream(trace, cut=cut),
        outputs=trace.probes["logits"].size,
        watchdog=busy if stall_seed is None else 12 * busy,
        stall_seed=stall_seed,
        longest_stall=4 * plan.interval,
        # A few pauses a frame, however short it is.
        pause_rate=min(0.2, 4 * frames / sent),
    )


class StreamingCosimulation(CompiledDesign):
    """A frame network's design, compiled once and run with any number of stimuli."""

    def run(
        self,
        stimulus: FrameStimulus,
        name: str = "run",
        *,
        images: Path | None = None,
        plusargs: Mapping[str, str] | None = None,
    ) -> FrameOutcome:
        """Play ``stimulus`` and return what was recorded; see :class:`CompiledDesign`."""
        record, played = self.simulate(
            "sim.streaming_top_bench",
            json.dumps(asdict(stimulus)),
            name,
            images=images,
            plusargs=plusargs,
        )
        return FrameOutcome(
            starts=record.taken + 1,
            row_starts=record.rows + 1,
            probes=record.probes,
            outputs=[(value, last, cycle) for value, last, cycle in played["outputs"]],
            unaligned=played["unaligned"],
            finished=played["finished"],
        )


def find_frame_differences(
    made: StreamingGenerated, outcome: FrameOutcome, trace: Trace
) -> list[Difference]:
    """Return each probe or stream that differs in value or cycle, else nothing."""
    found = []
    frame, frames = made.program.shape.frame, len(trace.probes["logits"])
    assert frame is not None
    rows = frames * frame.rows * (frame.patch is not None)
    padded = []
    for kind, begun, count in (
        ("tokens", outcome.starts, frames * frame.tokens),
        ("rows", outcome.row_starts, rows),
    ):
        starts = np.zeros(count, dtype=np.int64)
        common = min(count, len(begun))
        starts[:common] = begun[:common]
        padded.append(starts)
        if len(begun) != count:
            text = f"{len(begun)} {kind} started, expected {count}"
            found.append(Difference("start", None, text))
    for name, (cycles, values) in outcome.probes.items():
        mask = (1 << made.probe_widths[name][0]) - 1
        events = expected_events(name, made.program, made.plan, trace, *padded)
        wanted = [(cycle, value & mask) for cycle, value in events]
        seen = list(zip(cycles.tolist(), values.tolist(), strict=True))
        found += _first_difference(name, wanted, seen)
    logits = trace.probes["logits"]
    last = np.zeros_like(logits)
    last[:, -1] = 1
    expected = list(zip(logits.ravel().tolist(), last.ravel().tolist(), strict=True))
    given = [(value, ends) for value, ends, _ in outcome.outputs]
    if given != expected:
        text = f"outputs: expected {expected[:4]}, found {given[:4]} (first 4 of {len(given)})"
        found.append(Difference("outputs", None, text))
    if not outcome.finished:
        found.append(Difference("watchdog", None, "the streams did not end in time"))
    return found


def _first_difference(
    name: str, expected: list[tuple[int, int]], seen: list[tuple[int, int]]
) -> list[Difference]:
    """Compare the (cycle, value) of a probe."""
    for position, (due, shown) in enumerate(zip(expected, seen, strict=False)):
        if due != shown:
            text = (
                f"{name}, event {position}: {shown[1]} in cycle {shown[0]}, "
                f"expected {due[1]} in cycle {due[0]}"
            )
            return [Difference(name, min(due[0], shown[0]), text)]
    if len(expected) == len(seen):
        return []
    text = f"{name}: {len(seen)} values, expected {len(expected)}"
    common = min(len(expected), len(seen))
    return [Difference(name, max(expected, seen, key=len)[common][0], text)]
