"""Synthesis, place and route, and what the report says of them, on a design of a few cells."""

import gzip
import json
from dataclasses import asdict
from itertools import pairwise

import pytest

from golden.builtin import load_builtin
from golden.command import run
from golden.errors import InputError
from golden.presets import find_preset
from golden.scheme import find_scheme
from hw.design_files import IMAGE_FOLDER, write_sources
from hw.engine import Engine
from hw.lanes import default_lanes
from hw.latencies import latencies
from hw.mac_array import MacArray
from hw.multiplier import Arithmetic, Multipliers
from hw.parameter_memory import MemoryPlan
from hw.primitives import Primitives
from hw.report import flow, pictures, pins
from hw.report.__main__ import application
from hw.report.components import at_depth, by_instance, component_of, totals, ultrascale_families
from hw.report.contents import contents, lowest_median
from hw.report.design import build
from hw.report.gantt import frame_chart, token_chart
from hw.report.liberty import cell_areas, gates, nand2_area
from hw.report.pictures import write_pictures
from hw.report.step import kept
from hw.report.targets import LIBERTY, parse_target
from hw.report.timing import PathStep, critical_path, plain_name, share, signals
from hw.schedule import build_schedule
from hw.streaming.choice import choose_streaming

TOP = """\
module tiny(clk, rst, step, value);
  input clk;
  wire clk;
  input rst;
  wire rst;
  input [7:0] step;
  wire [7:0] step;
  output [7:0] value;
  wire [7:0] value;
  tiny_count count (.clk(clk), .rst(rst), .step(step), .value(value));
endmodule
"""
COUNT = """\
module tiny_count(clk, rst, step, value);
  input clk, rst;
  input [7:0] step;
  output [7:0] value;
  reg [7:0] held, last;
  always @(posedge clk) begin
    held <= rst ? 8'd0 : held + step;
    last <= held;
  end
  assign value = held ^ last;
endmodule
"""
_TABLE = (
    '(template) { index_1 ("0.01, 1"); index_2 ("0.001, 1"); values ("0.1, 0.2", "0.2, 0.3"); }'
)


def _gate(name, area, inputs, function):
    arcs = "".join(
        f'timing () {{ related_pin : "{pin}"; timing_sense : non_unate;'
        + "".join(
            f"{kind} {_TABLE}"
            for kind in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
        )
        + "}"
        for pin in inputs
    )
    pins = "".join(
        f"pin ({pin}) {{ direction : input; capacitance : 0.001; max_transition : 2.0; }}"
        for pin in inputs
    )
    output = (
        f'pin (Y) {{ direction : output; max_capacitance : 1.0; function : "{function}"; {arcs} }}'
    )
    return f"cell ({name}) {{ area : {area}; {pins} {output} }}\n"


LIBRARY = (
    """library (tiny) { delay_model : table_lookup; time_unit : "1ns"; capacitive_load_unit (1, pf);
  lu_table_template (template) { variable_1 : input_net_transition;
    variable_2 : total_output_net_capacitance; index_1 ("0.01, 1"); index_2 ("0.001, 1"); }
"""
    + _gate("NAND2X1", 2.0, "AB", "!(A*B)")
    + _gate("NAND2X2", 3.0, "AB", "!(A*B)")
    # ABC wants a buffer and at least three functions.
    + _gate("NOR2X1", 2.0, "AB", "!(A+B)")
    + _gate("INVX1", 1.0, "A", "!A")
    + _gate("BUFX1", 1.5, "A", "A")
    + """cell (DFFX1) { area : 8.0; ff (IQ, IQN) { clocked_on : "CK"; next_state : "D"; }
    pin (CK) { direction : input; clock : true; } pin (D) { direction : input; }
    pin (Q) { direction : output; function : "IQ"; } } }
"""
)


@pytest.fixture
def tiny(tmp_path):
    folder = tmp_path / "design"
    (folder / "rtl").mkdir(parents=True)
    (folder / "rtl" / "tiny.v").write_text(TOP)
    (folder / "rtl" / "tiny_count.v").write_text(COUNT)
    return folder


def test_a_cell_belongs_to_the_longest_instance_path_in_its_name():
    instances = frozenset({"engine", "engine.scan", "engine.scan.lane_0"})
    assert component_of("engine.scan.lane_0.value_TRELLIS_FF_Q", instances) == "engine.scan.lane_0"
    assert component_of("engine.scan.total.x", instances) == "engine.scan"
    assert component_of("s_axil_rdata_LUT4_Z", instances) == "top"


