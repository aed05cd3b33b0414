"""CausalConvolution against the golden executor's: every value in its exact cycle."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.configuration import NetworkShape
from golden.fixed_point import integer_range, requantize
from golden.layer import Linear
from golden.operations.linear import causal_convolution
from golden.random_program import random_program
from golden.scheme import Scheme
from hw.convolution import CausalConvolution
from hw.parameter_memory import MemoryPlan, pack_fields


def small_program(d_inner, d_conv, n_layer, scheme, seed):
    shape = NetworkShape(
        vocabulary=2,
        d_model=2,
        d_inner=d_inner,
        d_state=1,
        d_conv=d_conv,
        dt_rank=1,
        n_layer=n_layer,
    )
    return random_program(shape, scheme, seed)


class Bench:
    """Collects inputs, one row a cycle, and what must appear for them."""

    def __init__(self, program):
        self.program = program
        self.unit = CausalConvolution(program=program, plan=MemoryPlan())
        shape = program.shape
        self.window = np.zeros((shape.n_layer, 1, shape.d_conv - 1, shape.d_inner), np.int64)
        self.rows, self.expected, self.reads = [], {}, {}

    def idle(self, cycles):
        self.rows += [{} for _ in range(cycles)]

    def address(self, layer, channel):
        return layer * self.program.shape.d_inner + channel

    def packed(self, layer, channel):
        window = self.window[layer, 0, :, channel]
        return pack_fields(window.tolist(), self.program.scheme.activation_bits)

    def process(self, layer, x, *, fresh, order, gaps):
        """Append one pass of a layer: ``x`` (e,) in the given order with gaps before elements."""
        if fresh:
            self.window[layer] = 0
        taps = self.program.layers[layer].convolution
        total, self.window[layer] = causal_convolution(
            self.window[layer], x[None, None], taps.weight, taps.bias
        )
        mixed = requantize(total[0, 0], self.program.shifts[layer].convolution, 18).tolist()
        held = {"layer": layer, "fresh": int(fresh)}
        for channel, gap in zip(order, gaps, strict=True):
            self.rows += [dict(held) for _ in range(gap)]
            self.expected[len(self.rows) + self.unit.latency] = (channel, mixed[channel])
            element = {"x_valid": 1, "x_index": channel, "x_value": int(x[channel])}
            self.rows.append(held | element)

    def write(self, layer, channel, values):
        self.window[layer, 0, :, channel] = values
        self.rows.append(
            {
                "access_address": self.address(layer, channel),
                "access_write": 1,
                "access_write_data": self.packed(layer, channel),
            }
        )

    def read(self, layer, channel):
        self.reads[len(self.rows) + self.unit.access_latency] = self.packed(layer, channel)
        self.rows.append({"access_address": self.address(layer, channel)})

    def read_all(self):
        shape = self.program.shape
        for layer in range(shape.n_layer):
            for channel in range(shape.d_inner):
                self.read(layer, channel)

    def check(self):
        """Simulate and compare every cycle."""
        self.idle(self.unit.latency + 2)
        unit, shown, read = self.unit, {}, {}
        quiet = {
            "x_valid": 0,
            "x_index": 1,
            "x_value": -3,
            "layer": 0,
            "fresh": 1,
            "access_address": 0,
            "access_write": 0,
            "access_write_data": 1,
        }

        async def bench(ctx):
            for cycle, row in enumerate(self.rows):
                for name, value in (quiet | row).items():
                    ctx.set(getattr(unit, name), value)
                if ctx.get(unit.mixed_valid):
                    shown[cycle] = (ctx.get(unit.mixed_index), ctx.get(unit.mixed_value))
                read[cycle] = ctx.get(unit.access_read_data)
                await ctx.tick()

        simulator = Simulator(unit)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        assert shown == self.expected
        assert {cycle: read[cycle] for cycle in self.reads} == self.reads


def inputs(random, bits, count):
    """Return ordinary inputs or, now and then, only extremes."""
    low, high = integer_range(bits)
    if random.integers(3) == 0:
        return random.choice([low, high], count)
    return random.integers(low, high + 1, count)


@st.composite
def drawn_arguments(draw):
    """Draw the arguments of a program: a failure's report then stays short."""
    scheme = Scheme(
        name="drawn",
        activation_bits=draw(st.integers(4, 8)),
        convolution_weight_bits=draw(st.integers(4, 8)),
    )
    channels = draw(st.sampled_from([2, 3, 8, 12, 16, 20]))
    taps, layers = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    return channels, taps, layers, scheme, draw(st.integers(0, 1 << 20))


