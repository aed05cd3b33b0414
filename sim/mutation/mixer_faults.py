"""Faults of convolution, activation, dual scale and the scan."""

from __future__ import annotations

from sim.mutation.linear_faults import ANONYMOUS, NET
from sim.mutation.schemata import Fault

_CONVOLUTION = "engine_convolution"
_ACTIVATION = "engine_activation"
_SILU = "engine_activation_silu"
_ENCODER = "engine_activation_encoder"
_STEP = "engine_scan_step_size"
_LANE = "engine_scan_lane_0"
_READOUT = "engine_scan_readout"

CONVOLUTION_FAULTS = (
    Fault(
        name="taps swapped",
        unit=_CONVOLUTION,
        kind="the oldest tap multiplies the second oldest input",
        pattern=r"product_0_part_1 <= (?P<site>window\[7:0\]);",
        faulty="window[15:8]",
    ),
    Fault(
        name="window not shifted",
        unit=_CONVOLUTION,
        kind="the newest input overwrites the one before it",
        pattern=r"next_window <= \{ x_4, (?P<site>window\[23:8\]) \}",
        faulty="window[15:0]",
    ),
    Fault(
        name="fresh window kept",
        unit=_CONVOLUTION,
        kind="a sequence starts with the last one's window",
        pattern=r"= (?P<site>forget_4) \?",
        faulty="1'h0",
    ),
    Fault(
        name="layer's window ignored",
        unit=_CONVOLUTION,
        kind="all layers share windows and taps of the first",
        pattern=r"= (?P<site>base) \+ address_index_1;",
        faulty="1'h0",
    ),
    Fault(
        name="convolution bias dropped",
        unit=_CONVOLUTION,
        kind="the bias is not added",
        pattern=r"bias_1 <= (?P<site>data\[\d+:32\]);",
        faulty="1'h0",
    ),
)

ACTIVATION_FAULTS = (
    Fault(
        name="SiLU's correction added",
        unit=_SILU,
        kind="SiLU adds what it should subtract",
        pattern=r"= (?P<site>(?P<raised>\$signed\(\{ 1'h0, rectified_6, 11'h000 \}\)) "
        r"- \$signed\(correction\));",
        faulty="{raised} + $signed(correction)",
    ),
    Fault(
        name="SiLU's cut dropped",
        unit=_SILU,
        kind="the table repeats beyond 16",
        pattern=r"= (?P<site>inside_4) \?",
        faulty="1'h1",
    ),
    Fault(
        name="SiLU's interpolation dropped",
        unit=_SILU,
        kind="the offset in the segment is read as zero",
        pattern=r"product_part_1 <= (?P<site>offset_2);",
        faulty="7'h00",
    ),
    Fault(
        name="softplus' correction subtracted",
        unit=f"{_STEP}_softplus",
        kind="softplus subtracts what it should add",
        pattern=r"= (?P<site>(?P<raised>\$signed\(\{ 1'h0, rectified_6, 11'h000 \}\)) "
        r"\+ \$signed\(correction\));",
        faulty="{raised} - $signed(correction)",
    ),
    Fault(
        name="softplus not rectified",
        unit=f"{_STEP}_softplus",
        kind="negative arguments are not replaced by zero",
        pattern=rf"= (?P<site>{ANONYMOUS}) \? \d+'h0+ : i;",
        faulty="1'h0",
    ),
    Fault(
        name="u shifted as the gate",
        unit=_ACTIVATION,
        kind="u takes the gate's shift",
        pattern=rf"{ANONYMOUS} = (?P<site>soon_u_6) \?",
        faulty="1'h0",
    ),
    Fault(
        name="u's saturation dropped",
        unit=_ACTIVATION,
        kind="u wraps around",
        pattern=rf"= (?P<site>{ANONYMOUS}) \? {NET}\[7:0\] :",
        faulty="1'h1",
    ),
)

DUAL_SCALE_FAULTS = (
    Fault(
        name="flag's threshold off by one",
        unit=_ENCODER,
        kind="a fine code of 7 is stored as a coarse one",
        pattern=r"> (?P<site>\$signed\(4'h7\));",
        faulty="$signed(4'h6)",
        places=2,
    ),
    Fault(
        name="clamp dropped",
        unit=_ENCODER,
        kind="the code -8 is used",
        pattern=rf"= (?P<site>{ANONYMOUS}) \? 4'h9 :",
        faulty="1'h0",
    ),
    Fault(
        name="ratio halved",
        unit=_ENCODER,
        kind="coarse steps are two fine ones",
        pattern=r"= shift \+ (?P<site>2'h2);",
        faulty="2'h1",
    ),
    Fault(
        name="coarse saturation dropped",
        unit=f"{_ENCODER}_coarse_requantizer",
        kind="coarse codes above 7 wrap around",
        pattern=r"= (?P<site>exceeds_high \| at_high);",
        faulty="at_high",
    ),
    Fault(
        name="MUX shift dropped",
        unit="engine_scan_input_drive_decoder",
        kind="coarse codes are read in fine steps",
        pattern=r"= (?P<site>i\[4\]) \?",
        faulty="1'h0",
    ),
)

