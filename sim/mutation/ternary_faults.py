"""Faults of what the strained ternary network alone has.

Lanes without multipliers, deep memories, a scan input of its own width and the cut product that it
needs, norms of two widths.
"""

from __future__ import annotations

from sim.mutation.control_faults import ImageFault
from sim.mutation.linear_faults import ANONYMOUS
from sim.mutation.schemata import Fault

_ARRAY = "engine_projection_array"
_PROJECTION = "engine_projection"
_DEEP = "engine_projection_weights_memory"
_LANE = "engine_scan_lane_0"
_ENCODER = "engine_activation_encoder_requantizer"

_LANE_FAULTS = (
    Fault(
        name="trit's sign not carried",
        unit=_ARRAY,
        kind="lane 0 inverts without adding one",
        pattern=r"product_0_carry <= (?P<site>weights\[1\]);",
        faulty="1'h0",
    ),
    Fault(
        name="zero not skipped",
        unit=_ARRAY,
        kind="lane 1 adds its element although the weight is zero",
        pattern=rf"= (?P<site>weights\[2\]) \? {ANONYMOUS}",
        faulty="1'h1",
    ),
    Fault(
        name="minus one is plus one",
        unit=_ARRAY,
        kind="lane 2 does not invert",
        pattern=r"\^ (?P<site>\{ 1'h0(?:, weights\[5\])+ \});",
        faulty="17'h00000",
    ),
    Fault(
        name="carry not raised",
        unit=_ARRAY,
        kind="the carry of lane 3 does not reach its sum",
        pattern=r"\$signed\(\{ \\\$\d+ , (?P<site>1'h1) \}\) \+ "
        r"\$signed\(\{ product_3, product_3_carry \}\)",
        faulty="1'h0",
    ),
    Fault(
        name="all digits are lowest",
        unit=_PROJECTION,
        kind="every digit of the head counts one",
        pattern=r"= (?P<site>first_digit_2) \?",
        faulty="1'h1",
        places=2,
    ),
    Fault(
        name="digits of base two",
        unit=_PROJECTION,
        kind="a digit counts twice the one before it, not three times",
        pattern=rf"= (?P<site>\$signed\(scaled\)) \+ \$signed\({ANONYMOUS}\);",
        faulty="1'sh0",
        places=2,
    ),
    Fault(
        name="second digit is lowest",
        unit=f"{_PROJECTION}_controller",
        kind="the second digit of an element counts one",
        pattern=r"assign first_digit = (?P<site>! digit);",
        faulty="digit < 3'h2",
    ),
)

_DEEP_FAULTS = (
    Fault(
        name="third bank is the first",
        unit=_DEEP,
        kind="the upper bit of the choice among four banks is lost",
        pattern=r"casez \((?P<site>weights_0_low_2)\)",
        faulty="weights_0_low_2 & 2'h1",
    ),
    Fault(
        name="bank early",
        unit=_DEEP,
        kind="a bank's first word comes with the choice of the one before",
        pattern=r"weights_0_low_2 <= (?P<site>weights_0_low_1);",
        faulty="address[12:11]",
    ),
    Fault(
        name="last bank not chosen",
        unit=_DEEP,
        kind="words behind the first four banks are read from these",
        pattern=r"casez \((?P<site>weights_0_index_3)\)",
        faulty="1'h0",
    ),
    Fault(
        name="group of banks early",
        unit=_DEEP,
        kind="the choice between groups of banks does not wait for their registers",
        pattern=rf"{ANONYMOUS} = (?P<site>weights_0_index_2);",
        faulty="weights_0_index_1",
    ),
)

_WIDTH_FAULTS = (
    Fault(
        name="blocks' norm as wide as the head's",
        unit="engine_norm",
        kind="a block reads 8 bits in place of 4",
        pattern=r"norm_value = (?P<site>width_2) \?",
        faulty="1'h1",
    ),
    Fault(
        name="head's norm as narrow as the blocks'",
        unit="engine_norm",
        kind="the head reads 4 bits in place of 8",
        pattern=rf"{ANONYMOUS} = (?P<site>width_1);",
        faulty="1'h0",
    ),
    Fault(
        name="blocks' norm wraps",
        unit="engine_norm",
        kind="the norm of a block is cut to 4 bits in place of saturated",
        pattern=rf"= (?P<site>{ANONYMOUS}) \? o\[3:0\] :",
        faulty="1'h1",
    ),
    Fault(
        name="scan input shifted as u",
        unit="engine_activation",
        kind="the scan's own input drops as many bits as what x_proj reads",
        pattern=r"<= (?P<site>channel_shift_2\[9:5\]);",
        faulty="channel_shift_2[4:0]",
    ),
    Fault(
        name="scan input wraps",
        unit=_ENCODER,
        kind="scan inputs above the largest wrap around",
        pattern=r"= (?P<site>exceeds_high \| at_high);",
        faulty="at_high",
    ),
    Fault(
        name="scan input's sticky dropped",
        unit=_ENCODER,
        kind="scan inputs above a half are rounded as a tie",
        pattern=rf"sticky <= (?P<site>{ANONYMOUS});",
        faulty="1'h0",
    ),
    Fault(
        name="cut product's upper part dropped",
        unit=_LANE,
        kind="the bits of the drive beyond the hardware multiplier's do not count",
        pattern=r"update_upper <= (?P<site>drive\[19:17\]);",
        faulty="3'h0",
    ),
    Fault(
        name="cut product's lower part signed",
        unit=_LANE,
        kind="the lower part's top bit counts negative",
        pattern=r"update_half_0_part_0 <= \{ (?P<site>1'h0), drive\[16:0\] \};",
        faulty="drive[16]",
    ),
    Fault(
        name="cut product's sign dropped",
        unit=_LANE,
        kind="the upper part's top bit counts positive",
        pattern=r"= (?P<site>- (?P<top>\$signed\(\\\$\d+ \)));",
        faulty="{top}",
    ),
)

TERNARY_FAULTS = (*_LANE_FAULTS, *_DEEP_FAULTS, *_WIDTH_FAULTS)

TERNARY_IMAGE_FAULTS = (ImageFault("weights_4", 100, 0, "a digit of the head in the last bank"),)
