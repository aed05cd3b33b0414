"""Cosimulates a generated frame network with cocotb on Verilator against its golden program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from golden.vectors import Trace
from hw.streaming.expectation import expected_events, output_beats
from hw.streaming.generate import StreamingGenerated
from sim.compiled_design import CompiledDesign
from sim.cosimulation import Difference
from sim.operations import Operation
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
    features : (value, TLAST, TID) of the stream
    outputs : values to wait for
    tokens : of a frame
    contexts : C, as the design has them
    reset_at_last : control register
    operations : of the host between frames
    states : saved words by name that operations may restore
    watchdog : cycles after which to end with what was recorded so far
    stall_seed : random stalls on both streams from this seed; None for full speed
    longest_stall : cycles of a pause when stalling
    pause_rate : probability of a pause before a feature, and in a cycle of the outputs
    """

    features: list[tuple[int, int, int]]
    outputs: int
    tokens: int
    watchdog: int
    contexts: int = 1
    reset_at_last: bool = True
    operations: list[Operation] = field(default_factory=list)
    states: dict[str, list[list[int]]] = field(default_factory=dict)
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
    outputs : (value, TLAST, TID, cycle) as taken from the stream, TID 0 without contexts
    saved : words of the state memories by the name of the operation that saved them
    unaligned : the output of that name at the end
    finished : False if the watchdog ended the simulation
    """

    starts: np.ndarray
    row_starts: np.ndarray
    probes: dict[str, tuple[np.ndarray, np.ndarray]]
    outputs: list[tuple[int, int, int, int]]
    saved: dict[str, list[list[int]]]
    unaligned: int
    finished: bool

    @property
    def frame_distances(self) -> list[int]:
        """Return the cycles from each frame's TLAST to the next, counted at the output stream."""
        ends = [cycle for _, last, _, cycle in self.outputs if last]
        return np.diff(ends).tolist()


def frame_stimulus(
    made: StreamingGenerated,
    trace: Trace,
    *,
    stall_seed: int | None = None,
    cut: bool = False,
    reset_at_last: bool = True,
    operations: Sequence[Operation] = (),
    states: Mapping[str, list[list[int]]] | None = None,
) -> FrameStimulus:
    """Return the stimulus of golden frames.

    Parameters
    ----------
    stall_seed : random stalls from this seed
    cut : leave the zeros at the ends of frames to the engine's padding
    reset_at_last : the policy of a persistent design
    operations, states : see :class:`FrameStimulus`
    """
    plan, frames, sent = made.plan, int(trace.last.sum()), trace.tokens.size
    assert made.program.shape.frame is not None
    busy = (frames + 2) * (plan.latency + plan.frame_interval)
    # An access takes a few cycles, and a word a few accesses.
    busy += 64 * len(operations) * sum(s[0].size for s in (trace.window, trace.state))
    return FrameStimulus(
        features=feature_stream(trace, cut=cut),
        outputs=trace.probes["logits"].size,
        tokens=made.program.shape.frame.tokens,
        contexts=made.contexts,
        reset_at_last=reset_at_last,
        operations=list(operations),
        states=dict(states or {}),
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
            outputs=[tuple(beat) for beat in played["outputs"]],
            saved=played["saved"],
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
    expected, given = output_beats(trace), [beat[:3] for beat in outcome.outputs]
    if given != expected:
        text = f"outputs: expected {expected[:4]}, found {given[:4]} (first 4 of {len(given)})"
        found.append(Difference("outputs", None, text))
    if outcome.unaligned:
        found.append(Difference("unaligned", None, "unaligned is set although all frames are good"))
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
