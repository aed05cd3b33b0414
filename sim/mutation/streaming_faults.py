"""Faults of the streaming organisation's own units: sequencer, norm, rings, frames, credit."""

from __future__ import annotations

from sim.mutation.linear_faults import NET
from sim.mutation.schemata import Fault

_SEQUENCER = "engine_sequencer"
_NORM = "engine_norm"
_INPUT = "engine_input"
_HEAD = "engine_head"
_ARRAY = "engine_x_array_array"


def kept(unit: str, register: str, name: str, kind: str) -> Fault:
    """Return the fault that a register never changes."""
    return Fault(
        name=name,
        unit=unit,
        kind=kind,
        pattern=rf"(?m:^)    {register} <= (?P<site>{NET});",
        faulty=register,
    )


def replaced(unit: str, register: str, faulty: str, name: str, kind: str) -> Fault:
    """Return the fault that a register takes another value."""
    return Fault(
        name=name,
        unit=unit,
        kind=kind,
        pattern=rf"(?m:^)    {register} <= (?P<site>{NET});",
        faulty=faulty,
    )


PACKED_FAULTS = (
    Fault(
        name="borrow kept",
        unit=_ARRAY,
        kind="the upper lane does not get back what the lower product borrowed",
        pattern=r"\{ \\\$\d+ , (?P<site>1'h1) \}\) \+ \$signed\(products_0\[23:11\]\)",
        faulty="1'h0",
    ),
    Fault(
        name="lower product unsigned",
        unit=_ARRAY,
        kind="a negative product of the lower lane is read as a large one",
        pattern=r"(?P<site>\$signed\((?P<low>products_0\[11:0\])\))",
        faulty="$signed({{ 1'h0, {low} }})",
    ),
    Fault(
        name="upper weight not lessened",
        unit=_ARRAY,
        kind="the packed weight counts a borrow that the lower one's sign already is",
        pattern=r"products_0_upper = \$signed\(weights\[7:4\]\) - (?P<site>[^;]+);",
        faulty="$signed(1'h0)",
    ),
    Fault(
        name="lower weight's sign short",
        unit=_ARRAY,
        kind="the lower weight is extended by one sign bit less",
        pattern=r"\{ products_0_upper, (?P<site>weights\[3\])(?:, weights\[3\]){7}, weights\[3:0\]",
        faulty="1'h0",
    ),
)
"""Faults of two products that share a hardware multiplier."""

STREAMING_FAULTS = (
    *PACKED_FAULTS,
    kept(_SEQUENCER, "slot", "residual slot stays", "all tokens share one residual"),
    kept(_SEQUENCER, "position", "place in frame stays", "every token is a frame's first"),
    kept(_SEQUENCER, "x_tag", "tag of x stays", "in_proj works on the first layer only"),
    kept(_SEQUENCER, "added_tag", "tag of the add stays", "block and slot of an add are stale"),
    Fault(
        name="layer stays",
        unit=_SEQUENCER,
        kind="a token's next block is its first again",
        pattern=r"= (?P<site>tag_\d+\[0\] \+ 1'h1);",
        faulty="1'h0",
    ),
    replaced(_SEQUENCER, "z_start", "x_start", "z starts late", "z begins a cycle after x"),
    replaced(_SEQUENCER, "add_start", "out_start", "add starts early", "before out_proj ends"),
    replaced(_SEQUENCER, "valid_1", "1'h0", "block lost", "a block leaves the chain of beats"),
    Fault(
        name="weight set of the block before",
        unit=_NORM,
        kind="a norm uses the weights of its own block, not of the next",
        pattern=rf"weight_set = load_valid \? 2'h0 : (?P<site>{NET});",
        faulty="add_layer",
    ),
    Fault(
        name="load adds",
        unit=_NORM,
        kind="a new token adds to the residual that its slot held",
        pattern=r"loaded_2 \? (?P<site>18'h00000) : stored",
        faulty="stored",
    ),
    Fault(
        name="frame's sum goes on",
        unit=_NORM,
        kind="the first token does not start the sum over the frame",
        pattern=r"add_first_3 \? (?P<site>20'h00000) : old",
        faulty="old",
    ),
    Fault(
        name="frame never ends",
        unit=_NORM,
        kind="the last token's mean is not normalised",
        pattern=rf"= {NET}\| (?P<site>add_last_3);",
        faulty="1'h0",
    ),
    Fault(
        name="slot of the load",
        unit=_NORM,
        kind="an add goes to the slot of the newest token",
        pattern=r"load_valid \? load_slot : (?P<site>add_slot);",
        faulty="load_slot",
        places=2,
    ),
    replaced(_NORM, "pool_address_1", "index_2", "sum's place", "the next element's sum is lost"),
    kept(_NORM, "pass_set", "norm's set stays", "every pass has the first weights"),
    Fault(
        name="padding is not zero",
        unit=_INPUT,
        kind="padding repeats the last feature",
        pattern=rf"o_value = {NET}\? (?P<site>12'h000) :",
        faulty="features__payload[11:0]",
    ),
    Fault(
        name="ready while padding",
        unit=_INPUT,
        kind="features are taken and lost while zeros are written",
        pattern=rf"features__ready = open_ & (?P<site>{NET});",
        faulty="1'h1",
    ),
    kept(_INPUT, "token", "frame counter stays", "a frame's end is not seen"),
    replaced(_HEAD, "left", "1'h0", "credit is not returned", "frames that left still count"),
    kept(_HEAD, "room", "credit without end", "outputs have no place in their buffer"),
    kept("engine_head_buffer", "level", "level stays", "outputs that follow another are not shown"),
    kept("engine_scan", "active", "scan never active", "the lanes do not own the states"),
    kept("engine_scan_write_counter", "last_channel", "no last channel", "writes do not end"),
    kept("engine_front_array", "next_set", "row set stays", "every token has the first's biases"),
    kept("engine_x_array", "read_base", "ring's reader stays", "in_proj reads one slot only"),
    kept("engine_z_array", "read_base", "ring's reader of z stays", "z reads one slot only"),
    kept("engine_load_burst_ring", "position", "burst repeats", "one element is sent D times"),
    Fault(
        name="head's bias off",
        unit="engine_head_head",
        kind="the sum with the bias is larger than it is",
        pattern=r"(?m:^)    total <= (?P<site>[^;]+);",
        faulty="{site} + 16'h4000",
    ),
)
"""Every fault is of one expression; see :class:`sim.mutation.schemata.Fault`."""
