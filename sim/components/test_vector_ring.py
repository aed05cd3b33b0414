"""The ring of vectors: order, slots, and a read in the cycle after the write."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from hw.vector_ring import VectorRing


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 4, 5])
def test_elements_come_out_in_order(depth, slots):
    ring = VectorRing(depth=depth, width=8, slots=slots)
    numbers = random.Random(7 * depth + slots)
    held: deque[int] = deque()
    expected: list[int] = []

    async def bench(context):
        index, taken = 0, 0
        for _ in range(400):
            # A slot is free for writing once its old element was read.
            writing = len(held) < depth * slots and numbers.random() < 0.7
            reading = bool(held) and numbers.random() < 0.6
            value = numbers.randrange(256)
            context.set(ring.valid, int(writing))
            context.set(ring.index, index)
            context.set(ring.value, value)
            context.set(ring.read, int(reading))
            if reading:
                expected.append(held.popleft())
            if writing:
                held.append(value)
                index = (index + 1) % depth
            await context.tick()
            if reading:
                assert context.get(ring.read_value) == expected[-1]
                taken += 1
        assert taken > 100

    simulator = Simulator(ring)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


def test_an_empty_ring_is_refused():
    with pytest.raises(ValueError, match="0 x 4 x 8 bits is empty"):
        VectorRing(depth=4, width=8, slots=0)
