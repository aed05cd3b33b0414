"""Drives a ScanEngine just in time and records what every output shows, cycle by cycle."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from golden.fixed_point import Integers
from golden.program import Program
from hw.scan_engine import ScanEngine

__all__ = ["Events", "Token", "record", "restore", "run_token", "save", "simulate"]

Events = dict[str, list[tuple[int, int]]]
"""For every output the (cycle, value) pairs that it announced as valid."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token in one layer: what the engine gets, and what golden computed from it.

    Parameters
    ----------
    projected : dt, B, C (r + 2n,)
    scan_u : stored words (e,)
    gate, delta, scan_output, gated : (e,)
    state : after the token (e, n)
    """

    layer: int
    fresh: bool
    projected: Integers
    scan_u: Integers
    gate: Integers
    delta: Integers
    scan_output: Integers
    gated: Integers
    state: Integers

    def state_words(self, program: Program, scan_lanes: int) -> list[int]:
        """Return the packed words of the new state, lane 0 lowest, in the engine's order."""
        bits = program.scheme.state_bits
        lanes = (self.state & ((1 << bits) - 1)).reshape(-1, scan_lanes)
        return [sum(int(v) << (bits * j) for j, v in enumerate(word)) for word in lanes]

    def expected(self, program: Program, engine: ScanEngine, scan_lanes: int) -> Events:
        """Return the events that the engine's own latencies promise."""

        def per_channel(latency: int, values: Any) -> list[tuple[int, int]]:
            return [(latency + e * engine.interval, int(v)) for e, v in enumerate(values)]

        words = self.state_words(program, scan_lanes)
        return {
            "delta": per_channel(engine.delta_latency, self.delta),
            "scan_output": per_channel(engine.scan_output_latency, self.scan_output),
            "gated": per_channel(engine.latency, self.gated),
            "gated_index": per_channel(engine.latency, range(len(self.gated))),
            "state": [(engine.state_latency + i, word) for i, word in enumerate(words)],
            "busy": [(cycle, 1) for cycle in range(engine.duration)],
        }


@dataclass
class _Writes:
    """Writes to the engine's three input ports: cycle -> (index, value)."""

    projected: dict[int, tuple[int, int]] = field(default_factory=dict)
    scan_u: dict[int, tuple[int, int]] = field(default_factory=dict)
    gate: dict[int, tuple[int, int]] = field(default_factory=dict)


def _first_sample(engine: ScanEngine, program: Program, scan_lanes: int, row: int) -> int:
    """Return the cycle in which a row of x_proj is first sampled."""
    rank, states = program.shape.dt_rank, program.shape.d_state
    if row < rank:
        return engine.projected_offset_dt + row // engine.multipliers
    if row < rank + states:
        return engine.projected_offset_bc + (row - rank) // scan_lanes
    return engine.projected_offset_c + (row - rank - states) // scan_lanes


def _plan_writes(
    engine: ScanEngine, program: Program, scan_lanes: int, token: Token, late_row: int
) -> _Writes:
    """Place every write in the last cycle that counts, and spoil the entry right after.

    Of ``projected`` only ``late_row`` comes that late, the others before the start.
    """
    writes = _Writes()
    rows = program.shape.projected
    for row in range(rows):
        last = _first_sample(engine, program, scan_lanes, row) - 1
        cycle = last if row == late_row else row - rows
        writes.projected[cycle] = (row, int(token.projected[row]))
    for offset, values, target in (
        (engine.scan_u_offset, token.scan_u, writes.scan_u),
        (engine.gate_offset, token.gate, writes.gate),
    ):
        for channel, value in enumerate(values):
            sample = offset + channel * engine.interval
            target[sample - 1] = (channel, int(value))
            if engine.interval > 1:
                target[sample] = (channel, int(value) ^ 1)
    return writes


async def run_token(
    ctx: Any, engine: ScanEngine, program: Program, token: Token, *, late_row: int | None
) -> Events:
    """Run one token and return its events; without ``late_row`` the projected rows stay."""
    lanes = program.shape.d_state // engine.interval
    writes = _plan_writes(engine, program, lanes, token, late_row or 0)
    begin = -program.shape.projected
    if late_row is None:
        writes.projected, begin = {}, 0
    events: Events = {
        name: [] for name in ("delta", "scan_output", "gated", "gated_index", "state", "busy")
    }
    for cycle in range(begin, engine.duration):
        ctx.set(engine.start, cycle == 0)
        ctx.set(engine.layer, token.layer if cycle == 0 else 0)
        ctx.set(engine.fresh, token.fresh if cycle == 0 else 1 - token.fresh)
        for name in ("projected", "scan_u", "gate"):
            write = getattr(writes, name).get(cycle)
            ctx.set(getattr(engine, f"{name}_valid"), write is not None)
            if write is not None:
                ctx.set(getattr(engine, f"{name}_index"), write[0])
                ctx.set(getattr(engine, f"{name}_value"), write[1])
        await record(ctx, engine, cycle, events)
    ctx.set(engine.scan_u_valid, 0)
    ctx.set(engine.gate_valid, 0)
    return events


async def record(ctx: Any, engine: ScanEngine, cycle: int, events: Events) -> None:
    """Let one cycle pass and add what was valid in it to ``events``."""
    e = engine
    sampled = await ctx.tick().sample(
        e.delta_valid, e.delta_value, e.scan_output_valid, e.scan_output_value,
        e.state_valid, e.state_value, e.gated_valid, e.gated_value, e.gated_index, e.busy,
    )  # fmt: skip
    values = sampled[2:]
    for name, valid, value in (
        ("delta", values[0], values[1]),
        ("scan_output", values[2], values[3]),
        ("state", values[4], values[5]),
        ("gated", values[6], values[7]),
        ("gated_index", values[6], values[8]),
        ("busy", values[9], 1),
    ):
        if valid:
            events[name].append((cycle, int(value)))


async def save(ctx: Any, engine: ScanEngine, words: int) -> list[int]:
    """Read ``words`` words through the access port, an address a cycle."""
    result: list[int] = []
    for cycle in range(words + engine.access_latency):
        ctx.set(engine.access_address, min(cycle, words - 1))
        sampled = await ctx.tick().sample(engine.access_read_data)
        if cycle >= engine.access_latency:
            result.append(int(sampled[-1]))
    return result


async def restore(ctx: Any, engine: ScanEngine, words: list[int]) -> None:
    """Write all words through the access port, one a cycle."""
    for address, word in enumerate(words):
        ctx.set(engine.access_address, address)
        ctx.set(engine.access_write, 1)
        ctx.set(engine.access_write_data, word)
        await ctx.tick()
    ctx.set(engine.access_write, 0)


def simulate(engine: ScanEngine, drive: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    """Run a test bench on the engine until it ends."""
    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()


def random_integers(random: np.random.Generator, bits: int, count: int) -> Integers:
    """Return signed integers of all magnitudes, the ends of the format among them."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    values = random.integers(low, high + 1, count) >> random.integers(0, bits, count)
    ends = random.choice([low, high], count)
    return np.where(random.random(count) < 0.15, ends, values).astype(np.int64)
