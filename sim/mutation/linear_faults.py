"""Faults of everything that multiplies matrices and vectors: embedding, norm, array, rounding."""

from __future__ import annotations

from sim.mutation.schemata import Fault

NET = r"\\?[\w$]+ *"
"""An identifier, plain or escaped."""

ANONYMOUS = r"\\\$\d+ "
"""A net that has no name in the source."""

_ARRAY = "engine_projection_array"
_CONTROLLER = "engine_projection_controller"
_REQUANTIZER = "engine_projection_requantizer"
_ROOT = "engine_norm_reciprocal_root"

ARRAY_FAULTS = (
    Fault(
        name="weight sign dropped",
        unit=_ARRAY,
        kind="lane 0 reads its weight as unsigned",
        pattern=r"\* (?P<site>\$signed\((?P<weight>product_0_part_1)\));",
        faulty="$signed({{ 1'h0, {weight} }})",
    ),
    Fault(
        name="product subtracted",
        unit=_ARRAY,
        kind="lane 5 subtracts its products",
        pattern=rf"(?P<site>(?P<sum>\$signed\({ANONYMOUS}\)) \+ \$signed\(product_5\))",
        faulty="{sum} - $signed(product_5)",
    ),
    Fault(
        name="accumulator not cleared",
        unit=_ARRAY,
        kind="lane 3 does not start its sum at zero",
        pattern=r"(?P<site>multiplied_1\[1\]) \? \d+'h0+ : accumulator_3;",
        faulty="1'h0",
    ),
    Fault(
        name="sum taken too early",
        unit=_ARRAY,
        kind="the sums leave one product before the last",
        pattern=rf"{ANONYMOUS} = (?P<site>multiplied_1\[2\]);",
        faulty="multiplied_0[2]",
    ),
    Fault(
        name="drain stuck",
        unit=_ARRAY,
        kind="lane 6's sum does not move on to lane 5",
        pattern=r"complete \? accumulator_5 : (?P<site>shadow_6);",
        faulty="shadow_5",
    ),
    Fault(
        name="weight address doubled",
        unit=_CONTROLLER,
        kind="the weight address counts up by two",
        pattern=r"weight_address \+ (?P<site>1'h1);",
        faulty="2'h2",
    ),
    Fault(
        name="row address stuck",
        unit=_CONTROLLER,
        kind="the address of the row's shift does not count",
        pattern=r"row_address \+ (?P<site>1'h1);",
        faulty="1'h0",
        places=2,
    ),
    Fault(
        name="last row dropped",
        unit=_CONTROLLER,
        kind="a group that is not full ends one row early",
        pattern=rf"= (?P<site>row) == {NET};",
        faulty="row + 1'h1",
    ),
    Fault(
        name="last column early",
        unit=_CONTROLLER,
        kind="a row's last element is taken as the one before it",
        pattern=r"= (?P<site>position) == own_last_column;",
        faulty="position + 1'h1",
    ),
    Fault(
        name="weights of the last instruction",
        unit=_CONTROLLER,
        kind="the weight address goes on from the instruction before",
        pattern=rf"\(started\) begin\s+{ANONYMOUS} = (?P<site>own_weight_base);",
        faulty="weight_address",
    ),
    Fault(
        name="last group dropped",
        unit=_CONTROLLER,
        kind="an instruction ends one group of rows early",
        pattern=rf"= (?P<site>{NET})== own_last_group;",
        faulty="{site} + 1'h1",
    ),
    Fault(
        name="bank ignored",
        unit="engine_projection",
        kind="the head reads the weights of the layers",
        pattern=rf"= (?P<site>{ANONYMOUS}) \? \\data\$\d+ ",
        faulty="1'h0",
    ),
    Fault(
        name="source ignored",
        unit="engine_projection",
        kind="x_proj reads the gated vector in place of u",
        pattern=r"= (?P<site>source_2 == 1'h1);",
        faulty="1'h0",
    ),
    Fault(
        name="row index early",
        unit="engine_projection",
        kind="the row's index arrives a cycle before its value",
        pattern=r"row <= (?P<site>row_4);",
        faulty="row_3",
    ),
    Fault(
        name="narrow saturation dropped",
        unit="engine_projection",
        kind="x, dt, B and C wrap around in place of saturating",
        pattern=rf"= (?P<site>{ANONYMOUS}) \? o\[7:0\] :",
        faulty="1'h1",
    ),
    Fault(
        name="destination swapped",
        unit="engine_projection",
        kind="rows of z are announced as rows of x_proj",
        pattern=r"destination_4 == (?P<site>2'h2);",
        faulty="2'h1",
    ),
)

