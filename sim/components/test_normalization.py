"""ResidualNorm and ReciprocalRoot against the golden functions: every value in its exact cycle."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.configuration import NetworkShape
from golden.fixed_point import saturate
from golden.layer import SHIFT_LIMITS
from golden.operations.normalization import epsilon_integer, reciprocal_root, rms_norm
from golden.piecewise import LinearTable, reciprocal_table
from golden.random_program import random_program
from golden.scheme import Scheme
from hw.normalization import ResidualNorm
from hw.parameter_memory import MemoryPlan
from hw.reciprocal_root import ReciprocalRoot


def small_program(d_model, n_layer, scheme, seed):
    shape = NetworkShape(
        vocabulary=2, d_model=d_model, d_inner=2, d_state=1, d_conv=2, dt_rank=1, n_layer=n_layer
    )
    return random_program(shape, scheme, seed)


def with_norm_shifts(program, shifts):
    """Return the program with the given norm shifts, the last one for the final norm."""
    *layer_shifts, final_shift = shifts
    layers = []
    for layer, shift in zip(program.layers, layer_shifts, strict=True):
        formats = dataclasses.replace(layer.formats, norm_weight=shift - 17 + layer.formats.norm)
        layers.append(dataclasses.replace(layer, formats=formats))
    return dataclasses.replace(
        program,
        layers=tuple(layers),
        final_norm_weight_fraction=final_shift - 17 + program.final_norm_fraction,
    )


def residual_values(kind, count, bits, random):
    """Return one pass of elements: ordinary ones or an extreme."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    values = np.zeros(count, np.int64)
    if kind == "normal":
        values = random.normal(0.0, high / 6, count).astype(np.int64)
    elif kind == "tiny":
        values = random.integers(-2, 3, count)
    elif kind == "one":
        values[random.integers(count)] = low
    elif kind == "lowest":
        values[:] = low
    elif kind == "highest":
        values[:] = high
    elif kind == "mixed":
        values = random.choice([low, high], count)
    return saturate(values, bits)


KINDS = ("normal", "normal", "tiny", "zero", "one", "lowest", "highest", "mixed")


def stimulus(unit, passes, gap, random):
    """Return the input rows, one a cycle, and for each pass the cycles of its elements."""
    rows, cycles = [], []
    for number, (loaded, values) in enumerate(passes):
        wait = unit.duration - 1 if number else 0
        rows += [(0, 0, 0, 0)] * (wait + int(random.integers(0, 1 + 3 * gap)))
        cycles.append([])
        for index, value in enumerate(values.tolist()):
            if index:
                rows += [(0, 0, 0, 0)] * int(random.integers(0, 1 + gap))
            cycles[-1].append(len(rows))
            rows.append((loaded, not loaded, index, value))
    rows += [(0, 0, 0, 0)] * (unit.latency + len(passes[0][1]) + 2)
    return rows, cycles


def simulate(unit, rows):
    """Return ``{cycle: value}`` of the residual probe and ``{cycle: (index, value)}`` of norm."""
    residual, norm = {}, {}

    async def bench(ctx):
        for cycle, (load, add, index, value) in enumerate(rows):
            ctx.set(unit.load_valid, load)
            ctx.set(unit.add_valid, add)
            # Each port's payload is wrong unless its valid is set.
            ctx.set(unit.load_index, index if load else 1)
            ctx.set(unit.load_value, value if load else 77)
            ctx.set(unit.add_index, index if add else 0)
            ctx.set(unit.add_value, value if add else -99)
            if ctx.get(unit.residual_valid):
                residual[cycle] = ctx.get(unit.residual_value)
            if ctx.get(unit.norm_valid):
                norm[cycle] = (ctx.get(unit.norm_index), ctx.get(unit.norm_value))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return residual, norm


