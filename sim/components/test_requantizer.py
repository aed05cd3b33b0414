"""ShiftRequantizer against the golden function: small formats entirely, wide ones sampled."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.fixed_point import requantize
from hw.requantizer import ShiftRequantizer


def simulate(component, elements):
    """Feed one (value, shift) a cycle and return one (o, saturated) for each of them."""
    results = []

    async def bench(ctx):
        padded = [*elements, *([(0, 0)] * component.latency)]
        for cycle, (value, shift) in enumerate(padded):
            if cycle >= component.latency:
                results.append((ctx.get(component.o), ctx.get(component.saturated)))
            ctx.set(component.i, value)
            ctx.set(component.shift, shift)
            await ctx.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def expected(component, elements):
    """Return what the golden function gives, and whether its value needed saturation."""
    values, shifts = (np.array(column, dtype=np.int64) for column in zip(*elements, strict=True))
    narrow = requantize(values, shifts, component.output_width, signed=component.output_signed)
    exact = requantize(values, shifts, 63)
    return list(zip(narrow.tolist(), (narrow != exact).astype(int).tolist(), strict=True))


@pytest.mark.parametrize("output_signed", [True, False])
@pytest.mark.parametrize(
    ("input_width", "output_width", "max_shift"),
    [(2, 2, 1), (5, 3, 7), (7, 4, 6), (8, 2, 8), (6, 8, 3), (6, 6, 15)],
)
def test_every_input_and_shift(input_width, output_width, max_shift, output_signed):
    component = ShiftRequantizer(
        input_width=input_width,
        output_width=output_width,
        max_shift=max_shift,
        output_signed=output_signed,
    )
    limit = 1 << (input_width - 1)
    shifts = range(1 << len(component.shift))  # beyond max_shift, as far as the port goes
    elements = [(value, shift) for shift in shifts for value in range(-limit, limit)]
    assert simulate(component, elements) == expected(component, elements)


@st.composite
def interesting_elements(draw, input_width, max_shift):
    """Draw values that lie on ties, beside them and at the ends of the range, at any shift."""
    limit = 1 << (input_width - 1)
    shift = draw(st.integers(0, max_shift))
    half = (1 << shift) >> 1
    quotient = draw(st.integers(-limit >> shift, (limit - 1) >> shift))
    near_tie = (quotient << shift) + half + draw(st.integers(-1, 1))
    value = draw(st.sampled_from([near_tie, draw(st.integers(-limit, limit - 1))]))
    return max(-limit, min(limit - 1, value)), shift


@pytest.mark.parametrize("output_signed", [True, False])
@pytest.mark.parametrize(
    ("input_width", "output_width", "max_shift"),
    [(24, 8, 23), (28, 10, 20), (32, 12, 31), (32, 18, 16), (48, 16, 40)],
)
@settings(max_examples=15)
@given(data=st.data())
def test_wide_formats(input_width, output_width, max_shift, output_signed, data):
    component = ShiftRequantizer(
        input_width=input_width,
        output_width=output_width,
        max_shift=max_shift,
        output_signed=output_signed,
    )
    elements = data.draw(
        st.lists(interesting_elements(input_width, max_shift), min_size=1, max_size=60)
    )
    assert simulate(component, elements) == expected(component, elements)


def test_latency_is_the_stated_one():
    component = ShiftRequantizer(input_width=16, output_width=8, max_shift=8)
    seen = []

    async def bench(ctx):
        ctx.set(component.i, 77)
        for _ in range(5):
            seen.append(ctx.get(component.o))
            await ctx.tick()
            ctx.set(component.i, 0)

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen.index(77) == component.latency
    assert seen.count(77) == 1


def test_shift_may_change_every_cycle():
    component = ShiftRequantizer(input_width=20, output_width=9, max_shift=12)
    source = random.Random(7)
    elements = [(source.randrange(-(1 << 19), 1 << 19), source.randrange(13)) for _ in range(2000)]
    assert simulate(component, elements) == expected(component, elements)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_width": 1}, r"input_width 1 is outside 2\.\.64"),
        ({"input_width": 65}, r"input_width 65 is outside 2\.\.64"),
        ({"output_width": 1}, r"output_width 1 is outside 2\.\.64"),
        ({"max_shift": 0}, r"max_shift 0 is outside 1\.\.64"),
        ({"max_shift": 65}, r"max_shift 65 is outside 1\.\.64"),
    ],
)
def test_parameters_outside_of_their_limits(changed, message):
    parameters = {"input_width": 16, "output_width": 8, "max_shift": 8} | changed
    with pytest.raises(ValueError, match=message):
        ShiftRequantizer(**parameters)


@pytest.mark.parametrize("value", [8.0, True, np.int64(8)])
def test_parameters_of_another_type(value):
    with pytest.raises(TypeError, match="input_width must be an integer"):
        ShiftRequantizer(input_width=value, output_width=8, max_shift=8)
