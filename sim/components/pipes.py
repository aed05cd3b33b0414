"""Drives a fixed-latency pipe with one element a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

__all__ = ["run_combinational", "run_pipe"]


def run_pipe(simulator: Simulator, unit: Any, latency: int, **inputs: list[int]) -> list[int]:
    """Return what ``unit.o`` shows exactly ``latency`` cycles after each element.

    Parameters
    ----------
    simulator : of ``unit``, fresh
    unit : component with the input ports named in ``inputs`` and the output ``o``
    latency : cycles from input to output
    inputs : the elements of each port, one a cycle
    """
    count = len(next(iter(inputs.values())))
    results: list[int] = []

    async def drive(ctx: Any) -> None:
        for cycle in range(count + latency):
            for name, values in inputs.items():
                ctx.set(getattr(unit, name), values[cycle] if cycle < count else 0)
            sampled = await ctx.tick().sample(unit.o)
            if cycle >= latency:
                results.append(sampled[-1])

    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    return results


def run_combinational(unit: Any, **inputs: list[int]) -> list[int]:
    """Return ``unit.o`` for each element of a purely combinational unit."""
    m = Module()
    m.submodules.unit = unit
    # The simulator wants a clock domain only where something is synchronous.
    m.d.sync += Signal(name="clocked").eq(1)
    return run_pipe(Simulator(m), unit, 0, **inputs)