def test_counts_of_components_add_up_at_every_depth():
    cells = [("a.b.x", "LUT4"), ("a.b.y", "LUT4"), ("a.z", "LUT4"), ("q", "FF")]
    found = by_instance(cells, frozenset({"a", "a.b"}))
    assert found == {"a": {"LUT4": 1}, "a.b": {"LUT4": 2}, "top": {"FF": 1}}
    assert at_depth(found, 1) == {"a": {"LUT4": 3}, "top": {"FF": 1}}
    assert totals(found) == totals(at_depth(found, 1)) == {"FF": 1, "LUT4": 3}


def test_the_ecp5_netlist_names_its_components_and_is_not_made_twice(tiny, tmp_path):
    target, work = parse_target("ecp5"), tmp_path / "work"
    first = flow.synthesize(tiny, "tiny", target, work)
    assert first.cells["TRELLIS_FF"] == 16
    assert first.instances["count"]["TRELLIS_FF"] == 16
    assert not first.wrapped
    assert not first.reused
    again = flow.synthesize(tiny, "tiny", target, work)
    assert again.reused
    assert again.instances == first.instances
    (tiny / "rtl" / "tiny_count.v").write_text(COUNT.replace("8'd0", "8'd1"))
    assert not flow.synthesize(tiny, "tiny", target, work).reused


@pytest.mark.parametrize(
    ("kind", "pipelined"), [*((kind, True) for kind in Multipliers), (Multipliers.DSP, False)]
)
def test_the_registers_of_an_array_of_primitives_are_inside(kind, pipelined, tmp_path):
    found = {}
    for primitives in Primitives:
        array = MacArray(
            lanes=2,
            weight_bits=4,
            input_bits=8,
            accumulator_bits=16,
            arithmetic=Arithmetic(kind, primitives),
            pipelined=pipelined,
        )
        plan = MemoryPlan(IMAGE_FOLDER, primitives=primitives)
        write_sources(tmp_path / primitives, array, "array", plan)
        work = tmp_path / "work" / primitives
        netlist = flow.synthesize(tmp_path / primitives, "array", parse_target("ecp5"), work)
        cells = json.loads(netlist.path.read_text())["modules"]["array"]["cells"].values()
        multipliers = [cell for cell in cells if cell["type"] == "MULT18X18D"]
        found[primitives] = (netlist.cells, multipliers)
    (plain, left), (native, registered) = found.values()
    packed = kind in (Multipliers.DSP, Multipliers.PACKED)
    assert len(left) == len(registered) == packed
    for cell in registered:
        clocks = cell["parameters"]
        assert clocks["REG_OUTPUT_CLK"] == "CLK0"
        factors = {clocks["REG_INPUTA_CLK"], clocks["REG_INPUTB_CLK"]}
        assert factors == {"CLK0" if pipelined else "NONE"}
    # Two products of 12 bits, and two weights of 4 bits with the upper one's borrow, an element.
    inside = 2 * 12 + pipelined * (2 * 4 + 8)
    assert plain["TRELLIS_FF"] - native["TRELLIS_FF"] >= packed * inside
    assert packed or plain == native


def test_place_and_route_repeats_with_the_seed_and_reports_the_path(tiny, tmp_path):
    netlist = flow.synthesize(tiny, "tiny", parse_target("ecp5"), tmp_path / "work")
    packed = flow.pack(netlist)
    first = flow.route(netlist, seed=1, frequency=110.0)
    assert not first.reused
    assert flow.route(netlist, seed=1, frequency=110.0).reused
    assert first.used["TRELLIS_FF"] == 16 == totals(packed)["TRELLIS_FF"]
    assert first.used["TRELLIS_COMB"] == totals(packed)["TRELLIS_COMB"]
    period = sum(step.delay for step in first.path)
    assert 1000 / first.clock == pytest.approx(period, abs=0.01)
    assert any(name.startswith("count.held") for name in signals(first.path))
    design = {"preset": "tiny", "scheme": "none", "cycles_per_token": 10}
    report = contents(design=design, netlist=netlist, packed=packed, routes=[first])
    assert report["tokens_per_second"] == pytest.approx(report["clock_mhz"] * 1e5, rel=1e-4)
    assert report["critical_path"]["steps"] == [asdict(step) for step in first.path]


def test_ultrascale_counts_need_no_place_and_route(tiny, tmp_path):
    netlist = flow.synthesize(tiny, "tiny", parse_target("xilinx"), tmp_path / "work")
    assert netlist.cells["FDRE"] == 16
    assert netlist.instances["count"]["FDRE"] == 16


