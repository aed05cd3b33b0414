"""Faults of the Hadamard rotation."""

from __future__ import annotations

from sim.mutation.linear_faults import ANONYMOUS
from sim.mutation.schemata import Fault

_UNIT = "engine_rotation"
_FIRST = "engine_rotation_stage_0"
_INNER = "engine_rotation_stage_2"
_LAST = "engine_rotation_stage_4"

ROTATION_FAULTS = (
    Fault(
        name="difference turned",
        unit=_FIRST,
        kind="the first stage subtracts the first half from the second",
        pattern=r"= (?P<site>\$signed\(stored\) - \$signed\(element_1\));",
        faulty="$signed(element_1) - $signed(stored)",
    ),
    Fault(
        name="sum dropped",
        unit=_INNER,
        kind="a stage returns the first half in place of the sums",
        pattern=rf"= (?P<site>adding_1) \? {ANONYMOUS} : \{{ stored",
        faulty="1'h0",
    ),
    Fault(
        name="drain's address ignored",
        unit=_INNER,
        kind="differences are read where the next elements go",
        pattern=r"assign read_port__addr = (?P<site>draining) \?",
        faulty="1'h0",
    ),
    Fault(
        name="drain one short",
        unit=_FIRST,
        kind="the last difference is not announced",
        pattern=r"= drained == (?P<site>4'hf);",
        faulty="4'he",
    ),
    Fault(
        name="difference not kept",
        unit=_LAST,
        kind="the second half is stored in place of the difference",
        pattern=rf"= (?P<site>adding_1) \? {ANONYMOUS} : \{{ element_1",
        faulty="1'h0",
    ),
    Fault(
        name="rotation's layer ignored",
        unit=_UNIT,
        kind="all layers drop the bits of the first",
        pattern=r"= (?P<site>base) \+ row;",
        faulty="1'h0",
    ),
    Fault(
        name="rotated index stuck",
        unit=_UNIT,
        kind="every row of the transform replaces channel 0",
        pattern=r"= rotated_index \+ (?P<site>1'h1);",
        faulty="1'h0",
    ),
    Fault(
        name="rotated saturation dropped",
        unit="engine_rotation_requantizer_requantizer",
        kind="rotated values wrap around above the largest activation",
        pattern=r"= (?P<site>exceeds_high \| at_high);",
        faulty="at_high",
    ),
)
