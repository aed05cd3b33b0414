"""The sweep over lanes: exact cycles, a true Pareto front, an estimate that its points give."""

import json
from dataclasses import fields

import pytest

from golden.command import run
from golden.presets import find_preset
from golden.scheme import find_scheme
from hw.lanes import Lanes
from hw.latencies import latencies
from hw.parameter_memory import MemoryPlan, ParameterMemory, memory_cost
from hw.report.calibrate import FITTED, HELD_OUT, Engine, Point, calibrated
from hw.schedule import build_schedule
from hw.schedule.__main__ import application
from hw.schedule.area import SHARED, STREAMING, calibration, estimate, fit
from hw.schedule.sweep import lane_pairs, sweep
from hw.streaming.area import estimate_streaming
from hw.streaming.choice import choose_streaming, shortest_beat
from hw.streaming.sweep import frame_settings, sweep_frames

LIMIT = 0.15
"""Largest error of the estimates that is accepted on engines outside of the fit."""


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


@pytest.fixture(scope="module", params=["mars", "slim"])
def frame_sweep(request):
    shape, scheme = find_preset(request.param), find_scheme("w4a8")
    return shape, scheme, sweep_frames(shape, scheme, frame_settings(shape))


def test_frame_engines_have_the_exact_cycles_and_lanes_of_their_plans(frame_sweep):
    shape, scheme, found = frame_sweep
    assert shortest_beat(shape, shape.d_state) in {candidate.beat for candidate in found}
    for candidate in found:
        plan = choose_streaming(shape, scheme, scan=candidate.scan_lanes, beat=candidate.beat)
        assert candidate.cycles_per_frame == plan.frame_interval
        assert candidate.lanes == {name: getattr(plan.lanes, name) for name in plan.stages}
        assert candidate.cells == estimate_streaming(plan, scheme)


def test_no_beat_in_between_has_other_lanes():
    shape, scheme = find_preset("mars"), find_scheme("w4a8")
    settings = frame_settings(shape, scan=4)
    found = {candidate.beat: candidate.lanes for candidate in sweep_frames(shape, scheme, settings)}
    for beat in range(min(found), 2 * min(found)):
        plan = choose_streaming(shape, scheme, scan=4, beat=beat)
        nearest = max(known for known in found if known <= beat)
        assert found[nearest] == {name: getattr(plan.lanes, name) for name in plan.stages}


def beats_another(one, other):
    ours, theirs = (one.area, one.cycles), (other.area, other.cycles)
    return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]


def test_the_front_is_what_no_other_engine_beats(candidates, frame_sweep):
    for engines in (candidates, frame_sweep[2]):
        for engine in engines:
            assert engine.pareto != any(beats_another(other, engine) for other in engines)


@pytest.mark.parametrize(("words", "width"), [(60, 12), (700, 1), (2100, 20), (34560, 64)])
def test_a_memory_costs_the_blocks_and_bits_of_its_banks(words, width):
    plan = MemoryPlan()
    ParameterMemory(name="words", width=width, words=[0] * words, plan=plan)
    logic = sum(
        bits * len(bank)
        for bits, bank in plan.images.values()
        if len(bank) <= 128 or bits * len(bank) <= 1024
    )
    blocks, found = memory_cost(words, width)
    assert found == logic
    assert (blocks == 0) == all(
        len(bank) <= 128 or bits * len(bank) <= 1024 for bits, bank in plan.images.values()
    )


@pytest.mark.parametrize("organisation", [SHARED, STREAMING])
def test_the_committed_factors_and_errors_are_those_of_the_committed_points(organisation):
    committed = calibration(organisation)
    settings = [f.name for f in fields(Engine)]
    points = [
        Point(
            engine=Engine(**{name: p[name] for name in settings if name in p}),
            cells=p["cells"],
            held_out=p["held_out"],
        )
        for p in committed["points"]
    ]
    assert [p.engine for p in points] == [*FITTED[organisation], *HELD_OUT[organisation]]
    assert [p.held_out for p in points] == [p.engine in HELD_OUT[organisation] for p in points]
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
    assert found["held_out_error"] == calibration(SHARED)["held_out_error"]
    with pytest.raises(SystemExit):
        run(application, ["--preset", "micro", "--scheme", "w4a8", "--sweep", "--mac-lanes", "8"])
    assert "off on synthesized engines" in capsys.readouterr().out


def test_the_command_sweeps_frame_networks(capsys):
    with pytest.raises(SystemExit) as stop:
        run(application, ["--preset", "mars", "--scheme", "w4a8", "--sweep", "--scan-lanes", "8"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "1,280" in out
    assert "off on synthesized engines" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mars", "--scan-lanes", "3"], "scan lanes = 3 does not divide d_state = 8"),
        (["mars", "--beat", "9"], "a beat of 9 cycles is too short"),
        (["mars", "--mac-lanes", "4"], "mac lanes = 4"),
        (["micro", "--beat", "9"], "beat = 9"),
    ],
)
def test_what_does_not_fit_a_sweep_is_refused(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run(application, ["--sweep", "--preset", *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_lanes_that_do_not_fit_are_refused_before_the_sweep(capsys):
    with pytest.raises(SystemExit) as stop:
        run(application, ["--preset", "micro", "--sweep", "--mac-lanes", "7"])
    assert stop.value.code == 2
    assert "7" in capsys.readouterr().err
