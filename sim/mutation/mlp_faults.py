"""Faults of the gated MLP: its gate, what it multiplies, and how both find their ways."""

from __future__ import annotations

from sim.mutation.linear_faults import ANONYMOUS, NET
from sim.mutation.schemata import Fault

_UNIT = "engine_gate"

MLP_FAULTS = (
    Fault(
        name="gate unsigned",
        unit=_UNIT,
        kind="a negative gate is taken as a large one",
        pattern=r"= \$signed\(up_2\) \* (?P<site>\$signed\((?P<gate>read_value)\));",
        faulty="$signed({{ 1'h0, {gate} }})",
    ),
    Fault(
        name="up early",
        unit=_UNIT,
        kind="a gate meets the element behind its own",
        pattern=r"up_2 <= (?P<site>up_1);",
        faulty="up_value",
    ),
    Fault(
        name="gated shifts stuck",
        unit=_UNIT,
        kind="all channels drop the bits of the first",
        pattern=r"= next_address \+ (?P<site>1'h1);",
        faulty="1'h0",
    ),
    Fault(
        name="gated shifts not begun again",
        unit=_UNIT,
        kind="the second token goes on behind the last MLP's shifts",
        pattern=r"= next_address == (?P<site>6'h27);",
        faulty="6'h3f",
    ),
    Fault(
        name="gated index early",
        unit=_UNIT,
        kind="a product's index arrives a cycle before it",
        pattern=r"gated_index_5 <= (?P<site>gated_index_4);",
        faulty="gated_index_3",
    ),
    Fault(
        name="gate's shift the mixer's",
        unit="engine_activation",
        kind="an MLP's gate drops the bits of its mixer's",
        pattern=rf"= (?P<site>soon_of_mlp_6) \? {ANONYMOUS} : {ANONYMOUS};",
        faulty="1'h0",
    ),
    Fault(
        name="gate delivered twice",
        unit="engine_activation",
        kind="an MLP's gate reaches the mixer too",
        pattern=r"= (?P<site>~ of_mlp_1);",
        faulty="1'h1",
    ),
    Fault(
        name="up saturation dropped",
        unit="engine_projection",
        kind="up wraps around in place of saturating",
        pattern=rf"= (?P<site>{ANONYMOUS}) \? o\[11:0\] :",
        faulty="1'h1",
    ),
    Fault(
        name="products at the mixer's places",
        unit="engine",
        kind="products of the MLP are stored where the mixer's last one lies",
        pattern=rf"assign gated_index = (?P<site>{NET}) \? ",
        faulty="1'h0",
    ),
)
