"""Five ternary weights in a byte: every code, and the decoder in simulation."""

from itertools import product

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from hw.dense_trits import TRITS_A_BYTE, dense_bits, pack_dense, unpack_dense

EVERY = list(product((-1, 0, 1), repeat=TRITS_A_BYTE))


def test_every_five_trits_have_a_byte_of_their_own():
    codes = [pack_dense(trits) for trits in EVERY]
    assert len(set(codes)) == len(codes) == 243
    assert max(codes) < 256


@pytest.mark.parametrize(("count", "bits"), [(1, 2), (4, 8), (5, 8), (8, 14), (32, 52), (40, 64)])
def test_whole_bytes_hold_five_and_the_rest_two_bits_each(count, bits):
    assert dense_bits(count) == bits
    assert pack_dense([-1] * count).bit_length() <= bits


@pytest.mark.parametrize("count", [5, 7, 13])
def test_the_decoder_returns_what_was_packed(count):
    m = Module()
    word, trits = Signal(dense_bits(count)), Signal(2 * count)
    m.d.comb += trits.eq(unpack_dense(word, count))

    async def check(ctx):
        for five in EVERY:
            wanted = [*five, *five[::-1], *five][:count]
            ctx.set(word, pack_dense(wanted))
            found = ctx.get(trits)
            assert [((found >> 2 * place) + 1 & 3) - 1 for place in range(count)] == wanted

    simulator = Simulator(m)
    simulator.add_testbench(check)
    simulator.run()
