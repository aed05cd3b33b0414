"""The generated frame networks on Verilator with cocotb: every probe in value and cycle.

Designs with registers and contexts are in :mod:`sim.test_frame_contexts`.
"""

import numpy as np
import pytest

from golden.builtin import load_builtin
from golden.configuration import AverageShape, FrameShape, NetworkShape, PatchShape
from golden.random_program import random_program
from golden.scheme import find_scheme
from golden.vectors import random_stimulus, trace
from hw.multiplier import Multipliers
from hw.primitives import Primitives
from hw.streaming.choice import choose_streaming
from hw.streaming.generate import write_streaming_design
from sim.streaming_cosimulation import (
    StreamingCosimulation,
    find_frame_differences,
    frame_stimulus,
)

TINY = NetworkShape(
    vocabulary=5,
    d_model=6,
    d_inner=9,
    d_state=4,
    d_conv=3,
    dt_rank=2,
    n_layer=2,
    frame=FrameShape(features=5, tokens=4, hidden=7),
)
WINDOWS = NetworkShape(
    vocabulary=2,
    d_model=6,
    d_inner=8,
    d_state=1,
    d_conv=3,
    dt_rank=8,
    n_layer=2,
    frame=FrameShape(features=7, tokens=3, patch=PatchShape(width=4, kernel=4, stride=2)),
    average=AverageShape(),
)
CASES = {
    "windows-w8a8-mix": (WINDOWS, "w8a8", None, Multipliers.MIX, Primitives.NONE),
    "tiny-w4a8-mix": (TINY, "w4a8", 2, Multipliers.MIX, Primitives.NONE),
    "mars-w4a8-mix": (None, "w4a8", None, Multipliers.MIX, Primitives.ECP5),
    "mars-w8a8-dsp": (None, "w8a8", None, Multipliers.DSP, Primitives.NONE),
}
SLOW = ("mars-w8a8-dsp",)


class FrameDesign:
    """A generated directory and its compiled simulator."""

    def __init__(self, program, plan, kind, primitives, folder):
        self.program = program
        stimulus = random_stimulus(program, 1, 0)
        self.made = write_streaming_design(
            program,
            plan,
            stimulus,
            preset="test",
            folder=folder / "design",
            multipliers=kind,
            primitives=primitives,
        )
        self.simulation = StreamingCosimulation(folder / "design", folder / "simulation")

    def play(self, *, frames=4, seed=0, cut=False, stall_seed=None, name="run"):
        """Play random frames; return what was recorded and all that differs from golden."""
        stream = random_stimulus(self.program, frames, seed)
        features = stream.tokens.copy()
        if cut:
            features[np.random.default_rng(seed).random(len(features)) < 0.5] = 0
        expected = trace(self.program, features, stream.last)
        stimulus = frame_stimulus(self.made, expected, stall_seed=stall_seed, cut=cut)
        outcome = self.simulation.run(stimulus, name)
        return outcome, find_frame_differences(self.made, outcome, expected)

    def check(self, **options):
        """Play random frames and return what was recorded, which must be golden's."""
        outcome, found = self.play(**options)
        assert [difference.text for difference in found] == []
        return outcome


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in CASES],
)
def design(request, tmp_path_factory):
    shape, scheme, scan, kind, primitives = CASES[request.param]
    if shape is None:
        program = load_builtin("mars", find_scheme(scheme))
    else:
        program = random_program(shape, find_scheme(scheme), seed=5)
    plan = choose_streaming(program.shape, program.scheme, scan=scan)
    folder = tmp_path_factory.mktemp(request.param)
    return FrameDesign(program, plan, kind, primitives, folder)


def test_frames_back_to_back_leave_every_frame_interval(design):
    outcome = design.check(name="full")
    assert set(outcome.frame_distances) == {design.made.plan.frame_interval}
    starts = outcome.starts.reshape(-1, design.program.shape.frame.tokens)
    assert set(np.diff(starts).ravel()) == {design.made.plan.interval}
    if design.program.shape.frame.tokens == 16:
        assert set(outcome.frame_distances) == {1280}
    assert outcome.unaligned == 0
    plan = design.made.plan
    assert set(outcome.probes) == {*plan.probes, *plan.frame_probes, *plan.row_probes}


def test_stalls_and_short_frames_change_no_value_and_no_cycle_inside_a_token(design):
    outcome = design.check(name="stalls", seed=3, stall_seed=11, cut=True)
    assert max(np.diff(outcome.starts)) > design.made.plan.interval
    assert outcome.unaligned == 0


def test_a_changed_weight_is_noticed(design):
    """The comparison itself can fail: one bit of one weight memory."""
    image = design.simulation.design / "mem" / "out_weights.hex"
    text = image.read_text()
    first, rest = text.split("\n", 1)
    # The lowest digit of the first word: row 0, column 0.
    image.write_text(f"{first[:-1]}{int(first[-1], 16) ^ 4:x}\n{rest}")
    try:
        _, found = design.play(name="changed")
    finally:
        image.write_text(text)
    assert "residual" in [difference.source for difference in found]
