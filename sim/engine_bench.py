"""Runs a whole engine in Amaranth's simulator against the golden model."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.hdl import ResetInserter, Signal, UnusedElaboratable
from amaranth.sim import Simulator

from golden.program import Program
from golden.vectors import Trace
from hw.contexts import context_of
from hw.engine import Engine
from hw.expectation import expected_probe
from hw.lanes import Lanes

Stall = Callable[[random.Random], bool]


@dataclass
class Recording:
    """What the engine did: cycle-stamped probes, token starts, and what left the streams.

    A beat of a stream is value, last and context.
    """

    probes: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)
    results: list[tuple[int, int, int]] = field(default_factory=list)
    logits: list[tuple[int, int, int]] = field(default_factory=list)


def run_engine(
    engine: Engine,
    trace: Trace,
    *,
    reset_at_last: bool = True,
    stall_seed: int | None = None,
    interruption: int | None = None,
) -> Recording:
    """Feed the trace's tokens and record everything until the last token has settled.

    ``stall_seed`` withholds tokens and readiness at random; None never does. ``interruption``
    first runs so many cycles of other tokens, which a reset of one cycle then ends.
    """
    recording = Recording({name: [] for name in engine.probe_widths})
    length, vocabulary = len(trace.tokens), trace.probes["logits"].shape[-1]
    stalls = random.Random(stall_seed)
    schedule = engine.schedule

    def held() -> bool:
        return stall_seed is not None and stalls.random() < 0.5

    async def bench(context: Any) -> None:
        context.set(engine.reset_at_last, int(reset_at_last))
        context.set(engine.emit_logits, 1)
        if interruption is not None:
            await _interrupt(context, engine, reset, interruption)
        sent = cycle = pause = 0
        while len(recording.results) < length or len(recording.logits) < length * vocabulary:
            offered = sent < length and pause == 0
            context.set(engine.tokens.valid, int(offered))
            if sent < length:
                context.set(engine.tokens.payload.token, int(trace.tokens[sent]))
                context.set(engine.tokens.payload.last, int(trace.last[sent]))
                if engine.contexts > 1:
                    context.set(engine.tokens.payload.context, int(trace.context[sent]))
            context.set(engine.results.ready, int(not held()))
            context.set(engine.logits.ready, int(not held()))
            if context.get(engine.accepted):
                recording.starts.append(cycle + 1)
                sent += 1
                pause = stalls.randrange(schedule.latency * 2) if stall_seed is not None else 0
            elif pause:
                pause -= 1
            _sample(context, engine, recording, cycle)
            await context.tick()
            cycle += 1
            assert cycle < (length + 2) * schedule.latency * 8, "the engine stopped answering"

    reset = Signal()
    simulator = Simulator(ResetInserter(reset)(engine))
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        simulator.run()
    return recording


async def _interrupt(context: Any, engine: Engine, reset: Signal, cycles: int) -> None:
    """Let tokens run that nobody takes the results of, then reset in the middle of one."""
    context.set(engine.tokens.valid, 1)
    context.set(engine.tokens.payload.token, 1)
    await context.tick().repeat(cycles)
    context.set(engine.tokens.valid, 0)
    context.set(reset, 1)
    await context.tick()
    context.set(reset, 0)


def _sample(context: Any, engine: Engine, recording: Recording, cycle: int) -> None:
    for name, events in recording.probes.items():
        if context.get(getattr(engine, f"probe_{name}_valid")):
            events.append((cycle, context.get(getattr(engine, f"probe_{name}_value"))))
    for stream, values, first in (
        (engine.results, recording.results, "token"),
        (engine.logits, recording.logits, "value"),
    ):
        if context.get(stream.valid) and context.get(stream.ready):
            payload = stream.payload
            values.append(
                (
                    context.get(getattr(payload, first)),
                    context.get(payload.last),
                    context.get(context_of(payload)),
                )
            )


def compare(
    recording: Recording, program: Program, lanes: Lanes, trace: Trace, engine: Engine
) -> None:
    """Assert equality of every probe in value and cycle, and of the streams in value.

    Raises
    ------
    AssertionError
        Naming probe, token, position, expected and found for the first difference.
    """
    length = len(trace.tokens)
    assert len(recording.starts) == length
    for name, events in recording.probes.items():
        expected = expected_probe(name, program, lanes, trace)
        offsets = engine.schedule.probes[name]
        assert len(events) == expected.size, f"{name}: {len(events)} values, not {expected.size}"
        cycles = (np.array(recording.starts)[:, None] + offsets).ravel()
        for position, (cycle, value) in enumerate(events):
            token, place = divmod(position, len(offsets))
            found, wanted = (value, cycle), (int(expected[token, place]), int(cycles[position]))
            assert found == wanted, (
                f"{name}, token {token}, position {place}: value and cycle {found}, not {wanted}"
            )
    results, logits = trace.probes["token"].ravel(), trace.probes["logits"].reshape(length, -1)
    expected_results = zip(
        results.tolist(), trace.last.tolist(), trace.context.tolist(), strict=True
    )
    assert recording.results == list(expected_results)
    final = logits.shape[1] - 1
    assert recording.logits == [
        (value, int(place == final), number)
        for row, number in zip(logits.tolist(), trace.context.tolist(), strict=True)
        for place, value in enumerate(row)
    ]
