"""The sweep over lanes: exact cycles, a true Pareto front, an estimate that its points give."""

import json

import pytest

from golden.command import run
from golden.presets import find_preset
from golden.scheme import find_scheme
from hw.lanes import Lanes
from hw.latencies import latencies
from hw.report.calibrate import FITTED, HELD_OUT, calibrated
from hw.schedule import build_schedule
from hw.schedule.__main__ import application
from hw.schedule.area import Point, calibration, estimate, fit
from hw.schedule.sweep import lane_pairs, sweep

LIMIT = 0.15
"""Largest error of the estimate that is accepted on engines outside of the fit."""


@pytest.fixture(scope="module")
def candidates():
    shape = find_preset("micro")
    return sweep(shape, find_scheme("w4a8"), lane_pairs(shape))


def test_every_pair_of_lanes_is_there_with_its_exact_cycles(candidates):
    shape, scheme = find_preset("micro"), find_scheme("w4a8")
    assert len(candidates) == len(lane_pairs(shape)) == 15
    for candidate in candidates:
        lanes = Lanes(mac=candidate.mac_lanes, scan=candidate.scan_lanes)
        schedule = build_schedule(shape, lanes, latencies(shape, scheme, lanes))
        assert candidate.cycles_per_token == schedule.interval
        assert candidate.cells == estimate(shape, scheme, lanes)


def test_the_front_is_what_no_other_engine_beats(candidates):
    for candidate in candidates:
        beaten = any(
            other.area <= candidate.area
            and other.cycles_per_token <= candidate.cycles_per_token
            and (other.area, other.cycles_per_token) != (candidate.area, candidate.cycles_per_token)
            for other in candidates
        )
        assert candidate.pareto != beaten


def test_the_committed_factors_and_errors_are_those_of_the_committed_points():
    committed = calibration()
    points = [
        Point(p["preset"], p["scheme"], p["mac_lanes"], p["scan_lanes"], p["cells"], p["held_out"])
        for p in committed["points"]
    ]
    assert [(p.preset, p.scheme, p.mac, p.scan) for p in points] == [*FITTED, *HELD_OUT]
    again = calibrated(points)
    assert again["factors"] == committed["factors"]
    assert again["held_out_error"] == committed["held_out_error"]
    assert max(committed["held_out_error"].values()) < LIMIT


def test_more_lanes_are_never_estimated_smaller(candidates):
    for one in candidates:
        for other in candidates:
            if one.mac_lanes <= other.mac_lanes and one.scan_lanes <= other.scan_lanes:
                assert all(one.cells[kind] <= other.cells[kind] for kind in one.cells)


def test_a_factor_is_never_negative():
    rows = [{"engine": 1.0, "lanes": float(n)} for n in (1, 2, 4)]
    assert fit(rows, [10, 12, 16]) == pytest.approx({"engine": 8.0, "lanes": 2.0})
    assert set(fit(rows, [16, 12, 10])) == {"engine"}


def test_the_command_prints_the_sweep_and_its_error(capsys):
    with pytest.raises(SystemExit) as stop:
        run(application, ["--preset", "micro", "--scheme", "w4a8", "--sweep", "--json"])
    assert stop.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["engines"]) == 15
    assert found["held_out_error"] == calibration()["held_out_error"]
    with pytest.raises(SystemExit):
        run(application, ["--preset", "micro", "--scheme", "w4a8", "--sweep", "--mac-lanes", "8"])
    assert "off on synthesized engines" in capsys.readouterr().out


def test_lanes_that_do_not_fit_are_refused_before_the_sweep(capsys):
    with pytest.raises(SystemExit) as stop:
        run(application, ["--preset", "micro", "--sweep", "--mac-lanes", "7"])
    assert stop.value.code == 2
    assert "7" in capsys.readouterr().err