SCAN_FAULTS = (
    Fault(
        name="dt_proj not cleared",
        unit=_STEP,
        kind="a channel's sum starts with the last channel's, not with its bias",
        pattern=r"= (?P<site>first_2) \?",
        faulty="1'h0",
    ),
    Fault(
        name="dt_proj weight sign dropped",
        unit=_STEP,
        kind="the first weight is read as unsigned",
        pattern=r"= (?P<site>(?P<dt>\$signed\(product_0_part_0\)) \* "
        r"\$signed\((?P<weight>product_0_part_1)\));",
        faulty="{dt} * $signed({{ 1'h0, {weight} }})",
    ),
    Fault(
        name="argument shift off by one",
        unit=_LANE,
        kind="the exponent's argument is halved",
        pattern=rf"_argument\w*  \S*argument\S*  ?\([^;]*\.shift\((?P<site>{NET})\)",
        faulty="{site} + 1'h1",
    ),
    Fault(
        name="decay segment off by one",
        unit=f"{_LANE}_decay",
        kind="base and slope of the next segment",
        pattern=r"casez \((?P<site>i\[11:7\])\)",
        faulty="i[11:7] + 1'h1",
        places=2,
    ),
    Fault(
        name="decay's integer part off by one",
        unit=f"{_LANE}_decay",
        kind="the decay is doubled",
        pattern=r"= whole_4 \+ (?P<site>2'h2);",
        faulty="2'h1",
    ),
    Fault(
        name="decay's slope added",
        unit=f"{_LANE}_decay",
        kind="the line rises in place of falling",
        pattern=r"= (?P<site>(?P<base>\{ product_base_2, 8'h00 \}) - product);",
        faulty="{base} + product",
    ),
    Fault(
        name="decay's sticky dropped",
        unit=f"{_LANE}_decay",
        kind="bits below the guard bit do not count in rounding",
        pattern=rf"\{{ mantissa\[24:11\], (?P<site>{ANONYMOUS}) \}}",
        faulty="1'h0",
    ),
    Fault(
        name="update shift off by one",
        unit=_LANE,
        kind="the update is halved",
        pattern=rf"_update\w*  \S*update\S*  ?\([^;]*\.shift\((?P<site>{NET})\)",
        faulty="{site} + 1'h1",
    ),
    Fault(
        name="update subtracted",
        unit=_LANE,
        kind="the state loses what it should gain",
        pattern=rf"= (?P<site>\$signed\(decayed\) \+ (?P<update>\$signed\({NET}\)));",
        faulty="$signed(decayed) - {update}",
    ),
    Fault(
        name="state's high saturation dropped",
        unit=f"{_LANE}_state",
        kind="a state above the largest wraps around",
        pattern=r"= (?P<site>exceeds_high \| at_high);",
        faulty="at_high",
    ),
    Fault(
        name="state's low saturation dropped",
        unit=f"{_LANE}_state",
        kind="a state below the smallest wraps around",
        pattern=r"else if \((?P<site>below_low)\)",
        faulty="1'h0",
    ),
    Fault(
        name="C and B swapped",
        unit="engine_scan",
        kind="lane 0 reads its state out with B",
        pattern=rf"_lane_0  lane_0 \(\s*\.b\((?P<b>{NET}\[7:0\])\),\s*"
        rf"\.c\((?P<site>{NET}\[7:0\])\)",
        faulty="{b}",
    ),
    Fault(
        name="step size a cycle early",
        unit="engine_scan",
        kind="the input is multiplied with the next channel's step size at times",
        pattern=r"\.delta\((?P<site>late_delta_\d+)\)",
        faulty="held_delta",
    ),
    Fault(
        name="rows of B swapped",
        unit="engine_scan_operands",
        kind="the lanes take each other's element of B",
        pattern=r"= (?P<site>\{ row_4, row_3 \});",
        faulty="{{ row_3, row_4 }}",
    ),
    Fault(
        name="fresh state kept",
        unit="engine_scan_state",
        kind="a sequence starts with the last one's state",
        pattern=r"= (?P<site>fresh_1) \?",
        faulty="1'h0",
    ),
    Fault(
        name="state address off by one",
        unit="engine_scan_state",
        kind="a state is written to the next one's place",
        pattern=r"= busy \? (?P<site>write_address) : access_address;",
        faulty="write_address + 1'h1",
    ),
    Fault(
        name="layer's state ignored",
        unit="engine_scan_write_counter",
        kind="the second layer writes the first layer's states",
        pattern=r"1'h1:\s+\\\$\d+  = (?P<site>7'h40);",
        faulty="7'h00",
    ),
    Fault(
        name="read-out not cleared",
        unit=_READOUT,
        kind="a channel's sum starts with the last channel's",
        pattern=r"= (?P<site>first_3) \?",
        faulty="1'h0",
    ),
    Fault(
        name="skip dropped",
        unit=_READOUT,
        kind="D u is not added",
        pattern=r"first_3 \? (?P<site>\{ skipped[^}]*\}|skipped) :",
        faulty="1'h0",
    ),
    Fault(
        name="gate shift off by one",
        unit=_READOUT,
        kind="the gated value is halved",
        pattern=rf"_gated  gated \([^;]*\.shift\((?P<site>{NET})\)",
        faulty="{site} + 1'h1",
    ),
    Fault(
        name="gate address off by one",
        unit="engine_scan_readout_gates",
        kind="the gate's channel counts up by two",
        pattern=r"= position \+ (?P<site>1'h1);",
        faulty="2'h2",
    ),
)

MIXER_FAULTS = (*CONVOLUTION_FAULTS, *ACTIVATION_FAULTS, *DUAL_SCALE_FAULTS, *SCAN_FAULTS)