ROUNDING_FAULTS = (
    Fault(
        name="floor for ties-to-even",
        unit=_REQUANTIZER,
        kind="the array's requantizer never rounds up",
        pattern=r"guard <= (?P<site>shifted_by_1\[0\]);",
        faulty="1'h0",
    ),
    Fault(
        name="sticky dropped",
        unit=_REQUANTIZER,
        kind="everything above a half rounds as a tie",
        pattern=rf"sticky <= (?P<site>{ANONYMOUS});",
        faulty="1'h0",
    ),
    Fault(
        name="half up for half to even",
        unit="engine_convolution_requantizer_requantizer",
        kind="ties round up in the convolution's requantizer",
        pattern=r"sticky \| (?P<site>floor\[0\]);",
        faulty="1'h1",
        places=3,
    ),
    Fault(
        name="shift one more",
        unit="engine_projection",
        kind="rows drop one bit more than stored",
        pattern=rf"_requantizer  requantizer \([^;]*\.shift\((?P<site>{NET})\)",
        faulty="{site} + 1'h1",
    ),
    Fault(
        name="shift stage skipped",
        unit="engine_norm_narrow_requantizer",
        kind="the shift by eight is left out",
        pattern=r"assign shifted_by_8 = (?P<site>shift\[3\]) \?",
        faulty="1'h0",
    ),
    Fault(
        name="high saturation dropped",
        unit="engine_convolution_requantizer_requantizer",
        kind="values above the largest convolution wrap around",
        pattern=r"= (?P<site>exceeds_high \| at_high);",
        faulty="at_high",
    ),
    Fault(
        name="low saturation dropped",
        unit="engine_scan_readout_gated_requantizer",
        kind="values below the smallest gated one wrap around",
        pattern=r"else if \((?P<site>below_low)\)",
        faulty="1'h0",
    ),
)

EMBEDDING_FAULTS = (
    Fault(
        name="embedding address off by one",
        unit="engine_embedding",
        kind="a row is read from its second element on",
        pattern=r"= (?P<site>base);",
        faulty="base + 1'h1",
    ),
    Fault(
        name="embedding shift dropped",
        unit="engine_embedding",
        kind="a token's row is not brought to the residual's scale",
        pattern=rf"\$signed\(data\) << (?P<site>{NET});",
        faulty="1'h0",
    ),
)

NORM_FAULTS = (
    Fault(
        name="epsilon dropped",
        unit="engine_norm",
        kind="the sum of squares starts at zero",
        pattern=r"\n      \\\$\d+  = (?P<site>(?P<bits>\d+)'h0*[1-9a-f][0-9a-f]{2,});",
        faulty="{bits}'h0",
        places=2,
    ),
    Fault(
        name="residual saturation dropped",
        unit="engine_norm",
        kind="the residual wraps around",
        pattern=rf"= (?P<site>{ANONYMOUS}) \? {ANONYMOUS} : total\[17:0\];",
        faulty="1'h0",
    ),
    Fault(
        name="residual not replaced",
        unit="engine_norm",
        kind="the embedding is added to the last token's residual",
        pattern=r"= (?P<site>loaded) \? \d+'h0+ : stored;",
        faulty="1'h0",
    ),
    Fault(
        name="norm weight address off by one",
        unit="engine_norm",
        kind="the address of the norm's weight counts up by two",
        pattern=r"= address \+ (?P<site>1'h1);",
        faulty="2'h2",
    ),
    Fault(
        name="root's exponent off by one",
        unit=_ROOT,
        kind="half an exponent is lost: the norm is scaled by two",
        pattern=r"= (?P<site>\d+'h[0-9a-f]+) - lift_\d+;",
        faulty="{site} + 1'h1",
    ),
    Fault(
        name="root's segment off by one",
        unit=_ROOT,
        kind="the root reads its table's next segment",
        pattern=rf"_table  \\table  \([^;]*\((?P<site>{ANONYMOUS}\[16:9\])\)",
        faulty="{site} + 1'h1",
    ),
    Fault(
        name="root's octave ignored",
        unit=_ROOT,
        kind="mantissas of [2, 4) are looked up as those of [1, 2)",
        pattern=r"_table  \\table  \([^;]*\((?P<site>mantissa\[17\])\)",
        faulty="1'h0",
    ),
    Fault(
        name="root's slope added",
        unit=_ROOT,
        kind="the line rises in place of falling",
        pattern=rf"= (?P<site>(?P<base>{ANONYMOUS}) - product);",
        faulty="{base} + product",
    ),
)

LINEAR_FAULTS = (*ARRAY_FAULTS, *ROUNDING_FAULTS, *EMBEDDING_FAULTS, *NORM_FAULTS)
