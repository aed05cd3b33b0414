"""Every way to find a channel's scale equals the golden choice, for every channel."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.study.selection import CHANNEL_BITS, EXPONENT_BITS, RANGES, SELECTORS, select


def draw_table(unit, seed):
    """Return bounds and exponents of one table, edges included."""
    generator = np.random.default_rng(seed)
    exponents = generator.integers(0, 1 << EXPONENT_BITS, unit.ranges).tolist()
    if unit.ranges > RANGES:
        return list(range(1, unit.ranges)), exponents
    channels = np.arange(1, 1 << CHANNEL_BITS)
    bounds = np.sort(generator.choice(channels, unit.ranges - 1, replace=False)).tolist()
    return bounds, exponents


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", SELECTORS, ids=lambda kind: kind.name)
def test_the_unit_finds_the_golden_exponent_within_its_cycles(kind, seed):
    unit = kind()
    bounds, exponents = draw_table(unit, seed)
    flags = np.random.default_rng(seed).integers(0, 2, 1 << CHANNEL_BITS) * unit.flagged
    slowest = 0

    async def bench(ctx):
        nonlocal slowest
        for position, value in enumerate(exponents):
            ctx.set(unit.exponents[position], value)
        for position, bound in enumerate(bounds if unit.bounded else ()):
            ctx.set(unit.bounds[position], bound)
        for channel, flag in enumerate(flags.tolist()):
            ctx.set(unit.channel, channel)
            if unit.flagged:
                ctx.set(unit.flag, flag)
            ctx.set(unit.start, 1)
            await ctx.tick()
            ctx.set(unit.start, 0)
            taken = 1
            while not ctx.get(unit.done):
                await ctx.tick()
                taken += 1
                assert taken <= unit.cycles
            slowest = max(slowest, taken)
            assert ctx.get(unit.exponent) == select(channel, flag, bounds, exponents)

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert slowest == unit.cycles


def test_the_golden_choice_counts_the_bounds_that_were_reached():
    assert select(4, 0, [2, 5], [7, 8, 9]) == 8
    assert select(5, 0, [2, 5], [7, 8, 9]) == 9
    assert select(1, 1, [2, 5], [7, 8, 9]) == 9
