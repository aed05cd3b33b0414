"""The streaming engine in Amaranth's simulator, compared with golden in value and cycle."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.hdl import UnusedElaboratable
from amaranth.sim import Simulator

from golden.program import Program
from golden.vectors import Trace
from hw.streaming import StreamingEngine
from hw.streaming.expectation import expected_events, output_beats

__all__ = ["StreamingRecording", "compare_streaming", "feature_stream", "run_streaming"]


@dataclass
class StreamingRecording:
    """What a simulation showed.

    Parameters
    ----------
    starts, row_starts : cycle 0 of every token, and of every projected row
    probes : (cycle, value) by probe point
    outputs : (value, last, context) as taken from the stream, context 0 without contexts
    finished : cycle in which the last output was taken
    """

    starts: list[int] = field(default_factory=list)
    row_starts: list[int] = field(default_factory=list)
    probes: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    outputs: list[tuple[int, int, int]] = field(default_factory=list)
    finished: int = 0


def feature_stream(trace: Trace, *, cut: bool) -> list[tuple[int, int, int]]:
    """Return the stream of (value, last, context); with ``cut`` frames end before their zeros."""
    width = trace.tokens.shape[1]
    last = np.zeros_like(trace.tokens)
    last[:, -1] = trace.last
    columns = (trace.tokens, last, np.repeat(trace.context, width))
    stream = list(zip(*(column.ravel().tolist() for column in columns), strict=True))
    return stream if not cut else _shortened(stream)


def _shortened(stream: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return the stream without the zeros at the ends of its frames, which the engine adds."""
    short: list[tuple[int, int, int]] = []
    for value, last, number in stream:
        short.append((value, last, number))
        if last:
            while len(short) > 1 and short[-1][0] == 0 and not short[-2][1]:
                short.pop()
            short[-1] = (short[-1][0], 1, number)
    return short


def run_streaming(
    engine: StreamingEngine,
    trace: Trace,
    *,
    stall_seed: int | None = None,
    cut: bool = False,
    reset_at_last: bool | None = None,
) -> StreamingRecording:
    """Play the features of ``trace``; with a seed both streams stall at random.

    Parameters
    ----------
    cut : leave the zeros at the ends of frames to the engine's padding
    reset_at_last : the policy of a persistent engine; None for another engine
    """
    recording = StreamingRecording(probes={name: [] for name in engine.probe_widths})
    stream = feature_stream(trace, cut=cut)
    total = trace.probes["logits"].size
    stalls = random.Random(stall_seed)
    patience = 8 * (engine.plan.latency + engine.plan.frame_interval) * (1 + len(trace.last))

    async def bench(context: Any) -> None:
        cycle, sent, pause = 0, 0, 0
        if reset_at_last is not None:
            context.set(engine.reset_at_last, int(reset_at_last))
        while len(recording.outputs) < total:
            offering = sent < len(stream) and not pause
            context.set(engine.features.valid, int(offering))
            if offering:
                context.set(engine.features.payload.value, stream[sent][0])
                context.set(engine.features.payload.last, stream[sent][1])
                if engine.contexts > 1:
                    context.set(engine.features.payload.context, stream[sent][2])
            ready = stall_seed is None or stalls.random() < 0.1
            context.set(engine.outputs.ready, int(ready))
            if context.get(engine.accepted):
                recording.starts.append(cycle + 1)
            if context.get(engine.row_accepted):
                recording.row_starts.append(cycle + 1)
            if offering and context.get(engine.features.ready):
                sent += 1
                if stall_seed is not None and stalls.random() < 0.05:
                    pause = stalls.randrange(2 * engine.plan.interval)
            elif pause:
                pause -= 1
            _sample(context, engine, recording, cycle)
            await context.tick()
            cycle += 1
            assert cycle < patience, "the engine stopped answering"
        recording.finished = cycle

    simulator = Simulator(engine)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        simulator.run()
    return recording


def _sample(
    context: Any, engine: StreamingEngine, recording: StreamingRecording, cycle: int
) -> None:
    for name, events in recording.probes.items():
        if context.get(getattr(engine, f"probe_{name}_valid")):
            events.append((cycle, context.get(getattr(engine, f"probe_{name}_value"))))
    outputs = engine.outputs
    if context.get(outputs.valid) and context.get(outputs.ready):
        payload = outputs.payload
        number = context.get(payload.context) if engine.contexts > 1 else 0
        recording.outputs.append((context.get(payload.value), context.get(payload.last), number))


def compare_streaming(
    recording: StreamingRecording, program: Program, trace: Trace, engine: StreamingEngine
) -> None:
    """Assert equality of every probe in value and cycle, and of the outputs.

    Raises
    ------
    AssertionError
        Naming the probe, and expected and found cycle and value of the first difference.
    """
    frame = program.shape.frame
    assert frame is not None
    frames = len(trace.probes["logits"])
    assert len(recording.starts) == frames * frame.tokens
    assert len(recording.row_starts) == frames * frame.rows * (frame.patch is not None)
    starts, rows = np.array(recording.starts), np.array(recording.row_starts)
    for name, found in recording.probes.items():
        wanted = expected_events(name, program, engine.plan, trace, starts, rows)
        for position, (shown, due) in enumerate(zip(found, wanted, strict=False)):
            assert shown == due, f"{name}, event {position}: (cycle, value) {shown}, not {due}"
        assert len(found) == len(wanted), f"{name}: {len(found)} values, not {len(wanted)}"
    assert recording.outputs == output_beats(trace)
