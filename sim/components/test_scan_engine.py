"""The scan engine equals golden in value and cycle, for drawn shapes, schemes, lanes and data."""

import dataclasses

import numpy as np
import pytest
from amaranth.back import verilog
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.executor import Executor, State
from golden.fixed_point import requantize
from golden.operations import dual_scale
from golden.operations.activation import softplus
from golden.operations.linear import accumulate
from golden.operations.scan import scan_step
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from golden.random_program import random_program
from golden.scheme import SCHEMES, DualScale, Scheme
from hw.lanes import divisors
from hw.parameter_memory import MemoryPlan
from hw.scan_engine import ScanEngine
from sim.components.scan_bench import (
    Token,
    random_integers,
    restore,
    run_token,
    save,
    simulate,
)


@st.composite
def shapes(draw) -> NetworkShape:
    return NetworkShape(
        vocabulary=16,
        d_model=8,
        d_inner=draw(st.integers(4, 8)),
        d_state=draw(st.integers(2, 8)),
        d_conv=3,
        dt_rank=draw(st.integers(1, 4)),
        n_layer=draw(st.integers(1, 3)),
    )


@st.composite
def schemes(draw) -> Scheme:
    """The presets, and schemes of any widths about them."""
    if draw(st.booleans()):
        return SCHEMES[draw(st.sampled_from(sorted(SCHEMES)))]
    dual = draw(st.booleans())
    return Scheme(
        name="drawn",
        weight_bits=draw(st.integers(2, 8)),
        activation_bits=draw(st.integers(5, 9)),
        projection_bits=draw(st.sampled_from([None, 4, 8])),
        decay_rate_bits=draw(st.integers(6, 16)),
        delta_bits=draw(st.integers(6, 16)),
        decay_bits=draw(st.integers(6, 16)),
        state_bits=draw(st.integers(8, 18)),
        scan_output_bits=draw(st.integers(8, 18)),
        gate_bits=draw(st.integers(8, 18)),
        dual_scale=DualScale(code_bits=draw(st.integers(2, 6)), ratio_log2=draw(st.integers(0, 4)))
        if dual
        else None,
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """What an engine is built from; small, so that hypothesis can print it."""

    shape: NetworkShape
    scheme: Scheme
    scan_lanes: int
    seed: int

    def build(self) -> tuple[Program, ScanEngine]:
        try:
            program = random_program(self.shape, self.scheme, self.seed)
        except InputError:
            assume(condition=False)
        engine = ScanEngine(program=program, scan_lanes=self.scan_lanes, plan=MemoryPlan())
        return program, engine


@st.composite
def cases(draw) -> Case:
    shape = draw(shapes())
    lanes = draw(st.sampled_from(divisors(shape.d_state)))
    return Case(shape, draw(schemes()), lanes, draw(st.integers(0, 1 << 16)))


def executor_tokens(program: Program, sequences: list[np.ndarray]) -> list[Token]:
    """Return every token of every layer from the golden executor's probes, in its order."""
    executor, result = Executor(program), []
    for sequence in sequences:
        state = State.zeros(program, 1)
        for position, token in enumerate(sequence):
            probes: dict[tuple[str, int], np.ndarray] = {}

            def keep(name, layer, values, probes=probes):
                probes[name, layer] = values[0, 0]

            _, state = executor.forward([[token]], state, keep)
            names = ("projected", "scan_u", "gate", "delta", "scan_output", "gated")
            result += [
                Token(
                    layer=layer,
                    fresh=position == 0,
                    state=state.scan[layer, 0].copy(),
                    **{name: probes[name, layer] for name in names},
                )
                for layer in range(program.shape.n_layer)
            ]
    return result


def golden_token(program: Program, given_token: Token, old: np.ndarray) -> Token:
    """Return the token with golden's results for its inputs, whatever these are."""
    scheme, rank, states = program.scheme, program.shape.dt_rank, program.shape.d_state
    layer, shifts = program.layers[given_token.layer], program.shifts[given_token.layer]
    dt, b, c = np.split(given_token.projected, [rank, rank + states])
    total = accumulate(layer.dt_proj.weight, dt[None])[0] + layer.dt_proj.bias
    raw = requantize(total, shifts.dt, ACTIVATION_INPUT_BITS)
    activated = softplus(raw, program.tables.softplus)
    delta = requantize(activated, shifts.delta, scheme.delta_bits, signed=False)
    u = given_token.scan_u
    if scheme.dual_scale is not None:
        u = dual_scale.decode(*dual_scale.unpack(u, scheme.dual_scale), scheme.dual_scale)
    y, state = scan_step(old, delta, u, b, c, program.scan_constants(given_token.layer))
    gated = requantize(y * given_token.gate, shifts.gated, scheme.gated_bits)
    return dataclasses.replace(given_token, delta=delta, scan_output=y, gated=gated, state=state)


def drawn_token(program: Program, seed: int, layer: int, old: np.ndarray, **own) -> Token:
    """Return a token with inputs over the whole of their formats."""
    random = np.random.default_rng(seed)
    scheme, channels = program.scheme, program.shape.d_inner
    scan_u = random_integers(random, scheme.scan_storage_bits, channels)
    if scheme.dual_scale is not None:
        scan_u &= (1 << scheme.scan_storage_bits) - 1
    nothing = np.zeros(channels, np.int64)
    projected = random_integers(random, scheme.activation_bits, program.shape.projected)
    inputs = {
        "projected": projected,
        "scan_u": scan_u,
        "gate": random_integers(random, scheme.gate_bits, channels),
        "fresh": False,
    } | own
    bare = Token(
        layer=layer, delta=nothing, scan_output=nothing, gated=nothing, state=old, **inputs
    )
    return golden_token(program, bare, old)


@settings(max_examples=12)
@given(
    case=cases(),
    lengths=st.lists(st.integers(1, 2), min_size=1, max_size=2),
    seed=st.integers(0, 1 << 16),
)
def test_sequences_equal_the_executor(case, lengths, seed):
    (program, engine), lanes = case.build(), case.scan_lanes
    random = np.random.default_rng(seed)
    sequences = [random.integers(0, program.shape.vocabulary, length) for length in lengths]
    tokens = executor_tokens(program, sequences)
    last = tokens[-program.shape.n_layer :]

    async def drive(ctx):
        for token in tokens:
            late_row = int(random.integers(0, program.shape.projected))
            events = await run_token(ctx, engine, program, token, late_row=late_row)
            assert events == token.expected(program, engine, lanes)
        words = [word for token in last for word in token.state_words(program, lanes)]
        assert await save(ctx, engine, len(words)) == words

    simulate(engine, drive)


@settings(max_examples=12)
@given(case=cases(), seed=st.integers(0, 1 << 16))
def test_any_operands_back_to_back_and_from_a_restored_state(case, seed):
    """The first token continues a restored state, the second starts after just ``duration``."""
    (program, engine), lanes = case.build(), case.scan_lanes
    random = np.random.default_rng(seed)
    shape, bits = program.shape, program.scheme.state_bits
    count = shape.n_layer * shape.d_inner * shape.d_state
    states = random_integers(random, bits, count).reshape(shape.n_layer, shape.d_inner, -1)
    layer = int(random.integers(0, shape.n_layer))
    first = drawn_token(program, seed, layer, states[layer])
    # x_proj's rows stay, as there is no time to write them.
    again = drawn_token(program, seed + 1, layer, first.state, projected=first.projected)
    third = drawn_token(program, seed + 2, layer, np.zeros_like(first.state), fresh=True)

    def words(own):
        packed = [dataclasses.replace(first, state=state) for state in own]
        return [word for token in packed for word in token.state_words(program, lanes)]

    async def drive(ctx):
        await restore(ctx, engine, words(states))
        assert await save(ctx, engine, len(words(states))) == words(states)
        for token, late_row in ((first, 0), (again, None), (third, shape.projected - 1)):
            events = await run_token(ctx, engine, program, token, late_row=late_row)
            assert events == token.expected(program, engine, lanes)
        states[layer] = third.state
        assert await save(ctx, engine, len(words(states))) == words(states)

    simulate(engine, drive)


SMALL = NetworkShape(vocabulary=16, d_model=8, d_inner=4, d_state=6, d_conv=3, dt_rank=2, n_layer=2)


def test_lanes_must_divide_the_state():
    program = random_program(SMALL, SCHEMES["w8a8"])
    with pytest.raises(ValueError, match=r"scan_lanes 4 does not divide d_state 6; .*1, 2, 3, 6"):
        ScanEngine(program=program, scan_lanes=4, plan=MemoryPlan())


def test_a_schedule_that_is_too_tight_is_refused():
    program = random_program(SMALL, SCHEMES["w8a8"])
    engine = ScanEngine(program=program, scan_lanes=3, plan=MemoryPlan())
    engine.check_recurrence(engine.hazard_depth)
    with pytest.raises(InputError, match=f"every 6 cycles.*only {engine.hazard_depth} cycles"):
        engine.check_recurrence(6)


def test_the_access_port_is_closed_while_busy():
    program = random_program(SMALL, SCHEMES["w8a8"])
    engine = ScanEngine(program=program, scan_lanes=2, plan=MemoryPlan())
    token = executor_tokens(program, [np.array([3])])[0]

    async def drive(ctx):
        ctx.set(engine.access_write, 1)
        ctx.set(engine.access_write_data, 5)
        events = await run_token(ctx, engine, program, token, late_row=None)
        ctx.set(engine.access_write, 0)
        own = SMALL.d_inner * engine.interval
        saved = await save(ctx, engine, 2 * own)
        assert saved[:own] == [word for _, word in events["state"]]
        assert saved[own:] == [0] * own

    simulate(engine, drive)


def test_verilog_is_the_same_in_every_run():
    program = random_program(SMALL, SCHEMES["w4a5-se"])

    def text():
        engine = ScanEngine(program=program, scan_lanes=2, plan=MemoryPlan("images"))
        return verilog.convert(engine, name="scan_engine", strip_internal_attrs=True)

    assert text() == text()
