"""ShiftRequantizer: ties to even and saturation, for every input and every shift."""

import pytest
from amaranth.hdl import Const, Module, Signal, Value

from hw.requantizer import ShiftRequantizer
from sim.formal.formats_in_use import formats_in_use
from sim.formal.properties import RequantizerProperties
from sim.formal.prove import prove

SMALL = [(6, 3, 7), (8, 8, 8), (5, 8, 4)]
WIDE = [(40, 12, 31), (48, 16, 40), (64, 18, 63), (64, 32, 63)]


def check(unit_class, parameters, directory, *, output_signed=True):
    input_width, output_width, max_shift = parameters
    unit = unit_class(
        input_width=input_width,
        output_width=output_width,
        max_shift=max_shift,
        output_signed=output_signed,
    )
    return prove(RequantizerProperties(unit), depth=unit.latency + 1, directory=directory)


@pytest.mark.parametrize("output_signed", [True, False])
@pytest.mark.parametrize("parameters", SMALL)
def test_small_formats(parameters, output_signed, tmp_path):
    outcome = check(ShiftRequantizer, parameters, tmp_path, output_signed=output_signed)
    assert outcome.proved, outcome.log


@pytest.mark.parametrize("in_use", formats_in_use(), ids=str)
def test_formats_of_the_engine(in_use, tmp_path):
    """Every requantizer of every design that comes with the project."""
    *parameters, output_signed = in_use
    outcome = check(ShiftRequantizer, tuple(parameters), tmp_path, output_signed=output_signed)
    assert outcome.proved, outcome.log


@pytest.mark.slow
@pytest.mark.parametrize("parameters", WIDE)
def test_wide_formats(parameters, tmp_path):
    outcome = check(ShiftRequantizer, parameters, tmp_path)
    assert outcome.proved, outcome.log


class Floor(ShiftRequantizer):
    """Planted fault: bits are cut off."""

    def _round_and_saturate(self, m: Module, floor: Signal, _round_up: Value) -> None:
        super()._round_and_saturate(m, floor, Const(0))


class TiesUp(ShiftRequantizer):
    """Planted fault: a tie goes up also from an even number."""

    def _shift(self, m: Module) -> tuple[Signal, Value]:
        value, _ = super()._shift(m)
        return value, Const(1)


class Wraps(ShiftRequantizer):
    """Planted fault: high bits are cut off in place of saturation."""

    def _round_and_saturate(self, m: Module, floor: Signal, round_up: Value) -> None:
        output = Signal.like(self.o)
        m.d.sync += output.eq(floor + round_up)
        m.d.comb += self.o.eq(output)


class FlagsEarly(ShiftRequantizer):
    """Planted fault: the top of the range counts as saturated."""

    def _round_and_saturate(self, m: Module, floor: Signal, round_up: Value) -> None:
        super()._round_and_saturate(m, floor, round_up)
        inner = Signal()
        m.d.sync += inner.eq(floor >= self.output_range[1])
        with m.If(inner):
            m.d.comb += self.saturated.eq(1)


@pytest.mark.parametrize("fault", [Floor, TiesUp, Wraps, FlagsEarly])
@pytest.mark.parametrize("parameters", [(6, 3, 7), (24, 8, 23)])
def test_planted_fault_is_refuted(fault, parameters, tmp_path):
    outcome = check(fault, parameters, tmp_path)
    assert outcome.counterexample, outcome.log
