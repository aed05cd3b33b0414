"""Contexts of frame networks: interleaved, reset, saved, restored, rolled back, under stalls."""

from dataclasses import replace

import numpy as np
import pytest

from golden.configuration import AverageShape, FrameShape, NetworkShape, PatchShape
from golden.random_program import random_program
from golden.scheme import find_scheme
from golden.vectors import random_stimulus
from hw.lanes import Lanes
from hw.multiplier import Multipliers
from hw.primitives import Primitives
from hw.streaming.choice import choose_streaming
from hw.streaming.generate import write_streaming_design
from sim.operations import Operation, played_trace, state_words
from sim.streaming_cosimulation import (
    StreamingCosimulation,
    find_frame_differences,
    frame_stimulus,
)

SCAN = NetworkShape(
    vocabulary=5, d_model=6, d_inner=12, d_state=4, d_conv=3, dt_rank=2, n_layer=3,
    frame=FrameShape(features=3, tokens=2, hidden=4),
)  # fmt: skip
AVERAGES = NetworkShape(
    vocabulary=2, d_model=6, d_inner=8, d_state=1, d_conv=1, dt_rank=8, n_layer=3,
    frame=FrameShape(features=7, tokens=3, patch=PatchShape(width=4, kernel=4, stride=2)),
    average=AverageShape(gated=False),
)  # fmt: skip
CASES = {
    "scan-2-packed": (SCAN, 2, Multipliers.PACKED, Primitives.ECP5),
    "averages-4-lut": (AVERAGES, 4, Multipliers.LUT, Primitives.NONE),
}
SPEEDS = {"full speed": None, "stalls": 7}


class Design:
    """A generated directory with its simulator, and golden's answer to whatever is played."""

    def __init__(self, shape, contexts, kind, primitives, folder):
        self.contexts, self.program = contexts, random_program(shape, find_scheme("w4a5-se"), 5)
        plan = choose_streaming(shape, self.program.scheme)
        self.lanes = Lanes(mac=1, scan=plan.lanes.scan)
        self.made = write_streaming_design(
            self.program,
            plan,
            random_stimulus(self.program, 1, 0, contexts),
            preset="contexts",
            folder=folder / "design",
            multipliers=kind,
            primitives=primitives,
            persistent=True,
            contexts=contexts,
        )
        self.simulation = StreamingCosimulation(folder / "design", folder / "simulation")

    def stream(self, frames, seed, *turns):
        """Return random frames, of the given contexts in turn."""
        stream = random_stimulus(self.program, frames, seed, self.contexts)
        context = np.resize(turns, frames).repeat(self.program.shape.frame.rows)
        return replace(stream, context=context)

    def words(self, state):
        return state_words(self.program, self.lanes, state, 0)

    def play(
        self, stream, operations=(), *, reset_at_last=False, stall_seed=None, cut=False, saved=None
    ):
        """Play frames and save all contexts; everything must be golden's.

        Return what was recorded, and golden's saved states.
        """
        operations = [
            *operations,
            *(
                Operation(
                    position=int(stream.last.sum()), kind="save", context=own, name=f"end {own}"
                )
                for own in range(self.contexts)
            ),
        ]
        trace, states = played_trace(
            self.program, stream, operations, reset_at_last=reset_at_last, saved=saved
        )
        stimulus = frame_stimulus(
            self.made,
            trace,
            stall_seed=stall_seed,
            cut=cut,
            reset_at_last=reset_at_last,
            operations=operations,
            states={name: self.words(state) for name, state in (saved or {}).items()},
        )
        outcome = self.simulation.run(stimulus)
        found = find_frame_differences(self.made, outcome, trace)
        assert [difference.text for difference in found] == []
        assert outcome.unaligned == 0
        for name, state in states.items():
            assert outcome.saved[name] == self.words(state), name
        return outcome, states


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def design(request, tmp_path_factory):
    return Design(*request.param, tmp_path_factory.mktemp("contexts"))


@pytest.fixture(params=SPEEDS.values(), ids=SPEEDS)
def stall_seed(request):
    return request.param


@pytest.mark.parametrize("reset_at_last", [True, False], ids=["at TLAST", "never"])
def test_random_interleaving_equals_golden_and_costs_no_cycle(design, stall_seed, reset_at_last):
    stream = random_stimulus(design.program, 12, 4, design.contexts)
    assert len(set(stream.context.tolist())) == design.contexts
    stalls = stall_seed is not None
    if stalls:
        stream.tokens[np.random.default_rng(1).random(len(stream.tokens)) < 0.4] = 0
    outcome, states = design.play(
        stream, stall_seed=stall_seed, cut=stalls, reset_at_last=reset_at_last
    )
    if not stalls:
        assert set(outcome.frame_distances) == {design.made.plan.frame_interval}
    # By policy what a frame leaves behind is not there for the next one, nor for the host.
    assert any(state.scan.any() for state in states.values()) != reset_at_last


def test_reset_of_one_context_leaves_the_others_alone(design, stall_seed):
    resets = [Operation(position=p, kind="reset", context=p % 2) for p in (3, 6, 7)]
    design.play(design.stream(10, 4, 0, 1), resets, stall_seed=stall_seed)


def test_state_of_one_context_continues_in_another(design, stall_seed):
    """Context 0 is saved while 1 is in the middle; 1 continues from it, and 0 goes on."""
    operations = [
        Operation(position=3, kind="save", context=0, name="first"),
        Operation(position=5, kind="save", context=1, name="second"),
        Operation(position=5, kind="restore", context=1, name="first"),
    ]
    stream = design.stream(9, 5, 0, 1)
    _, states = design.play(stream, operations, stall_seed=stall_seed)
    assert not np.array_equal(states["first"].scan, states["second"].scan)


def test_rollback_of_one_context_while_another_goes_on(design, stall_seed):
    operations = [
        Operation(position=3, kind="save", context=1, name="checked"),
        Operation(position=7, kind="restore", context=1, name="checked"),
    ]
    _, states = design.play(design.stream(10, 6, 1, 0), operations, stall_seed=stall_seed)
    assert states["checked"].scan.any()


def test_a_state_continues_in_another_context_of_another_simulation(design, stall_seed):
    """Saved in the midst of context 0, it goes on as the last context beside other frames."""
    save = Operation(position=4, kind="save", context=0, name="moved")
    first = design.stream(8, 7, 0, 1)
    before, states = design.play(first, [save], stall_seed=stall_seed)
    last, rows = design.contexts - 1, design.program.shape.frame.rows
    second = design.stream(6, 8, 0, last)
    frames = second.tokens.reshape(6, rows, -1)
    frames[3::2] = first.tokens.reshape(8, rows, -1)[4::2]
    restore = Operation(position=3, kind="restore", context=last, name="moved")
    saved = {"moved": states["moved"]}
    after, _ = design.play(second, [restore], stall_seed=stall_seed, saved=saved)
    values = [
        np.array([value for value, *_ in played.outputs]).reshape(
            -1, design.program.shape.vocabulary
        )
        for played in (before, after)
    ]
    assert np.array_equal(values[0][4::2], values[1][3::2])