def test_ultrascale_cells_are_counted_as_papers_do():
    cells = {"LUT2": 3, "LUT6": 4, "INV": 1, "FDRE": 5, "FDSE": 1, "RAMB18E2": 2, "MUXF7": 9}
    cells |= {"RAM32M": 2, "SRL16E": 1, "DSP48E2": 6, "CARRY8": 7, "RAMB36E2": 1}
    expected = {"CARRY8": 7, "DSP48E2": 6, "FF": 6, "LUT": 8, "LUTRAM": 3}
    assert ultrascale_families(cells) == expected | {"RAMB18": 2, "RAMB36": 1}


def test_gates_of_a_packed_library_are_in_its_smallest_nand2(tiny, tmp_path):
    path = tmp_path / "tiny.lib.gz"
    path.write_bytes(gzip.compress(LIBRARY.encode()))
    target = parse_target(f"{LIBERTY}:{path}")
    netlist = flow.synthesize(tiny, "tiny", target, tmp_path / "work")
    measures = netlist.measures
    assert measures["nand2_area"] == 2.0
    areas = cell_areas(LIBRARY)
    assert measures["nand2_equivalents"] == pytest.approx(gates(netlist.cells, areas), abs=0.1)
    assert measures["nand2_equivalents"] > 16 * 8.0 / 2.0
    assert measures["nand2_equivalents_by_instance"]["count"] > 16 * 8.0 / 2.0
    assert measures["delay_ps"] > 0
    assert measures["memories"] == 0


def test_a_library_without_nand2_or_cells_is_refused():
    with pytest.raises(InputError, match="no cell with an area"):
        cell_areas("library (empty) { }")
    with pytest.raises(InputError, match="nand2"):
        nand2_area({"INVX1": 1.0, "sky130_fd_sc_hd__nand2b_1": 2.0})


