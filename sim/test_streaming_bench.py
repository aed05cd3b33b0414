"""The stand-alone bench of a frame network: it passes, and it finds seeded defects."""

import re
import shutil

import pytest

from golden.configuration import FrameShape, NetworkShape
from golden.random_program import random_program
from golden.scheme import find_scheme
from golden.vectors import random_stimulus
from hw.streaming.choice import choose_streaming
from hw.streaming.generate import write_streaming_design
from sim.test_standalone_bench import HAS_ICARUS, QUICKEST, change_digit, change_text, run

TOP = "frames_w4a8"
SHAPE = NetworkShape(
    vocabulary=5,
    d_model=6,
    d_inner=9,
    d_state=4,
    d_conv=3,
    dt_rank=2,
    n_layer=2,
    frame=FrameShape(features=5, tokens=4, hidden=7),
)


def written(folder, **options):
    """Return a generated directory."""
    program = random_program(SHAPE, find_scheme("w4a8"), 3)
    plan = choose_streaming(SHAPE, program.scheme)
    stimulus = random_stimulus(program, 3, 1, options.get("contexts", 1))
    write_streaming_design(program, plan, stimulus, preset="frames", folder=folder, **options)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return written(tmp_path_factory.mktemp("standalone") / "generated")


@pytest.fixture
def design(original, tmp_path):
    """Return a copy to be damaged."""
    return shutil.copytree(original, tmp_path / "generated")


def test_verilator_passes(original):
    code, lines = run(original, "verilator")
    assert (code, len(lines)) == (0, 1), lines
    assert lines[0].startswith(f"PASS {TOP}: 4 frames at full speed and with stalls")


@pytest.mark.skipif(
    not HAS_ICARUS,
    reason="NOT TESTED: iverilog is not installed, the stand-alone bench ran on Verilator only",
)
def test_icarus_passes(original):
    code, lines = run(original, "iverilog")
    assert (code, len(lines)) == (0, 1), lines
    assert lines[0].endswith("192 cycles a frame")


def test_registers_that_nobody_writes_change_nothing(tmp_path):
    code, lines = run(written(tmp_path / "generated", persistent=True), QUICKEST)
    assert (code, len(lines)) == (0, 1), lines
    assert lines[0].endswith("192 cycles a frame")


def test_contexts_are_checked_by_value_and_by_name(tmp_path):
    """Four frames of two contexts go on from each other; a wrong TID is found."""
    folder = written(tmp_path / "generated", persistent=True, contexts=2)
    code, lines = run(folder, QUICKEST)
    assert (code, len(lines)) == (0, 1), lines
    assert lines[0].endswith("192 cycles a frame")
    change_digit(folder / "tb" / "vectors" / "stream_outputs.hex", 8, digit=0, bit=2)
    code, lines = run(folder, QUICKEST)
    assert (code, len(lines)) == (1, 1), lines
    assert lines[0].startswith("MISMATCH stream outputs, frame 1, position 3: expected ")
    assert sorted(re.findall(r"TID (\d)", lines[0])) == ["0", "1"]


def damage_image(design):
    change_digit(design / "mem" / "front_weights.hex", 0, bit=8)
    return "MISMATCH probe residual, token 0, pass 0, position "


def damage_cycle(design):
    change_digit(design / "tb" / "vectors" / "probe_gate.cycles.hex", 3)
    return "MISMATCH probe gate"


def damage_later_pass(design):
    # Block 1 of token 0: behind the nine values of block 0.
    change_digit(design / "tb" / "vectors" / "probe_u.hex", 9 + 4)
    return "MISMATCH probe u, token 0, pass 1, position 4: expected "


def damage_frame_value(design):
    change_digit(design / "tb" / "vectors" / "probe_pooled.hex", 6 + 2)
    return "MISMATCH probe pooled, frame 1, pass 0, position 2: expected "


def damage_output(design):
    change_digit(design / "tb" / "vectors" / "stream_outputs.hex", 8)
    return "MISMATCH stream outputs, frame 1, position 3: expected "


def damage_handshake(design):
    change_text(design / "rtl" / f"{TOP}.v", r"\(m_axis_outputs_tready\)", "(1'h1)")
    return "MISMATCH stream outputs"


def damage_interval(design):
    change_text(design / "tb" / "tb.v", "FRAME_INTERVAL = 192", "FRAME_INTERVAL = 191")
    return "FAIL frame 1: 192 cycles after the one before it, expected 191"


@pytest.mark.parametrize(
    "damage",
    [
        damage_image,
        damage_cycle,
        damage_later_pass,
        damage_frame_value,
        damage_output,
        damage_handshake,
        damage_interval,
    ],
)
def test_damage_is_found_and_named_first(design, damage):
    expected = damage(design)
    code, lines = run(design, QUICKEST)
    assert (code, len(lines)) == (1, 1), lines
    assert lines[0].startswith(expected)