def expected(program, unit, passes, cycles):
    """Return what :func:`simulate` must return."""
    residual, norm = {}, {}
    scheme, bits = program.scheme, program.scheme.residual_bits
    widths = [*(scheme.projection_input_bits for _ in program.layers), scheme.activation_bits]
    epsilon = epsilon_integer(program.shape.d_model, program.residual_fraction)
    sets = [
        *(
            (layer.norm_weight, s.norm)
            for layer, s in zip(program.layers, program.shifts, strict=True)
        ),
        (program.final_norm_weight, program.final_norm_shift),
    ]
    r, selected = np.zeros(program.shape.d_model, np.int64), 0
    for (loaded, values), times in zip(passes, cycles, strict=True):
        r = values if loaded else saturate(r + values, bits)
        selected = 0 if loaded else selected + 1
        weight, shift = sets[selected]
        normalized = rms_norm(
            r,
            weight,
            epsilon=epsilon,
            shift=shift,
            bits=widths[selected],
            table=program.tables.reciprocal,
        )
        for index, time in enumerate(times):
            residual[time + unit.residual_latency] = int(r[index])
            norm[times[-1] + unit.latency + index] = (index, int(normalized[index]))
    return residual, norm


def check(program, tokens, gap, seed):
    """Run tokens, each a list of pass kinds, and compare everything."""
    random = np.random.default_rng(seed)
    size, bits = program.shape.d_model, program.scheme.residual_bits
    passes = [
        (int(number == 0), residual_values(kind, size, bits, random))
        for kinds in tokens
        for number, kind in enumerate(kinds)
    ]
    unit = ResidualNorm(program=program, plan=MemoryPlan())
    rows, cycles = stimulus(unit, passes, gap, random)
    assert simulate(unit, rows) == expected(program, unit, passes, cycles)


@settings(max_examples=60)
@given(data=st.data())
def test_passes(data):
    scheme = Scheme(
        name="drawn",
        embedding_bits=4,
        residual_bits=data.draw(st.integers(12, 18), "residual_bits"),
        norm_weight_bits=data.draw(st.sampled_from([8, 13, 16]), "norm_weight_bits"),
        activation_bits=data.draw(st.integers(4, 9), "activation_bits"),
        projection_bits=data.draw(st.sampled_from([None, 4, 8, 12]), "projection_bits"),
    )
    size = data.draw(st.sampled_from([2, 3, 8, 12, 16, 20]), "d_model")
    layers = data.draw(st.integers(1, 3), "n_layer")
    seed = data.draw(st.integers(0, 1 << 20), "seed")
    program = small_program(size, layers, scheme, seed)
    if data.draw(st.booleans(), "other shifts"):
        shift = st.integers(*SHIFT_LIMITS)
        drawn = data.draw(st.lists(shift, min_size=layers + 1, max_size=layers + 1), "shifts")
        program = with_norm_shifts(program, drawn)
    token = st.lists(st.sampled_from(KINDS), min_size=layers + 1, max_size=layers + 1)
    tokens = data.draw(st.lists(token, min_size=1, max_size=2), "tokens")
    check(program, tokens, data.draw(st.sampled_from([0, 0, 1, 4]), "gap"), seed)


@pytest.mark.parametrize("size", [12, 16, 20])
@pytest.mark.parametrize("kind", ["zero", "one", "lowest", "highest"])
def test_extreme_residuals(size, kind):
    """Zeros have only epsilon under the root; full scale has the widest sum of squares."""
    program = small_program(size, 1, Scheme(name="widest"), 3)
    check(program, [[kind, "zero"], ["zero", kind], ["zero", "one"]], 0, 4)


def test_epsilon_of_one_and_negative_shifts():
    program = small_program(12, 2, Scheme(name="widest"), 5)
    # The lowest residual fraction: a residual of zero then has a sum of squares of 1.
    program = dataclasses.replace(with_norm_shifts(program, [-12, 0, 31]), residual_fraction=0)
    assert epsilon_integer(12, program.residual_fraction) == 1
    for seed in range(4):
        check(program, [["tiny", "tiny", "tiny"], ["zero", "zero", "tiny"]], 0, seed)


