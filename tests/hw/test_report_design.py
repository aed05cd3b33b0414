"""The designs that a report measures: both organisations, their cycles, no stale files."""

import pytest

from golden.builtin import load_builtin
from golden.errors import InputError
from golden.scheme import find_scheme
from hw.multiplier import Multipliers
from hw.primitives import Primitives
from hw.report.__main__ import named_primitives
from hw.report.design import build
from hw.report.targets import parse_target


def test_a_language_model_is_described_with_its_schedule(tmp_path):
    program = load_builtin("micro", find_scheme("w4a8"))
    design = build(program, preset="micro", folder=tmp_path, mac_lanes=8, scan_lanes=2)
    found = design.describe()
    assert (found["mac_lanes"], found["scan_lanes"]) == (8, 2)
    assert "cycles_per_frame" not in found
    chart = design.chart()
    assert chart.cycles == found["cycles_per_token"]
    assert chart.useful("array") == pytest.approx(found["array_utilisation"], abs=1e-6)
    assert chart.useful("scan") == pytest.approx(found["scan_utilisation"], abs=1e-6)
    assert (tmp_path / "rtl" / f"{design.top}.v").is_file()


def test_a_frame_network_is_described_with_its_plan(tmp_path):
    program = load_builtin("mars", find_scheme("w8a8"))
    design = build(program, preset="mars", folder=tmp_path)
    found = design.describe()
    assert found["cycles_per_frame"] == design.chart().cycles <= 2000
    assert design.multipliers is Multipliers.MIX
    with pytest.raises(InputError, match="mac lanes = 8"):
        build(program, preset="mars", folder=tmp_path, mac_lanes=8)


def test_files_of_an_earlier_design_are_removed_and_the_rest_is_left_alone(tmp_path):
    program = load_builtin("micro", find_scheme("w4a8"))
    build(program, preset="micro", folder=tmp_path, scan_lanes=4)
    kept = (tmp_path / "rtl" / "scanwright_rom.v").stat().st_mtime_ns
    assert list(tmp_path.glob("rtl/*lane_3.v"))
    build(program, preset="micro", folder=tmp_path, scan_lanes=1)
    assert not list(tmp_path.glob("rtl/*lane_3.v"))
    assert (tmp_path / "rtl" / "scanwright_rom.v").stat().st_mtime_ns == kept


def test_a_frame_network_has_the_primitives_of_an_ecp5():
    ecp5, other = parse_target("ecp5"), parse_target("xilinx")
    assert named_primitives(ecp5, None, frames=True) is Primitives.ECP5
    assert named_primitives(ecp5, Primitives.NONE, frames=True) is Primitives.NONE
    assert named_primitives(ecp5, None, frames=False) is Primitives.NONE
    assert named_primitives(ecp5, Primitives.ECP5, frames=False) is Primitives.ECP5
    assert named_primitives(other, None, frames=True) is Primitives.NONE
    with pytest.raises(InputError, match="--target xilinx has no primitives of an ECP5"):
        named_primitives(other, Primitives.ECP5, frames=True)
