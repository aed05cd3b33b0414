"""The generate and schedule commands for frame networks: a pipe of arrays, a block every beat."""

import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from golden.artifact import load_program, save_program
from golden.configuration import FrameShape, NetworkShape
from golden.random_program import random_program
from golden.scheme import find_scheme
from golden.vector_files import load_vectors
from golden.vectors import random_stimulus
from hw.multiplier import Multipliers
from hw.parameter_memory import MemoryPlan
from hw.streaming.choice import choose_streaming
from hw.streaming.generate import write_streaming_design
from hw.streaming.top import StreamingAccelerator

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


def run(command, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"hw.{command}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / "frames.safetensors"
    save_program(random_program(SHAPE, find_scheme("w4a8"), seed=2), path)
    return path


def generate(artifact, out, *options):
    named = ("--preset", "frames", "--scheme", "w4a8", "--artifact", artifact, "--out", out)
    return run("generate", *named, *options)


@pytest.fixture(scope="module")
def design(artifact, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated") / "design"
    done = generate(artifact, folder, "--tokens", 2)
    assert done.returncode == 0, done.stderr
    return folder


def test_same_command_writes_the_same_bytes(artifact, design, tmp_path):
    assert generate(artifact, tmp_path / "again", "--tokens", 2).returncode == 0
    assert contents(tmp_path / "again") == contents(design)


def test_manifest_holds_the_plan_and_every_file(design):
    manifest = json.loads((design / "manifest.json").read_text())
    plan = choose_streaming(SHAPE, find_scheme("w4a8"))
    assert manifest["organisation"] == "streaming"
    assert manifest["predicted_cycles_per_frame"] == 4 * 2 * plan.beat == plan.frame_interval
    assert manifest["predicted_latency"] == plan.latency
    assert manifest["lanes"]["hidden"] == plan.lanes.hidden
    files = contents(design)
    del files["manifest.json"]
    assert manifest["files"] == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }


def test_tokens_count_frames(design):
    program = design / "golden" / "program.safetensors"
    vectors = load_vectors(design / "golden" / "vectors.npz", program)
    assert vectors.probes["logits"].shape == (2, load_program(program).shape.vocabulary)
    assert vectors.tokens.shape == (2 * 4, 5)


def test_predicted_cycles_cover_every_probe(design):
    plan = choose_streaming(SHAPE, find_scheme("w4a8"))
    with np.load(design / "golden" / "predicted_cycles.npz") as cycles:
        assert set(cycles) == {*plan.probes, *(f"frame.{name}" for name in plan.frame_probes)}
        assert (cycles["frame.logits"] == plan.frame_probes["logits"]).all()


def test_resources_are_those_of_the_structure(artifact, tmp_path):
    """Two lanes of 4 bits share a hardware multiplier with dsp, with mix they have none."""
    found, program = {}, load_program(artifact)
    plan, stimulus = choose_streaming(SHAPE, program.scheme), random_stimulus(program, 1, 0)
    for kind in Multipliers:
        folder = tmp_path / kind
        write_streaming_design(
            program, plan, stimulus, preset="frames", folder=folder, multipliers=kind
        )
        manifest = json.loads((tmp_path / kind / "manifest.json").read_text())
        found[kind] = manifest["resources"]
        assert found[kind]["multiplier_kind"] == kind
        assert found[kind]["primitives"] == "none"
    arrays = {"front": "front_array", "x": "x_array", "z": "z_array", "out": "out_array"}
    for name, unit in arrays.items():
        assert found["dsp"]["hardware_multipliers"][unit] == -(-manifest["lanes"][name] // 2)
        assert unit not in found["mix"]["hardware_multipliers"]
        pairs = 0 if name == "front" else manifest["lanes"][name] // 2  # its weights have 8 bits
        assert found["packed"]["hardware_multipliers"].get(unit, 0) == pairs
    totals = {kind: sum(each["hardware_multipliers"].values()) for kind, each in found.items()}
    assert totals["dsp"] > totals["packed"] > totals["mix"] > totals["lut"]
    assert found["dsp"]["memory_bits"] == found["lut"]["memory_bits"]
    # L E words, a channel's whole state each, whatever multiplies.
    state = 2 * 9 * 4 * find_scheme("w4a8").state_bits
    text = (tmp_path / "lut" / "rtl" / "frames_w4a8_engine_scan_state.v").read_text()
    width, depth = re.search(r"reg \[(\d+):0\] words_0_0 \[(\d+):0\];", text).groups()
    assert (int(width) + 1) * (int(depth) + 1) == state


def test_contexts_have_states_and_vectors_of_their_own(artifact, design, tmp_path):
    options = ("--persistent", "--contexts", 4, "--tokens", 6)
    assert generate(artifact, tmp_path / "four", *options).returncode == 0
    folders = (tmp_path / "four", design)
    four, one = (json.loads((folder / "manifest.json").read_text()) for folder in folders)
    assert (four["contexts"], one["contexts"]) == (4, 1)
    for name in ("predicted_cycles_per_frame", "predicted_latency", "lanes", "plan"):
        assert four[name] == one[name]
    scheme, bits = find_scheme("w4a8"), {}
    for unit in ("scan", "convolution"):
        found = (each["resources"]["memory_bits"][unit] for each in (four, one))
        bits[unit] = next(found) - next(found)
    assert bits == {
        "scan": 3 * 2 * 9 * 4 * scheme.state_bits,
        "convolution": 3 * 2 * 9 * 2 * scheme.activation_bits,
    }
    tops = [(folder / "rtl" / "frames_w4a8.v").read_text() for folder in folders]
    assert ["_tid" in text for text in tops] == [True, False]
    golden = tmp_path / "four" / "golden"
    vectors = load_vectors(golden / "vectors.npz", golden / "program.safetensors")
    order = vectors.context[::4].tolist()
    assert order != sorted(order)
    assert vectors.state.shape[1] == max(order) + 1


def test_one_context_is_no_port_and_no_field():
    program = random_program(SHAPE, find_scheme("w4a8"), seed=2)
    plan = choose_streaming(SHAPE, program.scheme)
    for persistent in (False, True):
        top = StreamingAccelerator(
            program=program, plan=plan, realisation=MemoryPlan(), persistent=persistent
        )
        engine = top.engine
        names = {*top.signature.members, *engine.signature.members}
        assert not {name for name in names if "tid" in name or "context" in name}
        assert "selected" not in engine.signature.members
        for stream in (engine.features, engine.outputs):
            assert set(dict(stream.payload.shape())) == {"value", "last"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mac-lanes", 4), "mac lanes = 4, but every array of a frame network"),
        (("--contexts", 2), "contexts = 2, but every frame begins with zeros"),
        (("--persistent", "--contexts", 3), "contexts = 3 is not a power of two in 1..256"),
        (("--persistent", "--contexts", 512), "contexts = 512 is not a power of two in 1..256"),
        (("--dense-trits",), "--dense-trits is for the array that a language model's"),
        (("--beat", 3), "a beat of 3 cycles is too short"),
        (("--scan-lanes", 3), "scan lanes = 3 does not divide d_state = 4"),
        (("--multipliers", "abacus"), "abacus"),
        (("--tokens", 0), "0"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_written(artifact, options, message, tmp_path):
    done = generate(artifact, tmp_path / "out", *options)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_language_model_has_no_beat(tmp_path):
    out = tmp_path / "out"
    done = run("generate", "--preset", "micro", "--scheme", "w8a8", "--beat", 9, "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a language model's schedule has none" in done.stderr


def test_a_language_model_takes_the_kind_of_its_multipliers(tmp_path):
    named = ("--preset", "micro", "--scheme", "w4a8", "--out", tmp_path / "out")
    assert run("generate", *named, "--multipliers", "lut").returncode == 0
    text = (tmp_path / "out" / "rtl" / "micro_w4a8_engine_projection_array.v").read_text()
    assert " * " not in text
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["resources"]["multiplier_kind"] == "lut"


def test_schedule_predicts_mars():
    done = run("schedule", "--preset", "mars", "--scheme", "w4a8", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["predicted_cycles_per_frame"] == 1280
    assert report["stages"]["x"]["utilisation"] == 1
    assert report["utilisation"]["arrays"] > 0.98


@pytest.mark.parametrize(
    ("preset", "option", "message"),
    [
        ("mars", "--mac-lanes=4", "mac lanes = 4"),
        ("mars", "--beat=2", "a beat of 2 cycles is too short"),
        ("mars", "--contexts=2", "contexts = 2, but frames of all contexts follow each other"),
        ("micro", "--beat=9", "beat = 9"),
    ],
)
def test_schedule_refuses_what_an_organisation_has_not(preset, option, message):
    done = run("schedule", "--preset", preset, option)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