def test_more_ports_than_pins_stand_behind_a_register_chain(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(pins, "PACKAGE_PINS", 10)
    ports = pins.read_ports(tiny, "tiny")
    assert ports[:2] == [("input", "clk", 1), ("input", "rst", 1)]
    assert ports[2:] == [("input", "step", 8), ("output", "value", 8)]
    assert pins.pins(ports) == 18
    netlist = flow.synthesize(tiny, "tiny", parse_target("ecp5"), tmp_path / "work")
    assert netlist.wrapped
    # The chain of inputs, the captured outputs and their parity.
    assert netlist.cells["TRELLIS_FF"] == 16 + 8 + 8 + 1


def test_a_failing_tool_is_one_line_with_its_log(tiny, tmp_path):
    (tiny / "rtl" / "tiny_count.v").write_text("module tiny_count(; endmodule\n")
    with pytest.raises(InputError, match=r"Yosys failed: .*; its log is .*synthesis\.log"):
        flow.synthesize(tiny, "tiny", parse_target("ecp5"), tmp_path / "work")


@pytest.mark.parametrize("text", ["ice40", "ecp5:x", "liberty", "liberty:", "liberty:/nowhere.lib"])
def test_unknown_targets_and_missing_libraries_are_refused(text):
    with pytest.raises(InputError, match=r"unknown target|no Liberty file"):
        parse_target(text)


@pytest.mark.parametrize(
    ("preset", "persistent", "contexts"), [("micro", False, 2), ("slim-k1", True, 4)]
)
def test_a_design_is_written_with_its_contexts(preset, persistent, contexts, tmp_path):
    program = load_builtin(preset, find_scheme("w8a8"))
    design = build(
        program, preset=preset, folder=tmp_path, persistent=persistent, contexts=contexts
    )
    told = design.describe()
    assert (told["persistent"], told["contexts"]) == (persistent, contexts)
    top = (tmp_path / "rtl" / f"{design.top}.v").read_text()
    stream = "tokens" if program.shape.frame is None else "features"
    width = f"[{bits - 1}:0] " if (bits := (contexts - 1).bit_length()) > 1 else ""
    assert f"input {width}s_axis_{stream}_tid;" in top


@pytest.mark.parametrize(
    "words",
    [
        ["--target", "ice40"],
        ["--seeds", "-1"],
        ["--frequency", "0"],
        ["--mac-lanes", "7"],
        ["--persistent"],
        ["--contexts", "3"],
        ["--preset", "mars", "--contexts", "2"],
    ],
)
def test_the_command_ends_with_2_and_one_line(words, tmp_path, capsys):
    out = str(tmp_path / "out")
    with pytest.raises(SystemExit) as stop:
        run(application, ["--preset", "micro", "--scheme", "w4a8", "--out", out, *words])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_kept_result_is_made_again_when_its_file_or_inputs_are_gone(tmp_path):
    made = []

    def work():
        made.append(1)
        (tmp_path / "extra").write_text("x")
        return {"n": len(made)}

    path, extra = tmp_path / "step.json", tmp_path / "extra"
    assert kept(path, "a", work, extra) == ({"n": 1}, False)
    assert kept(path, "a", work, extra) == ({"n": 1}, True)
    assert kept(path, "b", work, extra) == ({"n": 2}, False)
    extra.unlink()
    assert kept(path, "b", work, extra) == ({"n": 3}, False)


def test_the_slowest_register_path_is_told_in_the_designs_names():
    def step(kind, delay, net=None):
        there = {"cell": "a.b_LUT4_Z"}
        return {"type": kind, "delay": delay, "to": there} | ({"net": net} if net else {})

    slow = [step("clk-to-q", 0.5), step("routing", 1.0, "a.sum_CCU2C_S0"), step("logic", 2.0)]
    report = {
        "critical_paths": [
            {"from": "posedge clk", "to": "posedge clk", "path": slow},
            {"from": "<async>", "to": "posedge clk", "path": [step("routing", 9.0, "pin")]},
        ]
    }
    path = [PathStep(**item) for item in critical_path(report)]
    assert signals(path) == ["a.sum"]
    assert share(path, "logic") == 2.0
    assert critical_path({}) == []
    assert plain_name("engine.scan.carry$CCU2_COMB1") == "engine.scan.carry"


def test_the_median_of_an_even_number_of_seeds_is_one_that_was_routed():
    routes = [
        flow.Routed(seed=seed, clock=clock, target_clock=110.0, used={}, path=[], reused=False)
        for seed, clock in ((1, 9.0), (2, 7.0))
    ]
    assert lowest_median(routes).seed == 2


@pytest.fixture(scope="module")
def micro_schedule():
    program = load_builtin("micro", find_scheme("w4a8"))
    lanes = default_lanes(program.shape)
    engine = Engine(program=program, lanes=lanes, plan=MemoryPlan())
    return engine.schedule, program.shape


def test_the_chart_of_a_token_is_as_busy_as_the_schedule_says(micro_schedule):
    schedule, shape = micro_schedule
    found = token_chart(schedule, shape)
    assert found.useful("array") == pytest.approx(schedule.utilisation(schedule.interval))
    assert set(found.lanes) == {bar.unit for bar in found.bars} == {"array", "scan"}
    assert all(found.start <= bar.start < bar.end for bar in found.bars)
    assert max(bar.end for bar in found.bars) <= found.start + found.cycles


def test_the_chart_of_a_frame_is_as_busy_as_the_plan_says():
    plan = choose_streaming(find_preset("mars"), find_scheme("w8a8"))
    found = frame_chart(plan)
    assert found.cycles == plan.frame_interval
    for unit in (*plan.stages, "scan"):
        assert found.useful(unit) == pytest.approx(plan.utilisation[unit])
        work = sorted((b.start, b.end) for b in found.bars if b.unit == unit)
        # A unit never does two things at once.
        assert all(before[1] <= after[0] for before, after in pairwise(work))


@pytest.mark.parametrize("preset", ["micro-mamba2", "bitbyte", "mars", "slim", "slim-k1"])
def test_every_stage_of_every_family_has_a_colour(preset):
    shape, scheme = find_preset(preset), find_scheme("w8a8")
    if shape.frame is None:
        lanes = default_lanes(shape)
        chart = token_chart(build_schedule(shape, lanes, latencies(shape, scheme, lanes)), shape)
    else:
        chart = frame_chart(choose_streaming(shape, scheme))
    figure = pictures.schedule({"preset": preset, "scheme": "w8a8"}, chart)
    drawn = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert len(drawn) >= len({bar.name for bar in chart.bars})


def test_pictures_are_written_and_repeat(tmp_path, micro_schedule):
    schedule, shape = micro_schedule
    report = {
        "preset": "micro",
        "scheme": "w4a8",
        "target": "ecp5",
        "device": "a device",
        "cycles_per_token": schedule.interval,
        "cells": {"TRELLIS_COMB": 30, "DP16KD": 1},
        "components": {"a": {"TRELLIS_COMB": 10, "DP16KD": 1}, "b": {"TRELLIS_COMB": 20}},
        "clock_mhz_by_seed": {"1": 100.0, "2": 110.0},
        "clock_mhz": 105.0,
        "target_mhz": 110.0,
    }
    found = token_chart(schedule, shape)
    paths = write_pictures(tmp_path, json.loads(json.dumps(report)), found)
    assert [path.name for path in paths] == ["area.png", "schedule.png", "clock.png"]
    first = [path.read_bytes() for path in paths]
    write_pictures(tmp_path, report, found)
    assert [path.read_bytes() for path in paths] == first
