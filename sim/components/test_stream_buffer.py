"""StreamBuffer under random stalls of both sides, against a deque."""

import random
from collections import deque

import pytest
from amaranth.hdl import unsigned
from amaranth.lib.data import StructLayout
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.stream_buffer import StreamBuffer

DEPTHS = [2, 3, 4, 5, 8, 17]


def simulate(component, schedule):
    """Drive (valid, payload, ready) a cycle and check every cycle against a deque.

    Returns the number of payloads put and taken.
    """
    queue = deque()
    put_count = take_count = 0

    async def bench(ctx):
        nonlocal put_count, take_count
        for valid, payload, ready in schedule:
            # The flags must not answer to the other side within the cycle: look before driving.
            flags = ctx.get(component.i.ready), ctx.get(component.o.valid)
            ctx.set(component.i.valid, valid)
            ctx.set(component.i.payload, payload)
            ctx.set(component.o.ready, ready)
            assert (ctx.get(component.i.ready), ctx.get(component.o.valid)) == flags
            assert flags == (len(queue) < component.depth, len(queue) > 0)
            assert ctx.get(component.level) == len(queue)
            if queue:
                assert ctx.get(component.o.payload) == queue[0]
            if flags[1] and ready:
                queue.popleft()
                take_count += 1
            if flags[0] and valid:
                queue.append(payload)
                put_count += 1
            await ctx.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return put_count, take_count


def random_schedule(seed, cycles, valid_chance, ready_chance, width=8):
    source = random.Random(seed)
    return [
        (
            source.random() < valid_chance,
            source.randrange(1 << width),
            source.random() < ready_chance,
        )
        for _ in range(cycles)
    ]


@pytest.mark.parametrize("chances", [(0.5, 0.5), (0.9, 0.3), (0.3, 0.9), (1.0, 0.6), (0.6, 1.0)])
@pytest.mark.parametrize("depth", DEPTHS)
def test_random_stalls(depth, chances):
    put_count, take_count = simulate(StreamBuffer(8, depth), random_schedule(depth, 1500, *chances))
    assert take_count > 300
    assert put_count - take_count <= depth


@pytest.mark.parametrize("depth", [2, 3, 4])
@settings(max_examples=60)
@given(
    schedule=st.lists(
        st.tuples(st.booleans(), st.integers(0, 15), st.booleans()), min_size=1, max_size=40
    )
)
def test_any_stalls(depth, schedule):
    simulate(StreamBuffer(4, depth), schedule)


@pytest.mark.parametrize("depth", DEPTHS)
def test_full_throughput_without_stalls(depth):
    component = StreamBuffer(8, depth)
    put_count, take_count = simulate(component, random_schedule(1, 200, 1.0, 1.0))
    assert put_count == 200
    assert take_count == 200 - component.latency


@pytest.mark.parametrize("depth", DEPTHS)
def test_full_throughput_after_being_full(depth):
    component = StreamBuffer(8, depth)
    fill = random_schedule(2, depth + 3, 1.0, 0.0)
    flow = random_schedule(3, 100, 1.0, 1.0)
    put_count, take_count = simulate(component, fill + flow)
    assert take_count == 100
    # The cycle that frees the first place cannot also fill it: ready is a register.
    assert put_count == depth + 100 - 1


@pytest.mark.parametrize("depth", DEPTHS)
def test_latency_is_the_stated_one(depth):
    component = StreamBuffer(8, depth)
    seen = []

    async def bench(ctx):
        ctx.set(component.i.valid, 1)
        ctx.set(component.i.payload, 77)
        for _ in range(4):
            seen.append(ctx.get(component.o.valid))
            await ctx.tick()
            ctx.set(component.i.valid, 0)

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen.index(1) == component.latency


@pytest.mark.parametrize("depth", [2, 4])
def test_structured_payload(depth):
    layout = StructLayout({"index": 4, "value": unsigned(12)})
    component = StreamBuffer(layout, depth)
    taken = []

    async def bench(ctx):
        ctx.set(component.i.valid, 1)
        ctx.set(component.o.ready, 1)
        for index in range(6):
            ctx.set(component.i.payload, {"index": index, "value": 100 * index})
            if ctx.get(component.o.valid):
                payload = ctx.get(component.o.payload)
                taken.append((payload.index, payload.value))
            await ctx.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert taken == [(index, 100 * index) for index in range(5)]


@pytest.mark.parametrize("depth", [-1, 0, 1])
def test_depth_below_two(depth):
    with pytest.raises(ValueError, match=f"depth {depth} is below 2"):
        StreamBuffer(8, depth)


@pytest.mark.parametrize("depth", [2.0, True])
def test_depth_of_another_type(depth):
    with pytest.raises(TypeError, match="depth must be an integer"):
        StreamBuffer(8, depth)


def test_payload_without_bits():
    with pytest.raises(ValueError, match="has 0 bits"):
        StreamBuffer(0, 4)
