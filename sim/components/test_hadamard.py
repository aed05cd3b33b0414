"""The rotation unit against golden's transform: every row in its exact cycle."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.fixed_point import integer_range, requantize
from golden.operations.hadamard import block_matrix, transform
from golden.random_program import random_program
from golden.scheme import SCHEMES, Scheme
from hw.hadamard import BlockTransform, HadamardRotation, StreamingButterfly
from hw.latencies import ROTATION_LAYER
from hw.parameter_memory import MemoryPlan

ORDERS = (2, 4, 8, 64, 12, 24, 48, 20, 40, 80, 160)


def run(unit, elements, gaps, output, *, tail, layers=None):
    """Return {cycle: output} of elements fed with gaps before each, and the elements' cycles.

    ``layers`` is the layer by cycle, where it matters.
    """
    cycles = (np.cumsum(np.asarray(gaps) + 1) - 1).tolist()
    due = dict(zip(cycles, np.asarray(elements).tolist(), strict=True))
    shown = {}

    async def bench(ctx):
        for cycle in range(cycles[-1] + 1 + tail):
            ctx.set(unit.i_valid, int(cycle in due))
            ctx.set(unit.i, due.get(cycle, -1))
            if layers is not None:
                ctx.set(unit.layer, layers.get(cycle, 0))
            valid, *values = (ctx.get(getattr(unit, port)) for port in output)
            if valid:
                shown[cycle] = values[0] if len(values) == 1 else tuple(values)
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return shown, cycles


def vectors(random, bits, count, order):
    """Random vectors; some of extremes, one that drives row 0 to its end."""
    low, high = integer_range(bits)
    values = random.integers(low, high + 1, (count, order))
    values[1::3] = random.choice([low, high], values[1::3].shape)
    values[0] = low
    return values


def some_gaps(random, count, kind):
    """Gaps before elements: none, those of a scan with several steps, or any."""
    if kind == "any":
        return np.where(random.random(count) < 0.3, random.integers(0, 30, count), 0)
    return np.full(count, 0 if kind == "none" else 3)


@dataclasses.dataclass(frozen=True)
class Case:
    """What a unit is built from; small, so that hypothesis can print it."""

    order: int
    layers: int
    activation_bits: int
    rotation_bits: int
    seed: int

    def program(self):
        scheme = Scheme(
            name="drawn", activation_bits=self.activation_bits, rotation_bits=self.rotation_bits
        )
        shape = NetworkShape(
            vocabulary=2, d_model=2, d_inner=self.order, d_state=1, d_conv=2, dt_rank=1,
            n_layer=self.layers,
        )  # fmt: skip
        return random_program(shape, scheme, self.seed)


CASES = st.builds(
    Case,
    order=st.sampled_from(ORDERS),
    layers=st.integers(1, 3),
    activation_bits=st.integers(4, 8),
    rotation_bits=st.integers(8, 18),
    seed=st.integers(0, 1 << 20),
)


@settings(max_examples=40)
@given(CASES, st.sampled_from(["none", "steps", "any"]), st.integers(1, 2))
def test_tokens(case, kind, tokens):
    """Every layer of some tokens, in any order, back to back and with gaps."""
    program, random = case.program(), np.random.default_rng(case.seed)
    unit = HadamardRotation(program=program, plan=MemoryPlan())
    gated = vectors(random, case.rotation_bits, tokens * case.layers, case.order)
    order = random.permutation(case.layers)
    shifts = np.tile([program.shifts[layer].rotated for layer in order], (tokens, 1))
    rotated = requantize(transform(gated), shifts, case.activation_bits)
    gaps = some_gaps(random, gated.size, kind)
    output = ("rotated_valid", "rotated_index", "rotated_value")
    last = np.cumsum(gaps + 1).reshape(-1, case.order)[:, -1] - 1
    due = (last[:, None] + unit.latency + np.arange(case.order)).ravel().tolist()
    blocks = np.tile(order, tokens).repeat(case.order).tolist()
    layers = {cycle - unit.layer_lead: layer for cycle, layer in zip(due, blocks, strict=True)}
    tail = unit.latency + case.order
    shown, _ = run(unit, gated.ravel(), gaps, output, tail=tail, layers=layers)
    indices = np.tile(np.arange(case.order), len(gated)).tolist()
    assert shown == dict(zip(due, zip(indices, rotated.ravel().tolist(), strict=True), strict=True))


@pytest.mark.parametrize("order", ORDERS)
def test_every_class_of_sizes_at_full_rate(order):
    test_tokens.hypothesis.inner_test(Case(order, 2, 8, 12, order), "none", 2)


@pytest.mark.parametrize("kind", ["none", "steps", "any"])
@pytest.mark.parametrize("block", [12, 20])
def test_block(block, kind):
    random = np.random.default_rng(block)
    unit, x = BlockTransform(block=block, width=10), vectors(random, 10, 9, block)
    gaps = some_gaps(random, x.size, kind)
    shown, cycles = run(unit, x.ravel(), gaps, ("o_valid", "o"), tail=block + unit.latency)
    first = np.array(cycles[block - 1 :: block]) + unit.latency
    due = (first[:, None] + np.arange(block)).ravel().tolist()
    assert shown == dict(zip(due, (x @ block_matrix(block).T).ravel().tolist(), strict=True))


@pytest.mark.parametrize("kind", ["none", "steps", "any"])
@pytest.mark.parametrize("distance", [1, 2, 3, 8, 12])
def test_butterfly(distance, kind):
    random = np.random.default_rng(distance)
    unit = StreamingButterfly(distance=distance, width=9)
    x = vectors(random, 9, 7, 2 * distance)
    gaps = some_gaps(random, x.size, kind)
    shown, cycles = run(unit, x.ravel(), gaps, ("o_valid", "o"), tail=distance + unit.latency)
    second = np.array(cycles).reshape(-1, 2, distance)[:, 1] + unit.latency
    due = np.concatenate([second, second[:, -1:] + 1 + np.arange(distance)], axis=1)
    a, b = x[:, :distance], x[:, distance:]
    expected = np.concatenate([a + b, a - b], axis=1)
    assert shown == dict(zip(due.ravel().tolist(), expected.ravel().tolist(), strict=True))


@pytest.mark.parametrize(("order", "latency"), [(2, 6), (256, 20), (12, 7), (1536, 21), (40, 9)])
def test_latency(order, latency):
    unit = HadamardRotation(program=Case(order, 1, 8, 12, 0).program(), plan=MemoryPlan())
    assert (unit.latency, unit.layer_lead) == (latency, ROTATION_LAYER)


def test_a_scheme_without_rotation_is_refused():
    program = Case(8, 1, 8, 12, 0).program()
    plain = dataclasses.replace(program, scheme=SCHEMES["w8a8"])
    with pytest.raises(ValueError, match="scheme w8a8 rotates nothing"):
        HadamardRotation(program=plain, plan=MemoryPlan())


def test_a_size_without_a_matrix_is_refused():
    program = Case(8, 1, 8, 12, 0).program()
    shape = dataclasses.replace(program.shape, d_inner=28)
    with pytest.raises(InputError, match="no Hadamard transform of order 28"):
        HadamardRotation(program=dataclasses.replace(program, shape=shape), plan=MemoryPlan())
