"""The scan's state memory: every word of its banks, by lanes and by the access port."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from hw.scan_state import ScanState


@pytest.mark.parametrize(("words", "width", "busy"), [(5, 3, 1), (2100, 20, 1), (4500, 11, 0)])
def test_every_word_is_kept(words, width, busy):
    generator = np.random.default_rng(words)
    contents = generator.integers(0, 1 << width, words).tolist()
    order = generator.permutation(words).tolist()
    unit, prefix = ScanState(words=words, width=width), "" if busy else "access_"
    found = []

    async def drive(ctx):
        ctx.set(unit.busy, busy)
        address = unit.write_address if busy else unit.access_address
        ctx.set(getattr(unit, "write_valid" if busy else "access_write"), 1)
        for place, word in enumerate(contents):
            ctx.set(address, place)
            ctx.set(getattr(unit, f"{prefix}write_data"), word)
            await ctx.tick()
        ctx.set(getattr(unit, "write_valid" if busy else "access_write"), 0)
        await ctx.tick().repeat(unit.write_latency)
        for place in [*order, *[0] * unit.latency]:
            ctx.set(unit.read_address if busy else unit.access_address, place)
            sampled = await ctx.tick().sample(unit.read_data)
            found.append(sampled[-1])

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    assert found[unit.latency :] == [contents[place] for place in order]


def test_a_write_is_seen_after_its_latency_and_a_fresh_word_is_zero():
    unit, found = ScanState(words=4, width=6), []

    async def drive(ctx):
        ctx.set(unit.busy, 1)
        ctx.set(unit.read_address, 2)
        ctx.set(unit.write_address, 2)
        ctx.set(unit.write_data, 45)
        for cycle in range(10):
            ctx.set(unit.write_valid, cycle == 1)
            # In step with the memory's data: one cycle behind the address of cycle 6.
            ctx.set(unit.fresh, cycle == 7)
            sampled = await ctx.tick().sample(unit.read_data)
            found.append(sampled[-1])

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    first = 1 + unit.write_latency + 1 + unit.latency
    assert found == [
        45 if cycle >= first and cycle != 6 + unit.latency else 0 for cycle in range(10)
    ]
