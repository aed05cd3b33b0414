"""The generated top level on Verilator with cocotb: every probe in value and cycle."""

import json
from dataclasses import replace

import numpy as np
import pytest

from golden import vectors
from golden.artifact import load_program
from golden.builtin import builtin_path
from golden.configuration import HeadShape, NetworkShape
from golden.presets import find_preset
from golden.random_program import random_program
from golden.scheme import find_scheme
from hw.generate import write_design
from hw.lanes import Lanes, default_lanes
from hw.manifest import SINGLE_STREAM_TURNAROUND
from hw.primitives import Primitives
from sim.cosimulation import Cosimulation, Stimulus, differences

PROMPT = "The village of "
GENERATED_TOKENS = 64


class Design:
    """A generated directory and its compiled simulator."""

    def __init__(self, program, lanes, folder, primitives=Primitives.NONE):
        stimulus = vectors.random_stimulus(program, 4, 0)
        self.program = program
        self.generated = write_design(
            program,
            lanes,
            stimulus,
            preset="test",
            folder=folder / "design",
            primitives=primitives,
            dense_trits=program.scheme.ternary,
        )
        self.simulation = Cosimulation(folder / "design", folder / "simulation")

    def check(self, *, length=6, seed=0, name="run", **options):
        """Play a random stream and return what was recorded after comparing all of it."""
        stream = vectors.random_stimulus(self.program, length, seed)
        outcome = self.simulation.run(
            Stimulus(
                tokens=stream.tokens.tolist(),
                last=stream.last.tolist(),
                vocabulary=self.program.shape.vocabulary,
                **options,
            ),
            name,
        )
        trace = vectors.trace(
            self.program,
            outcome.tokens,
            outcome.last,
            reset_at_last=options.get("reset_at_last", True),
        )
        assert differences(self.generated, outcome, trace) == []
        return outcome


SHAPE = NetworkShape(
    vocabulary=37, d_model=12, d_inner=20, d_state=6, d_conv=3, dt_rank=3, n_layer=2
)
CASES = {
    "micro-w8a8": (find_preset("micro"), "w8a8", None),
    "micro-w4a5-se": (find_preset("micro"), "w4a5-se", Lanes(mac=8, scan=2)),
    "dense-ternary-mlp": (replace(SHAPE, d_inner=24, mlp=10), "ternary", Lanes(mac=6, scan=3)),
    "heads-w8a8": (replace(SHAPE, dt_rank=0, heads=HeadShape(size=5, groups=2)), "w8a8", None),
    "odd-w4a4-h": (SHAPE, "w4a4-h", Lanes(mac=4, scan=3)),
}


NATIVE = ("micro-w4a5-se", "heads-w8a8")
"""Cases whose products are made of the device's primitives."""


@pytest.fixture(scope="module", params=CASES)
def design(request, tmp_path_factory):
    shape, scheme, lanes = CASES[request.param]
    return Design(
        random_program(shape, find_scheme(scheme), seed=5),
        lanes or default_lanes(shape),
        tmp_path_factory.mktemp(request.param),
        Primitives.ECP5 if request.param in NATIVE else Primitives.NONE,
    )


def test_full_speed_matches_golden_in_value_and_cycle(design):
    outcome = design.check(name="full")
    assert set(np.diff(outcome.starts)) == {design.generated.schedule.interval}
    assert len(outcome.probes) == len(design.generated.schedule.probes)


def test_stalls_change_neither_values_nor_the_cycles_inside_a_token(design):
    interval = design.generated.schedule.interval
    outcome = design.check(name="stalls", length=9, stall_seed=11, longest_stall=3 * interval)
    assert max(np.diff(outcome.starts)) > interval


def test_single_stream_takes_the_predicted_cycles(design):
    outcome = design.check(name="generate", length=1, generate=5)
    single = design.generated.schedule.latency + SINGLE_STREAM_TURNAROUND
    assert set(np.diff(outcome.starts)) == {single}
    assert outcome.tokens[1:] == outcome.results[:-1]


def test_state_persists_across_tlast_by_policy(design):
    kept = design.check(name="kept", seed=3, length=8, reset_at_last=False, emit_logits=False)
    reset = design.check(name="reset", seed=3, length=8, emit_logits=False)
    assert kept.last.count(1) > 1
    assert kept.results != reset.results


def test_a_changed_weight_is_noticed(design):
    """The comparison itself can fail: one word of one weight memory."""
    stream = vectors.random_stimulus(design.program, 2, 0)
    image = design.simulation.design / "mem" / "weights.hex"
    text = image.read_text()
    word, rest = text.split("\n", 1)  # the first: zeros may fill the bank behind the last
    inverted = int(word, 16) ^ (16 ** len(word) - 1)
    image.write_text(f"{inverted:0{len(word)}x}\n{rest}")
    try:
        outcome = design.simulation.run(
            Stimulus(
                tokens=stream.tokens.tolist(),
                last=stream.last.tolist(),
                vocabulary=design.program.shape.vocabulary,
            ),
            "changed",
        )
    finally:
        image.write_text(text)
    trace = vectors.trace(design.program, outcome.tokens, outcome.last)
    assert differences(design.generated, outcome, trace)


@pytest.mark.parametrize(
    "name",
    [
        "w8a8",
        pytest.param("w4a5-se", marks=pytest.mark.slow),
        pytest.param("w4a8-h-qat", marks=pytest.mark.slow),
    ],
)
def test_bytelm_generates_what_golden_generates(name, tmp_path):
    program = load_program(builtin_path("bytelm", name))
    design = Design(program, default_lanes(program.shape), tmp_path)
    prompt = list(PROMPT.encode())
    outcome = design.simulation.run(
        Stimulus(
            tokens=prompt,
            last=[0] * len(prompt),
            vocabulary=program.shape.vocabulary,
            generate=GENERATED_TOKENS,
            emit_logits=False,
        )
    )
    trace = vectors.trace(program, outcome.tokens, outcome.last)
    assert differences(design.generated, outcome, trace) == []
    assert outcome.tokens[len(prompt) :] == outcome.results[len(prompt) - 1 : -1]
    manifest = json.loads((tmp_path / "design" / "manifest.json").read_text())
    single = manifest["predicted_cycles_single_stream"]
    assert set(np.diff(outcome.starts[len(prompt) :])) == {single}
    assert manifest["array_utilisation_single_stream"] >= 0.8
