"""Schedules: the closed-form latencies, limits, and the command."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.configuration import HeadShape, NetworkShape
from golden.errors import InputError
from golden.presets import find_preset
from golden.random_program import random_program
from golden.scheme import SCHEMES, find_scheme
from hw.engine import Engine
from hw.lanes import Lanes, default_lanes, divisors
from hw.latencies import latencies
from hw.parameter_memory import MemoryPlan
from hw.schedule import build_schedule


@st.composite
def shapes(draw):
    mac = draw(st.sampled_from([1, 2, 4, 5, 8]))
    return NetworkShape(
        vocabulary=draw(st.integers(2, 70)),
        d_model=mac * draw(st.integers(2, 6)),
        d_inner=mac * draw(st.integers(2, 9)),
        d_state=draw(st.integers(1, 16)),
        d_conv=draw(st.integers(2, 8)),
        dt_rank=draw(st.integers(1, 9)),
        n_layer=draw(st.integers(1, 3)),
        mlp=draw(st.none() | st.integers(2, 40)),
    ), mac


def with_heads(shape, data):
    """Return a Mamba-2 shape of the same sizes, half of the time."""
    if data.draw(st.booleans()):
        return shape
    size = data.draw(st.sampled_from(divisors(shape.d_inner)))
    groups = data.draw(st.sampled_from(divisors(shape.d_inner // size)))
    return replace(shape, dt_rank=0, heads=HeadShape(size=size, groups=groups))


@settings(max_examples=50, deadline=None)
@given(shapes(), st.sampled_from(sorted(SCHEMES)), st.data())
def test_closed_form_equals_the_components(drawn, scheme, data):
    shape, mac = drawn
    if SCHEMES[scheme].rotation_bits is not None:
        shape = replace(shape, d_inner=mac * data.draw(st.sampled_from([4, 8, 12])))
    shape = with_heads(shape, data)
    lanes = Lanes(mac=mac, scan=data.draw(st.sampled_from(divisors(shape.d_state))))
    try:
        program = random_program(shape, SCHEMES[scheme], seed=1)
        engine = Engine(program=program, lanes=lanes, plan=MemoryPlan("mem"))
    except InputError:
        with pytest.raises(InputError):
            build_schedule(shape, lanes, latencies(shape, SCHEMES[scheme], lanes))
        return
    assert latencies(shape, SCHEMES[scheme], lanes) == engine.latencies


def test_bytelm_keeps_its_array_busy():
    shape = find_preset("bytelm")
    lanes = default_lanes(shape)
    schedule = build_schedule(shape, lanes, latencies(shape, find_scheme("w8a8"), lanes))
    assert lanes == Lanes(mac=32, scan=4)
    assert schedule.interval == 19254
    assert schedule.products == 575488
    assert schedule.utilisation(schedule.latency + 2) > 0.92


def test_byte_mamba2_scans_under_z():
    shape = find_preset("byte-mamba2")
    lanes = default_lanes(shape)
    schedule = build_schedule(shape, lanes, latencies(shape, find_scheme("w8a8"), lanes))
    assert lanes == Lanes(mac=32, scan=16)
    # The last 32 gates come one a cycle, the scan takes a channel in 4; then read-out and norm.
    gate, normed = (schedule.probes[name].reshape(shape.n_layer, -1) for name in ("gate", "normed"))
    assert (normed[:, 0] - gate[:, -1] < 31 * 3 + 30).all()
    assert schedule.utilisation(schedule.interval) > 0.85


def test_out_proj_waits_for_the_whole_rotation():
    shape = find_preset("bytelm")
    lanes = default_lanes(shape)
    schedule = build_schedule(shape, lanes, latencies(shape, find_scheme("w8a8-h"), lanes))
    gated, rotated = (
        schedule.probes[name].reshape(shape.n_layer, -1) for name in ("gated", "rotated")
    )
    assert (rotated[:, 0] == gated[:, -1] + 20).all()
    assert (np.diff(rotated, axis=1) == 1).all()
    starts = np.array([i.start for i in schedule.array if i.name == "out"])
    assert (starts >= rotated[:, 0]).all()


def test_a_size_that_cannot_be_rotated_is_refused():
    shape = replace(find_preset("micro"), d_inner=28)
    lanes = Lanes(mac=4, scan=1)
    with pytest.raises(InputError, match="no Hadamard transform of order 28; rotate a d_inner"):
        build_schedule(shape, lanes, latencies(shape, find_scheme("w8a8-h"), lanes))


def test_lanes_that_do_not_divide_are_refused_with_the_choices():
    shape = find_preset("bytelm")
    with pytest.raises(InputError, match=r"mac lanes = 24 .* d_model = 128; choose one of 1, 2, 4"):
        Lanes(mac=24, scan=4).check(shape)
    with pytest.raises(InputError, match=r"scan lanes = 3 .* d_state = 16; choose one of 1, 2, 4"):
        Lanes(mac=32, scan=3).check(shape)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "hw.schedule", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_prints_json_for_a_shape_beyond_simulation():
    done = run("--preset", "mamba-2.8b", "--mac-lanes", "512", "--scan-lanes", "16", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["cycles_per_token"] > 2.7e9 / 512
    assert 0.9 < report["array_utilisation"] < 1
    assert report["weight_bits_per_cycle"] == 512 * 8


def test_command_refuses_bad_lanes_in_one_line():
    done = run("--preset", "bytelm", "--mac-lanes", "7")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "7" in done.stderr


def test_command_predicts_the_gain_of_two_contexts():
    words = ("--preset", "bytelm", "--scheme", "w4a8", "--mac-lanes", "16", "--scan-lanes", "2")
    one, two = (json.loads(run(*words, "--contexts", c, "--json").stdout) for c in ("1", "2"))
    assert one["cycles_generating"] == one["cycles_single_stream"] > one["cycles_per_token"]
    assert two["cycles_generating"] == two["cycles_per_token"] == one["cycles_per_token"]
    assert two["array_utilisation_generating"] > 0.97


@pytest.mark.parametrize("contexts", [0, 3, 512])
def test_contexts_that_no_address_bits_hold_are_refused(contexts):
    with pytest.raises(
        InputError, match=rf"contexts = {contexts} is not a power of two in 1\.\.256"
    ):
        Lanes(mac=1, scan=1, contexts=contexts).check(find_preset("micro"))
