"""Faults of what only some programs have: groups of weights, zero points, widths of blocks."""

from __future__ import annotations

from sim.mutation.control_faults import ImageFault
from sim.mutation.linear_faults import ANONYMOUS
from sim.mutation.schemata import Fault

_SCALES = "engine_projection_scales"
_ACTIVATION = "engine_activation"

_GROUP_FAULTS = (
    Fault(
        name="end of a group missed",
        unit=_SCALES,
        kind="all columns of a row have the scale of the first group",
        pattern=r"= (?P<site>& column\[1:0\]);",
        faulty="1'h0",
    ),
    Fault(
        name="scales of the rows before",
        unit=_SCALES,
        kind="after a group that is not full the next rows begin with its scale",
        pattern=rf"= (?P<site>last) \| {ANONYMOUS};",
        faulty="1'h0",
    ),
    Fault(
        name="scales of the last instruction",
        unit=_SCALES,
        kind="the address of the scales goes on from the instruction before",
        pattern=rf"\(started_1\) begin\s+{ANONYMOUS} = (?P<site>base(?:\[\d+:0\])?);",
        faulty="address",
    ),
    Fault(
        name="scale dropped",
        unit=_SCALES,
        kind="lane 3 reads its weight as it is stored",
        pattern=r"scaled_3 = (?P<site>(?P<weight>\$signed\(weights\[15:12\]\)) << data\[7:6\]);",
        faulty="{weight}",
    ),
    Fault(
        name="scale of the next lane",
        unit=_SCALES,
        kind="lane 5 shifts by lane 6's scale",
        pattern=r"<< (?P<site>data\[11:10\]);",
        faulty="data[13:12]",
    ),
)

_ZERO_POINT_FAULTS = (
    Fault(
        name="zero point ignored",
        unit=_ACTIVATION,
        kind="the least value of u is zero",
        pattern=r"= (?P<site>- zero_2);",
        faulty="9'h000",
    ),
    Fault(
        name="least value ignored",
        unit=_ACTIVATION,
        kind="u falls below its code of zero",
        pattern=r"= (?P<site>\$signed\(\\o\$\d+ \) < \$signed\(u_low\));",
        faulty="1'h0",
    ),
    Fault(
        name="largest value ignored",
        unit=_ACTIVATION,
        kind="u exceeds its largest code",
        pattern=r"= (?P<site>\$signed\(\\o\$\d+ \) > \$signed\(u_high\));",
        faulty="1'h0",
    ),
    Fault(
        name="codes of the widest block",
        unit=_ACTIVATION,
        kind="u's codes reach as far in a narrow block as in the widest",
        pattern=rf"span_1 <= (?P<site>{ANONYMOUS});",
        faulty="8'hff",
    ),
)

_WIDTH_FAULTS = (
    Fault(
        name="width of out_proj's input ignored",
        unit="engine_widths",
        kind="a narrow block's out_proj reads the scheme's width",
        pattern=rf"o = (?P<site>{ANONYMOUS}) \? i :",
        faulty="1'h1",
    ),
    Fault(
        name="width of a norm ignored",
        unit="engine_norm",
        kind="a narrow block's in_proj reads the scheme's width",
        pattern=r"norm_value = (?P<site>width_2) \?",
        faulty="1'h1",
    ),
)

FORMAT_FAULTS = (*_GROUP_FAULTS, *_ZERO_POINT_FAULTS, *_WIDTH_FAULTS)

FORMAT_IMAGE_FAULTS = (ImageFault("weight_scales", 1, 4, "the scale of a group of columns"),)
