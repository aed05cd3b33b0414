"""Whole engines of drawn shapes, schemes and lanes in Amaranth's simulator against golden."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.configuration import HeadShape, NetworkShape
from golden.errors import InputError
from golden.presets import find_preset
from golden.random_program import random_program
from golden.scheme import SCHEMES
from golden.vectors import random_stimulus, trace
from hw.engine import Engine
from hw.lanes import Lanes, divisors
from hw.parameter_memory import MemoryPlan
from sim.engine_bench import compare, run_engine


@st.composite
def head_shapes(draw, d_inner):
    """Return a division of the channels into heads and groups."""
    size = draw(st.sampled_from(divisors(d_inner)))
    return HeadShape(size=size, groups=draw(st.sampled_from(divisors(d_inner // size))))


@st.composite
def engines(draw, mamba2):
    """Return (program, lanes) of a small network that the lanes fit, of one or more contexts."""
    mac = draw(st.sampled_from([1, 2, 3, 4]))
    scheme = SCHEMES[draw(st.sampled_from(sorted(SCHEMES)))]
    d_inner = mac * draw(st.integers(8 // mac, 16 // mac))
    if scheme.rotation_bits is not None:
        d_inner = draw(st.sampled_from([12, 24] if mac == 3 else [8, 12, 16, 20]))
    shape = NetworkShape(
        vocabulary=draw(st.integers(5, 40)),
        d_model=mac * draw(st.integers(8 // mac, 12 // mac)),
        d_inner=d_inner,
        d_state=draw(st.sampled_from([1, 2, 3, 4, 8])),
        d_conv=draw(st.integers(2, 4)),
        dt_rank=0 if mamba2 else draw(st.integers(1, 4)),
        n_layer=draw(st.integers(1, 2)),
        mlp=draw(st.none() | st.integers(2, 20)),
        heads=draw(head_shapes(d_inner)) if mamba2 else None,
    )
    scan = draw(st.sampled_from(divisors(shape.d_state)))
    ends = draw(st.sampled_from([{}, {"embedding_bits": 16}, {"head_bits": 4}, {"head_bits": 16}]))
    narrow = not mamba2 and scheme.projection_input_bits < 16
    scheme = replace(scheme, **ends, asymmetric=narrow and draw(st.booleans()))
    if not scheme.ternary:
        scheme = replace(scheme, weight_group=draw(st.sampled_from([None, 4])))
    own = st.none() | st.integers(4, scheme.projection_input_bits)
    widths = draw(st.lists(own, max_size=2))
    program = random_program(shape, scheme, draw(st.integers(0, 1000)), widths)
    return program, Lanes(mac=mac, scan=scan, contexts=draw(st.sampled_from([1, 2, 4])))


def check(program, lanes, *, seed, dense=False, **options):
    """Run one engine and compare every probe in value and cycle."""
    stream = random_stimulus(program, 3 + lanes.contexts, seed, lanes.contexts)
    expected = trace(program, stream.tokens, stream.last, stream.context)
    engine = Engine(program=program, lanes=lanes, plan=MemoryPlan(dense_trits=dense))
    recording = run_engine(engine, expected, **options)
    compare(recording, program, lanes, expected, engine)


@pytest.mark.parametrize("mamba2", [False, True], ids=["mamba1", "mamba2"])
@settings(max_examples=5, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_engine_equals_golden_at_full_speed(mamba2, data, seed):
    program, lanes = data.draw(engines(mamba2))
    check(program, lanes, seed=seed)


@pytest.mark.parametrize("mamba2", [False, True], ids=["mamba1", "mamba2"])
@settings(max_examples=3, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_engine_equals_golden_under_stalls(mamba2, data, seed):
    program, lanes = data.draw(engines(mamba2))
    check(program, lanes, stall_seed=seed, seed=seed)


def test_the_largest_state_equals_golden():
    shape = NetworkShape(
        vocabulary=9, d_model=8, d_inner=8, d_state=128, d_conv=4, n_layer=1,
        heads=HeadShape(size=2, groups=2),
    )  # fmt: skip
    check(random_program(shape, SCHEMES["w8a8"], seed=2), Lanes(mac=8, scan=64), seed=1)


@pytest.mark.parametrize("d_inner", [16, 24, 20])
def test_every_class_of_rotations_equals_golden(d_inner):
    shape = NetworkShape(
        vocabulary=9, d_model=8, d_inner=d_inner, d_state=4, d_conv=3, dt_rank=2, n_layer=2
    )
    program = random_program(shape, SCHEMES["w4a8-h"], seed=d_inner)
    check(program, Lanes(mac=4, scan=2), stall_seed=None, seed=1)


@pytest.mark.parametrize(
    ("vocabulary", "mac", "head_bits", "dense"),
    [(9, 4, None, False), (23, 8, None, True), (9, 4, 16, True), (9, 4, 4, False)],
)
def test_ternary_lanes_take_the_head_digit_by_digit(vocabulary, mac, head_bits, dense):
    shape = NetworkShape(
        vocabulary=vocabulary, d_model=8, d_inner=16, d_state=4, d_conv=3, dt_rank=2, n_layer=1,
        mlp=11,
    )  # fmt: skip
    scheme = replace(SCHEMES["ternary"], head_bits=head_bits)
    program = random_program(shape, scheme, seed=mac)
    check(program, Lanes(mac=mac, scan=2), stall_seed=None, seed=1, dense=dense)


def test_trits_are_stored_densely_in_ternary_schemes_alone():
    program = random_program(find_preset("micro"), SCHEMES["w4a8"])
    with pytest.raises(InputError, match="w4a8 has no ternary weights to store five to a byte"):
        Engine(program=program, lanes=Lanes(mac=4, scan=2), plan=MemoryPlan(dense_trits=True))


def test_reset_in_the_middle_of_a_token_leaves_nothing_of_it():
    shape = NetworkShape(
        vocabulary=11, d_model=8, d_inner=8, d_state=2, d_conv=2, dt_rank=1, n_layer=2
    )
    program = random_program(shape, SCHEMES["w8a8"], seed=4)
    for interruption in (40, 171, 333):
        check(program, Lanes(mac=4, scan=2, contexts=2), seed=3, interruption=interruption)
