"""Engines whose programs depart from their scheme's usual widths, against golden."""

from dataclasses import replace

import numpy as np
import pytest

from golden.configuration import HeadShape, NetworkShape
from golden.random_program import random_program
from golden.scheme import SCHEMES
from golden.vectors import random_stimulus, trace
from hw.engine import Engine
from hw.lanes import Lanes
from hw.parameter_memory import MemoryPlan
from sim.engine_bench import compare, run_engine
from sim.test_engine import check


def test_embedding_and_head_of_16_bits_equal_golden():
    shape = NetworkShape(
        vocabulary=11, d_model=8, d_inner=8, d_state=2, d_conv=2, dt_rank=1, n_layer=1
    )
    wide = replace(SCHEMES["w4a4-h"], embedding_bits=16)
    program = random_program(shape, wide, seed=5)
    assert abs(program.head.weight).max() >= 1 << 14
    assert abs(program.front.table).max() >= 1 << 11
    check(program, Lanes(mac=4, scan=2), stall_seed=None, seed=1)


@pytest.mark.parametrize(
    ("name", "asymmetric", "widths", "mlp"),
    [
        ("w8a8", False, (4, None), None),
        ("w4a8-h", False, (None, 5), 11),
        ("w4a4-h", True, (None, None), None),
        ("w4a5-se", True, (6, 4), None),
    ],
)
def test_widths_and_zero_points_of_blocks_equal_golden(name, asymmetric, widths, mlp):
    shape = NetworkShape(
        vocabulary=9, d_model=8, d_inner=8, d_state=2, d_conv=2, dt_rank=1, n_layer=2, mlp=mlp
    )
    scheme = replace(SCHEMES[name], asymmetric=asymmetric)
    check(random_program(shape, scheme, 6, widths), Lanes(mac=4, scan=2), seed=1)


def test_widths_of_blocks_with_heads_equal_golden():
    shape = NetworkShape(
        vocabulary=9, d_model=8, d_inner=8, d_state=2, d_conv=2, n_layer=2, heads=HeadShape(size=4)
    )
    check(random_program(shape, SCHEMES["w8a8"], 6, (None, 5)), Lanes(mac=4, scan=2), seed=1)


@pytest.mark.parametrize(
    ("name", "group", "sizes"),
    [
        ("w4a8", 4, {"d_model": 8, "d_inner": 12, "mlp": 11}),
        ("w8a8-h", 8, {"d_model": 12, "d_inner": 20}),
        ("w4a8", 4, {"d_model": 12, "d_inner": 8, "heads": HeadShape(size=4), "dt_rank": 0}),
    ],
)
def test_groups_of_weights_equal_golden(name, group, sizes):
    shape = NetworkShape(
        **({"vocabulary": 9, "d_state": 2, "d_conv": 2, "dt_rank": 5, "n_layer": 2} | sizes)
    )
    program = random_program(shape, replace(SCHEMES[name], weight_group=group), 6)
    assert len(np.unique(program.layers[0].out_proj.group_shift)) == 4
    check(program, Lanes(mac=4, scan=2), stall_seed=None, seed=1)


@pytest.mark.parametrize("matrix", ["in_proj", "out_proj"])
def test_a_wrong_scale_of_a_group_is_noticed(matrix):
    shape = NetworkShape(
        vocabulary=9, d_model=8, d_inner=12, d_state=2, d_conv=2, dt_rank=1, n_layer=1
    )
    program = random_program(shape, replace(SCHEMES["w4a8"], weight_group=4), 6)
    own = program.layers[0]
    shift = getattr(own, matrix).group_shift.copy()
    shift[1, -1] ^= 1
    changed = replace(own, **{matrix: replace(getattr(own, matrix), group_shift=shift)})
    assert_noticed(program, replace(program, layers=(changed,)))


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        (0, {"projection_bits": 5}),
        (1, {"u_zero": np.arange(8)}),
    ],
    ids=["wider", "zero points"],
)
def test_a_wrong_width_or_zero_point_is_noticed(layer, change):
    shape = NetworkShape(
        vocabulary=9, d_model=8, d_inner=8, d_state=2, d_conv=2, dt_rank=1, n_layer=2
    )
    program = random_program(shape, replace(SCHEMES["w8a8"], asymmetric=True), 6, (4, 5))
    own = program.layers[layer]
    layers = list(program.layers)
    layers[layer] = replace(own, formats=replace(own.formats, **change))
    wrong = replace(program, layers=tuple(layers))
    assert_noticed(program, wrong)


def assert_noticed(program, wrong):
    """Assert that an engine built from another program is told apart."""
    lanes = Lanes(mac=4, scan=2)
    stream = random_stimulus(program, 12, 2)
    expected = trace(program, stream.tokens, stream.last, stream.context)
    engine = Engine(program=wrong, lanes=lanes, plan=MemoryPlan())
    with pytest.raises(AssertionError, match="value and cycle"):
        compare(run_engine(engine, expected), program, lanes, expected, engine)