def test_saturating_adds_walk_to_both_ends():
    program = small_program(16, 3, Scheme(name="narrow", residual_bits=12, embedding_bits=4), 6)
    check(program, [["lowest", "mixed", "lowest", "mixed"], ["highest"] * 4], 1, 7)


def test_latency_and_duration():
    unit = ResidualNorm(program=small_program(20, 1, Scheme(name="s"), 0), plan=MemoryPlan())
    assert (unit.latency, unit.duration, unit.residual_latency) == (19, 20 + 12, 2)


@pytest.mark.parametrize("total_bits", [4, 17, 18, 19, 20, 36, 41, 47, 62])
def test_reciprocal_root(total_bits):
    """Random totals of every magnitude, and those beside powers of two and rounding ties."""
    random = np.random.default_rng(total_bits)
    limit = (1 << total_bits) - 1
    totals = {
        (1 << power) + offset + (tie << max(0, power - 17 - power % 2))
        for power in range(total_bits)
        for offset in (-2, -1, 0, 1, 2)
        for tie in (0, 1, 3)
    }
    totals |= {int(2.0 ** random.uniform(0, total_bits)) for _ in range(600)}
    totals |= {1, 2, 3, limit, limit - 1}
    elements = [total for total in totals if 1 <= total <= limit]
    random.shuffle(elements)
    unit = ReciprocalRoot(total_bits=total_bits, table=reciprocal_table(), plan=MemoryPlan())
    shown = []

    async def bench(ctx):
        # Every third cycle is not valid; the result must then stand still.
        for total in elements:
            for valid in (1, 1, 0) if total % 3 == 0 else (1,):
                ctx.set(unit.valid, valid)
                ctx.set(unit.total, total if valid else limit)
                shown.append((total, ctx.get(unit.root), ctx.get(unit.exponent)))
                await ctx.tick()
        for _ in range(unit.latency):
            shown.append((0, ctx.get(unit.root), ctx.get(unit.exponent)))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    roots, exponents = reciprocal_root(np.array(elements), reciprocal_table())
    one = roots == 1 << 17
    roots = np.where(one, roots >> 1, roots)
    exponents = np.where(one, np.maximum(exponents - 1, 0), exponents)
    golden = dict(zip(elements, zip(roots.tolist(), exponents.tolist(), strict=True), strict=True))
    for (total, _, _), (_, root, exponent) in zip(shown, shown[unit.latency :], strict=False):
        assert (root, exponent) == golden[total], total


def test_only_a_total_of_one_has_a_root_of_one_and_no_exponent():
    roots, exponents = reciprocal_root(np.arange(1, 1 << 12), reciprocal_table())
    assert (np.flatnonzero((roots == 1 << 17) & (exponents == 0)) + 1).tolist() == [1]


@pytest.mark.parametrize(
    ("total_bits", "change", "message"),
    [
        (3, {}, "total_bits = 3 is outside 4..62"),
        (63, {}, "total_bits = 63 is outside 4..62"),
        (36, {"base": np.zeros(5)}, "5 segments, 512 are needed"),
        (36, {"base": np.full(512, (1 << 22) + 1)}, "base reaches 4194305"),
        (36, {"slope": np.full(512, -1)}, "slope -1"),
        (36, {"base": np.full(512, 5)}, "below 0"),
        (36, {"base": np.full(512, (1 << 22) - 16)}, "upper octave reaches 4194288"),
    ],
)
def test_refused_parameters(total_bits, change, message):
    table = reciprocal_table()
    changed = {name: values.astype(np.int64) for name, values in change.items()}
    table = LinearTable(changed.get("base", table.base), changed.get("slope", table.slope))
    with pytest.raises(ValueError, match=message):
        ReciprocalRoot(total_bits=total_bits, table=table, plan=MemoryPlan())
