"""AverageUnit against golden in value and cycle: layers in turn, gaps, fresh and kept averages."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from golden.configuration import AverageShape, FrameShape, NetworkShape
from golden.fixed_point import requantize, saturate
from golden.operations import dual_scale
from golden.operations.moving_average import average_decay, average_step
from golden.random_program import random_program
from golden.scheme import SCHEMES
from hw.average_unit import AverageUnit
from hw.multiplier import Multipliers
from hw.parameter_memory import MemoryPlan

E, LAYERS = 8, 2


def make(scheme, *, gated, multipliers=Multipliers.DSP, contexts=1):
    shape = NetworkShape(
        vocabulary=2, d_model=4, d_inner=E, d_state=1, d_conv=1, dt_rank=E, n_layer=LAYERS,
        frame=FrameShape(features=3, tokens=3), average=AverageShape(gated=gated),
    )  # fmt: skip
    program = random_program(shape, SCHEMES[scheme], seed=2)
    plan = MemoryPlan(multipliers=multipliers)
    return program, AverageUnit(program=program, plan=plan, slots=2, contexts=contexts)


def draw_blocks(program, count, seed, contexts=1):
    """Return (layer, context, fresh, argument, stored scan input, gate) of blocks.

    Layers come in turn, contexts at random.
    """
    numbers, scheme = np.random.default_rng(seed), program.scheme
    return [
        (
            block % LAYERS,
            int(numbers.integers(contexts)) if contexts > 1 else 0,
            int(numbers.random() < 0.3),
            # Near zero lambda follows the argument, far away it saturates.
            saturate(np.rint(numbers.normal(0, 2.0 ** numbers.choice([10, 13, 16]), E)), 18),
            numbers.integers(0, 1 << scheme.scan_storage_bits, E),
            numbers.integers(-(1 << (scheme.gate_bits - 1)), 1 << (scheme.gate_bits - 1), E),
        )
        for block in range(count)
    ]


def expected(program, blocks):
    """Return what golden computes of the blocks: (decay, state, gated) of every channel."""
    scheme, states, rows = program.scheme, {}, []
    bits = scheme.scan_storage_bits
    for layer, context, fresh, argument, stored, gate in blocks:
        u = stored - (stored >> (bits - 1) << bits)
        if (dual := scheme.dual_scale) is not None:
            u = dual_scale.decode(*dual_scale.unpack(stored, dual), dual)
        decay = average_decay(argument, program.tables.sigmoid, scheme.decay_bits)
        zeros = np.zeros(E, np.int64)
        old = zeros if fresh else states.get((layer, context), zeros)
        new = average_step(old, decay, u << scheme.lift, scheme.decay_bits)
        states[layer, context] = new
        factor = gate if program.shape.gated else 1
        gated = requantize(new * factor, program.average_shifts[layer].gated, scheme.gated_bits)
        rows += zip(decay.tolist(), new.tolist(), gated.tolist(), strict=True)
    return rows


def play(unit, blocks, seed, contexts=1):
    """Feed the blocks, scan inputs and gates just in time; return (cycle, value) by probe."""
    gaps, shown, arrivals = random.Random(seed), {"decay": [], "state": [], "gated": []}, []
    cycle = unit.gate_offset
    plan = []
    for layer, number, fresh, argument, stored, gate in blocks:
        for e in range(E):
            values = (int(argument[e]), int(stored[e]), int(gate[e]))
            plan.append((cycle, layer, number, fresh, e, *values))
            arrivals.append(cycle)
            cycle += 1 + (gaps.random() < 0.3) * gaps.randrange(4)
        cycle = max(cycle, arrivals[-E] + unit.hazard_depth)
    arguments = {at: rest for at, *rest in plan}
    inputs = {at + unit.u_offset - 1: rest for at, *rest in plan}
    gates = {at + unit.gate_offset - 1: rest for at, *rest in plan}

    async def bench(context):
        for now in range(cycle + 30):
            for port, due in (("argument", arguments), ("scan_u", inputs), ("gate", gates)):
                context.set(getattr(unit, f"{port}_valid"), int(now in due))
            if now in arguments:
                layer, number, fresh, e, argument, _, _ = arguments[now]
                context.set(unit.layer, layer)
                if contexts > 1:
                    context.set(unit.context, number)
                context.set(unit.fresh, fresh)
                context.set(unit.argument_index, e)
                context.set(unit.argument_value, argument)
            if now in inputs:
                context.set(unit.scan_u_index, inputs[now][3])
                context.set(unit.scan_u_value, inputs[now][5])
            if now in gates:
                context.set(unit.gate_index, gates[now][3])
                context.set(unit.gate_value, gates[now][6])
            for name, found in shown.items():
                if context.get(getattr(unit, f"{name}_valid")):
                    found.append((now, context.get(getattr(unit, f"{name}_value"))))
            await context.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return arrivals, shown


@pytest.mark.parametrize(
    ("scheme", "gated", "multipliers", "contexts"),
    [
        ("w8a8", True, Multipliers.DSP, 1),
        ("w8a8", False, Multipliers.LUT, 4),
        ("w4a5-se", True, Multipliers.MIX, 2),
        ("w4a4-h", True, Multipliers.MIX, 1),
    ],
)
def test_equals_golden_in_value_and_cycle(scheme, gated, multipliers, contexts):
    program, unit = make(scheme, gated=gated, multipliers=multipliers, contexts=contexts)
    blocks = draw_blocks(program, 40, seed=4, contexts=contexts)
    arrivals, shown = play(unit, blocks, seed=5, contexts=contexts)
    rows = expected(program, blocks)
    for place, (name, latency) in enumerate(
        (("decay", unit.decay_latency), ("state", unit.state_latency), ("gated", unit.latency))
    ):
        wanted = [(at + latency, row[place]) for at, row in zip(arrivals, rows, strict=True)]
        assert shown[name] == wanted, name
