"""The generated stand-alone bench: it passes, and it finds every seeded defect."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from golden.presets import find_preset
from golden.random_program import random_program
from golden.scheme import find_scheme
from golden.vectors import random_stimulus
from hw.generate import write_design
from hw.lanes import default_lanes
from hw.primitives import Primitives
from sim.verilator_tools import verilator_executable

HAS_ICARUS = shutil.which("iverilog") is not None
# Icarus builds in a second where Verilator takes ten: it looks for defects where it can.
QUICKEST = "iverilog" if HAS_ICARUS else "verilator"
TOP = "micro_w4a5_se"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    program = random_program(find_preset("micro"), find_scheme("w4a5-se"), 3)
    folder = tmp_path_factory.mktemp("standalone") / "generated"
    stimulus = random_stimulus(program, 3, 1)
    write_design(program, default_lanes(program.shape), stimulus, preset="micro", folder=folder)
    return folder


@pytest.fixture
def design(original, tmp_path):
    """Return a copy to be damaged."""
    return shutil.copytree(original, tmp_path / "generated")


def run(design, *arguments, path=None):
    """Run the bench from a foreign folder; return exit code and lines."""
    tools = f"{verilator_executable().parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [design / "tb" / "run.sh", *arguments],
        cwd=design.parent,
        env={**os.environ, "PATH": tools if path is None else path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


def change_digit(path, line, digit=-1, bit=1):
    """Flip one bit of one hexadecimal digit of a memory image or vector file."""
    lines = path.read_text().splitlines()
    word = list(lines[line])
    word[digit] = f"{int(word[digit], 16) ^ bit:x}"
    lines[line] = "".join(word)
    path.write_text("\n".join(lines) + "\n")


def change_text(path, pattern, replacement):
    """Replace the first match in a file."""
    text, count = re.subn(pattern, replacement, path.read_text(), count=1)
    assert count, f"{path.name} has no {pattern}"
    path.write_text(text)


def test_verilator_passes(original):
    code, lines = run(original, "verilator")
    assert (code, len(lines)) == (0, 1), lines
    assert lines[0].startswith(f"PASS {TOP}: 3 tokens at full speed and with stalls")


# The reason is in the summary of every run, by -ra of the project's pytest options.
@pytest.mark.skipif(
    not HAS_ICARUS,
    reason="NOT TESTED: iverilog is not installed, the stand-alone bench ran on Verilator only",
)
def test_icarus_passes(original):
    code, lines = run(original, "iverilog")
    assert (code, len(lines)) == (0, 1), lines
    assert lines[0].startswith(f"PASS {TOP}: 3 tokens at full speed and with stalls")


def test_a_design_of_primitives_passes(tmp_path):
    program = random_program(find_preset("micro"), find_scheme("w4a5-se"), 3)
    stimulus, lanes = random_stimulus(program, 2, 1), default_lanes(program.shape)
    write_design(
        program, lanes, stimulus, preset="micro", folder=tmp_path, primitives=Primitives.ECP5
    )
    code, lines = run(tmp_path, QUICKEST)
    assert (code, lines[-1].split()[0]) == (0, "PASS")


def test_verilator_finds_a_wrong_weight(design):
    change_digit(design / "mem" / "weights.hex", 0, bit=8)
    code, lines = run(design, "verilator")
    assert (code, len(lines)) == (1, 1), lines
    assert re.fullmatch(
        r"MISMATCH probe x, token \d+, position \d+: expected -?\d+ in cycle \d+, "
        r"found -?\d+ in cycle \d+",
        lines[0],
    )


def damage_image(design):
    # The sign of the newest input's tap: older inputs may be zero in a short sequence.
    change_digit(design / "mem" / "convolution.hex", 7, digit=-8, bit=8)
    return "MISMATCH probe convolution, token 0, position 7: expected "


def damage_operator(design):
    change_text(design / "rtl" / f"{TOP}_engine_norm.v", r"\$signed\(value\)", "1 + $signed(value)")
    return "MISMATCH probe residual, token 0, position 0: expected "


def damage_handshake(design):
    change_text(design / "rtl" / f"{TOP}.v", r"\(m_axis_results_tready\)", "(1'h1)")
    return "MISMATCH stream results"


def damage_cycle(design):
    change_digit(design / "tb" / "vectors" / "probe_gate.cycles.hex", 3)
    return "MISMATCH probe gate, token 0, position 3: expected "


def damage_last(design):
    change_digit(design / "tb" / "vectors" / "stream_results.hex", 1, digit=0)
    return "MISMATCH stream results, token 1, position 0: expected "


def damage_logit_stream(design):
    change_digit(design / "tb" / "vectors" / "stream_logits.hex", 70)
    return "MISMATCH stream logits, token 1, position 6: expected "


def damage_ready(design):
    change_text(
        design / "rtl" / f"{TOP}_engine_sequencer.v",
        r"assign tokens__ready = [^;]*;",
        "assign tokens__ready = 1'h0;",
    )
    return "FAIL watchdog: no transfer"


@pytest.mark.parametrize(
    "damage",
    [
        damage_image,
        damage_operator,
        damage_handshake,
        damage_cycle,
        damage_last,
        damage_logit_stream,
        damage_ready,
    ],
)
def test_damage_is_found_and_named_first(design, damage):
    expected = damage(design)
    code, lines = run(design, QUICKEST)
    assert (code, len(lines)) == (1, 1), lines
    assert lines[0].startswith(expected)


def test_broken_verilog_fails(design):
    (design / "rtl" / f"{TOP}.v").write_text("modul nothing;\n")
    code, lines = run(design, QUICKEST)
    assert (code, len(lines)) == (1, 1)
    assert "could not build the design" in lines[0]


def test_missing_vectors_fail(design):
    (design / "tb" / "vectors" / "probe_norm.hex").unlink()
    code, lines = run(design, QUICKEST)
    assert (code, len(lines)) == (1, 1), lines
    assert lines[0].startswith(("MISMATCH probe norm", "FAIL"))


@pytest.mark.parametrize("arguments", [[], ["modelsim"], ["iverilog", "verilator"]])
def test_wrong_usage_is_one_line(original, arguments):
    code, lines = run(original, *arguments)
    assert (code, len(lines)) == (2, 1)
    assert "usage: run.sh iverilog|verilator" in lines[0]


@pytest.mark.parametrize("simulator", ["iverilog", "verilator"])
def test_missing_simulator_is_one_line(original, tmp_path, simulator):
    for tool in ("sh", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    code, lines = run(original, simulator, path=str(tmp_path))
    assert (code, lines) == (2, [f"error: {simulator} is not installed or not on PATH"])


def test_same_arguments_write_the_same_bench(original, tmp_path):
    program = random_program(find_preset("micro"), find_scheme("w4a5-se"), 3)
    lanes, stimulus = default_lanes(program.shape), random_stimulus(program, 3, 1)
    write_design(program, lanes, stimulus, preset="micro", folder=tmp_path)
    for path in sorted((tmp_path / "tb").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (original / path.relative_to(tmp_path)).read_bytes()
    assert (tmp_path / "tb" / "run.sh").stat().st_mode & 0o111 == 0o111
