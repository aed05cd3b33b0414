"""DecayUnit equals golden's decay for every argument."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from golden.operations.exponent import decay
from golden.piecewise import LinearTable, exponent_table
from hw.exponent import DecayUnit
from sim.components.pipes import run_pipe

TABLE = exponent_table()


def run(decay_bits: int, arguments: np.ndarray) -> None:
    unit = DecayUnit(table=TABLE, decay_bits=decay_bits)
    results = run_pipe(Simulator(unit), unit, unit.latency, i=arguments.tolist())
    np.testing.assert_array_equal(results, decay(arguments, TABLE, decay_bits))


def test_every_argument():
    run(12, np.arange(1 << 16))


@pytest.mark.parametrize("decay_bits", [4, 8, 16])
def test_other_widths(decay_bits):
    random = np.random.default_rng(decay_bits).integers(0, 1 << 16, 2000)
    run(decay_bits, np.concatenate([np.arange(0, 1 << 16, 128), random, [0, (1 << 16) - 1]]))


def test_refusals():
    with pytest.raises(ValueError, match=r"decay_bits 17 is outside 4\.\.16"):
        DecayUnit(table=TABLE, decay_bits=17)
    with pytest.raises(ValueError, match="16 bases and 16 slopes; the unit addresses 32"):
        DecayUnit(table=LinearTable(TABLE.base[:16], TABLE.slope[:16]), decay_bits=12)
