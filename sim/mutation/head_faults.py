"""Faults of Mamba-2's own units: step sizes and decays a head, B and C a group, gated norm."""

from __future__ import annotations

from sim.mutation.control_faults import ImageFault
from sim.mutation.linear_faults import ANONYMOUS
from sim.mutation.schemata import Fault

_STEPS = "engine_scan_steps"
_OPERANDS = "engine_scan_operands"
_NORM = "engine_gated_norm"

_STEP_FAULTS = (
    Fault(
        name="head's bias dropped",
        unit=_STEPS,
        kind="a head's bias is not added to its dt",
        pattern=r"total = \$signed\(dt_\d+\) \+ (?P<site>\$signed\(data\[\d+:0\]\));",
        faulty="$signed(1'h0)",
    ),
    Fault(
        name="head's dt wraps",
        unit=_STEPS,
        kind="dt and its bias wrap around in place of saturating",
        pattern=rf"= (?P<site>{ANONYMOUS}) \? total\[17:0\] :",
        faulty="1'h1",
    ),
    Fault(
        name="low limit ignored",
        unit=_STEPS,
        kind="a step size falls below its limit",
        pattern=rf"= (?P<site>{ANONYMOUS} > o);",
        faulty="1'h0",
    ),
    Fault(
        name="high limit ignored",
        unit=_STEPS,
        kind="a step size exceeds its limit",
        pattern=rf"= (?P<site>{ANONYMOUS} < o);",
        faulty="1'h0",
    ),
    Fault(
        name="rate of a later head",
        unit=_STEPS,
        kind="a step size is multiplied with the rate of a head behind it",
        pattern=r"argument_product_part_1 <= (?P<site>rate_\d+);",
        faulty="rate_1",
    ),
    Fault(
        name="step size of a later head",
        unit=_STEPS,
        kind="a decay is kept with the step size of the next head",
        pattern=r"late_delta_2 <= (?P<site>late_delta_1);",
        faulty="clamped_delta",
    ),
    Fault(
        name="head's layer ignored",
        unit=_STEPS,
        kind="all layers have the heads' constants of the first",
        pattern=r"= (?P<site>base) \+ address_index_1;",
        faulty="1'h0",
    ),
)

_OPERAND_FAULTS = (
    Fault(
        name="heads too short",
        unit="engine_scan_head_counter",
        kind="a head ends a channel early",
        pattern=r"inside  == (?P<site>2'h3);",
        faulty="2'h2",
        places=2,
    ),
    Fault(
        name="first group's B",
        unit="engine_scan_b_group_counter",
        kind="all channels read the first group's B",
        pattern=rf"= part \+ (?P<site>{ANONYMOUS});",
        faulty="1'h0",
    ),
    Fault(
        name="first group's C",
        unit="engine_scan_c_group_counter",
        kind="all channels read the first group's C",
        pattern=rf"= part \+ (?P<site>{ANONYMOUS});",
        faulty="1'h0",
    ),
    Fault(
        name="B's second lane not written",
        unit=_OPERANDS,
        kind="every element of B is written to the first lane",
        pattern=rf"assign write__en = {ANONYMOUS} << (?P<site>lane);",
        faulty="1'h0",
    ),
    Fault(
        name="C's step stuck",
        unit=_OPERANDS,
        kind="all steps of a channel read the same C",
        pattern=rf"= {ANONYMOUS} \+ (?P<site>c_step);",
        faulty="1'h0",
    ),
    Fault(
        name="decay early",
        unit="engine_scan",
        kind="the first step of a head takes the decay of the head before it",
        pattern=r"lane_decay_3 <= (?P<site>lane_decay_2);",
        faulty="lane_decay_1",
    ),
    Fault(
        name="B stored as scan input",
        unit="engine_activation",
        kind="the convolution's other channels overwrite the scan's inputs",
        pattern=r"= index_\d+ < (?P<site>6'h20);",
        faulty="6'h3f",
    ),
)

_NORM_FAULTS = (
    Fault(
        name="group's sum not begun anew",
        unit=_NORM,
        kind="a group's sum of squares goes on from that of the one before",
        pattern=r"= (?P<site>opening_2) \? \{",
        faulty="1'h0",
    ),
    Fault(
        name="gated value unsigned",
        unit=_NORM,
        kind="a negative gated value is normalised as a large one",
        pattern=r"= (?P<site>\$signed\(stored\)) \*",
        faulty="$signed({{ 1'h0, stored }})",
    ),
    Fault(
        name="first layer's gated norm",
        unit=_NORM,
        kind="all layers have the gated norm's weights of the first",
        pattern=rf"= (?P<site>{ANONYMOUS}) \+ channel;",
        faulty="1'h0",
    ),
    Fault(
        name="gated norm's index early",
        unit=_NORM,
        kind="a block's last element is announced as the first of the next",
        pattern=r"= normed_index == (?P<site>5'h1f);",
        faulty="5'h1e",
    ),
)

HEAD_FAULTS = (*_STEP_FAULTS, *_OPERAND_FAULTS, *_NORM_FAULTS)

HEAD_IMAGE_FAULTS = (
    ImageFault("gate_norm_weight", 20, 9, "a weight of the gated norm is wrong"),
    ImageFault("scan_head_constants", 3, 20, "a bit of a head's decay rate"),
)
