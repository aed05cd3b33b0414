"""Units of the streaming organisation: padded frames, and bursts without gaps."""

import random

import pytest
from amaranth.sim import Simulator

from golden.configuration import FrameShape
from hw.streaming.burst import Burst
from hw.streaming.feature_input import FeatureInput

FRAME = FrameShape(features=3, tokens=4, hidden=2)
SIZE = FRAME.tokens * FRAME.features


def play_features(beats, seed, total, *, whole=False):
    """Play (value, last); return the values written with their index, and ``unaligned``."""
    slots = 2 * FRAME.tokens if whole else 2
    unit = FeatureInput(frame=FRAME, bits=8, slots=slots, whole=whole)
    stalls, written, ended = random.Random(seed), [], []

    async def bench(ctx):
        sent, held, entered = 0, 0, 0
        for _ in range(40 * total):
            offering = sent < len(beats) and stalls.random() < 0.7
            ctx.set(unit.features.valid, int(offering))
            if offering:
                ctx.set(unit.features.payload.value, beats[sent][0])
                ctx.set(unit.features.payload.last, beats[sent][1])
            # A token enters when offered, and is read some time later.
            entering = bool(ctx.get(unit.offered)) and stalls.random() < 0.3
            freeing = held > 0 and stalls.random() < 0.3
            arrived = len(written) // (SIZE if whole else FRAME.features)
            assert not entering or entered < arrived * (FRAME.tokens if whole else 1)
            entered += entering
            ctx.set(unit.taken, int(entering))
            ctx.set(unit.freed, int(freeing))
            held += entering - freeing
            if ctx.get(unit.o_valid):
                written.append((ctx.get(unit.o_index), ctx.get(unit.o_value)))
            sent += offering and ctx.get(unit.features.ready)
            await ctx.tick()
        ended.append(ctx.get(unit.unaligned))

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return written, ended[0]


def indexed(values):
    """Return (index, value) as the ring is written."""
    return [(position % FRAME.features, value) for position, value in enumerate(values)]


@pytest.mark.parametrize("by_frames", [False, True])
@pytest.mark.parametrize("kept", [1, 2, 3, 7, SIZE - 1, SIZE])
def test_a_frame_that_ends_early_is_padded_and_the_next_one_is_whole(kept, by_frames):
    short = [(value + 1, int(value == kept - 1)) for value in range(kept)]
    whole = [(-value, int(value == SIZE - 1)) for value in range(SIZE)]
    written, unaligned = play_features(short + whole, seed=kept, total=2 * SIZE, whole=by_frames)
    expected = [value for value, _ in short] + [0] * (SIZE - kept) + [v for v, _ in whole]
    assert written == indexed(expected)
    assert not unaligned


def test_a_frame_without_last_is_reported_and_cut_at_its_size():
    beats = [(value, 0) for value in range(SIZE)] + [(99, 1)]
    written, unaligned = play_features(beats, seed=5, total=2 * SIZE)
    assert written == indexed([*range(SIZE), 99, *[0] * (SIZE - 1)])
    assert unaligned


@pytest.mark.parametrize("mixed", [False, True])
def test_the_context_of_the_first_feature_is_the_frames(mixed):
    """``begins`` comes with it; another one within a frame is reported."""
    frames = [(3, 3), (1, SIZE), (3, 1), (0, 7)]
    unit = FeatureInput(frame=FRAME, bits=8, slots=2, contexts=4)
    stalls, begun, ended = random.Random(4), [], []

    async def bench(ctx):
        beats = [
            (place + 1, int(place == kept - 1), context ^ int(mixed and place == 5))
            for context, kept in frames
            for place in range(kept)
        ]
        for _ in range(20 * SIZE):
            offering = bool(beats) and stalls.random() < 0.7
            ctx.set(unit.features.valid, int(offering))
            if offering:
                for name, value in zip(("value", "last", "context"), beats[0], strict=True):
                    ctx.set(getattr(unit.features.payload, name), value)
            freeing = bool(ctx.get(unit.offered)) and stalls.random() < 0.5
            ctx.set(unit.taken, int(freeing))
            ctx.set(unit.freed, int(freeing))
            if ctx.get(unit.begins):
                begun.append((beats[0][0], ctx.get(unit.features.payload.context)))
            if offering and ctx.get(unit.features.ready):
                beats.pop(0)
            await ctx.tick()
        assert not beats
        ended.append(ctx.get(unit.unaligned))

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert begun == [(1, context) for context, _ in frames]
    assert ended == [int(mixed)]


def test_one_slot_is_refused():
    with pytest.raises(ValueError, match="1 slots cannot be read and written at once"):
        FeatureInput(frame=FRAME, bits=8, slots=1)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_burst_sends_what_came_in_pieces_one_element_a_cycle(slots):
    size, vectors = 5, [[7 * v + e - 12 for e in range(5)] for v in range(6)]
    unit = Burst(size=size, width=8, slots=slots)
    shown, starts = [], []

    async def bench(ctx):
        for cycle in range(len(vectors) * 2 * size + 2 * size):
            vector, place = divmod(cycle, 2 * size)
            # Every second cycle an element; the start follows so that the last comes in time.
            ctx.set(unit.i_valid, int(place % 2 == 0 and vector < len(vectors)))
            ctx.set(unit.i_index, place // 2)
            if vector < len(vectors):
                ctx.set(unit.i_value, vectors[vector][place // 2])
            begin = place == size and vector < len(vectors)
            ctx.set(unit.start, int(begin))
            if begin:
                starts.append(cycle)
            if ctx.get(unit.o_valid):
                shown.append((cycle, ctx.get(unit.o_index), ctx.get(unit.o_value)))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert shown == [
        (start + Burst.latency + place, place, value)
        for start, vector in zip(starts, vectors, strict=True)
        for place, value in enumerate(vector)
    ]
