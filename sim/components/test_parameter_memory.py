"""Parameter memories: every word comes out of its banks, and banks waste no block memory."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from hw.parameter_memory import BLOCK_WIDTHS, MemoryPlan, ParameterMemory, bank_depths, columns
from sim.components.pipes import run_pipe


class Pipe(wiring.Component):
    """A memory behind the ports that :func:`run_pipe` drives."""

    def __init__(self, memory):
        self._memory = memory
        super().__init__({"i": In(len(memory.address)), "o": Out(len(memory.data))})

    def elaborate(self, platform):
        del platform
        m = Module()
        m.submodules.memory = self._memory
        m.d.comb += [self._memory.address.eq(self.i), self.o.eq(self._memory.data)]
        return m


@pytest.mark.parametrize(
    ("words", "width", "latency"),
    [(1, 3, 2), (100, 5, 2), (2100, 1, 2), (4200, 13, 2), (3000, 20, 3), (9000, 10, 3), (70, 4, 3)],
)
def test_every_word_is_read(words, width, latency):
    generator = np.random.default_rng(words)
    contents = generator.integers(0, 1 << width, words).tolist()
    unit = Pipe(
        ParameterMemory(
            name="words", width=width, words=contents, plan=MemoryPlan(), latency=latency
        )
    )
    order = generator.permutation(words).tolist()
    found = run_pipe(Simulator(unit), unit, latency, i=order)
    assert found == [contents[address] for address in order]


@pytest.mark.parametrize(
    ("words", "width", "parts"),
    [
        (1280, 53, [(53, [1280])]),
        (3656, 4, [(4, [3656])]),
        (32768, 8, [(8, [16384, 16384])]),
        (10240, 4, [(4, [8192, 2048])]),
        (10240, 20, [(18, [2048] * 5), (2, [10240])]),
        (34560, 64, [(63, [2048] * 16 + [1792]), (1, [16384, 16384, 1792])]),
    ],
)
def test_columns_take_the_fewest_blocks(words, width, parts):
    assert columns(words, width) == parts


def test_a_bank_is_a_power_of_two_and_the_last_holds_the_rest():
    for words in (1, 2047, 2048, 2049, 40000):
        for width in (1, 3, 9, 30):
            *whole, last = bank_depths(words, width)
            assert sum(whole) + last == words
            assert not whole or ({*whole} <= {*BLOCK_WIDTHS} and last <= whole[0])


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ([], {}, "has no words"),
        ([4], {}, "does not fit 2 bits"),
        ([1], {"latency": 4}, "cannot take 4 cycles, only 2 or 3"),
    ],
)
def test_a_wrong_memory_is_refused(words, options, message):
    with pytest.raises(ValueError, match=message):
        ParameterMemory(name="words", width=2, words=words, plan=MemoryPlan(), **options)