@settings(max_examples=60)
@given(arguments=drawn_arguments(), seed=st.integers(0, 1 << 20), data=st.data())
def test_tokens(arguments, seed, data):
    """Tokens through all layers, some starting a sequence, with and without gaps."""
    random, program = np.random.default_rng(seed), small_program(*arguments)
    shape, bench = program.shape, Bench(program)
    gap = data.draw(st.sampled_from([0, 0, 1, 5]), "gap")
    freshness = data.draw(st.lists(st.booleans(), min_size=1, max_size=7), "fresh")
    for fresh in freshness:
        for layer in range(shape.n_layer):
            bench.process(
                layer,
                inputs(random, program.scheme.activation_bits, shape.d_inner),
                fresh=fresh,
                order=range(shape.d_inner),
                gaps=random.integers(0, 1 + gap, shape.d_inner).tolist(),
            )
            # Two channels follow each other sooner than a window comes back.
            bench.idle(max(0, bench.unit.hazard_depth - shape.d_inner))
    bench.idle(bench.unit.hazard_depth)
    bench.read_all()
    bench.check()


@settings(max_examples=20)
@given(arguments=drawn_arguments(), seed=st.integers(0, 1 << 20))
def test_save_and_restore(arguments, seed):
    """Windows written from outside are read back and used; other windows keep theirs."""
    random, program = np.random.default_rng(seed), small_program(*arguments)
    shape, bits, bench = program.shape, program.scheme.activation_bits, Bench(program)
    order = random.permutation(shape.d_inner).tolist()
    for token in range(3):
        for layer in range(shape.n_layer):
            for channel in random.permutation(shape.d_inner)[:2].tolist():
                bench.write(layer, channel, inputs(random, bits, shape.d_conv - 1))
                bench.read(layer, channel)
        bench.write(0, order[0], inputs(random, bits, shape.d_conv - 1))
        for layer in range(shape.n_layer):
            x = inputs(random, bits, shape.d_inner)
            fresh = token == 1 and layer == 0
            bench.process(layer, x, fresh=fresh, order=order, gaps=[0] * shape.d_inner)
            bench.idle(bench.unit.hazard_depth)
        bench.read_all()
    bench.check()


def test_the_first_write_is_used_by_an_element_of_the_same_cycle():
    bench = Bench(small_program(8, 4, 1, Scheme(name="s"), 1))
    bench.write(0, 0, [5, -6, 7])
    written = bench.rows.pop()
    bench.process(0, np.arange(8), fresh=False, order=range(8), gaps=[0] * 8)
    bench.rows[0] |= written
    bench.check()


@pytest.mark.parametrize("d_inner", [2, 8])
def test_a_window_comes_back_after_the_hazard_depth(d_inner):
    """The same channel again and again, as soon as is allowed."""
    bench = Bench(small_program(d_inner, 4, 1, Scheme(name="s"), 2))
    random = np.random.default_rng(3)
    depth = bench.unit.hazard_depth
    for _ in range(6):
        x = inputs(random, 8, d_inner)
        gaps = [max(0, depth - d_inner), *[0] * (d_inner - 1)]
        bench.process(0, x, fresh=False, order=range(d_inner), gaps=gaps)
    bench.check()


def test_extreme_sums_and_shifts():
    """Taps and biases at the ends of their ranges; shifts from the least to the greatest."""
    random = np.random.default_rng(4)
    program = small_program(20, 4, 2, Scheme(name="s"), 4)

    def change(layer):
        shift = random.permutation([-12, 31, *random.integers(-12, 12, 18)])
        convolution = Linear(
            weight=random.choice([-128, 127], (20, 4)),
            fraction_bits=shift - layer.formats.x + 12,
            bias=random.choice([-(1 << 30), 1 << 30, 0, 255, -77], 20),
        )
        return dataclasses.replace(layer, convolution=convolution)

    program = dataclasses.replace(program, layers=tuple(map(change, program.layers)))
    assert min(s.convolution.min() for s in program.shifts) == -12
    assert max(s.convolution.max() for s in program.shifts) == 31
    bench = Bench(program)
    for _ in range(8):
        for layer in range(2):
            x = random.choice([-128, 127], 20)
            bench.process(layer, x, fresh=False, order=range(20), gaps=[0] * 20)
    bench.check()
    assert {131071, -131072} <= {value for _, value in bench.expected.values()}


@pytest.mark.parametrize(("taps", "levels"), [(2, 2), (3, 2), (4, 3), (7, 3), (8, 4)])
def test_latency(taps, levels):
    unit = Bench(small_program(4, taps, 1, Scheme(name="s"), 5)).unit
    assert (unit.latency, unit.hazard_depth, unit.access_latency) == (8 + levels, 4, 3)


def test_missing_bias_is_refused():
    program = small_program(4, 3, 2, Scheme(name="s"), 6)
    first, second = program.layers
    biasless = dataclasses.replace(first.convolution, bias=None)
    layers = (first, dataclasses.replace(second, convolution=biasless))
    with pytest.raises(ValueError, match="layer 1's convolution has bias None"):
        CausalConvolution(program=dataclasses.replace(program, layers=layers), plan=MemoryPlan())
