"""Runs every fault of the streaming organisation until a stream of frames shows it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from golden import vectors
from golden.configuration import AverageShape, FrameShape, NetworkShape, PatchShape
from golden.errors import InputError
from golden.random_program import random_program
from golden.scheme import find_scheme
from hw.lanes import Lanes
from hw.multiplier import Multipliers
from hw.streaming.choice import choose_streaming
from hw.streaming.generate import write_streaming_design
from sim.cosimulation import Difference
from sim.mutation.average_faults import AVERAGE_FAULTS
from sim.mutation.campaign import Verdict, wrong_states
from sim.mutation.frame_context_faults import AVERAGE_CONTEXT_FAULTS, SCAN_CONTEXT_FAULTS
from sim.mutation.schemata import SELECTOR, Fault, build_schemata
from sim.mutation.streaming_faults import STREAMING_FAULTS
from sim.operations import Operation, played_trace, state_words
from sim.streaming_cosimulation import (
    FrameStimulus,
    StreamingCosimulation,
    find_frame_differences,
    frame_stimulus,
)

__all__ = ["AVERAGE_SHAPE", "SHAPE", "STREAMING_SUBJECTS", "StreamingCampaign"]

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
AVERAGE_SHAPE = NetworkShape(
    vocabulary=2,
    d_model=6,
    d_inner=9,
    d_state=1,
    d_conv=3,
    dt_rank=9,
    n_layer=2,
    frame=FrameShape(features=3, tokens=3, patch=PatchShape(width=3, kernel=4, stride=2)),
    average=AverageShape(),
)
STREAMING_SUBJECTS = {
    "scan": (SHAPE, (*STREAMING_FAULTS, *SCAN_CONTEXT_FAULTS)),
    "average": (AVERAGE_SHAPE, (*AVERAGE_FAULTS, *AVERAGE_CONTEXT_FAULTS)),
}
"""Networks and the faults that their Verilog has places for."""
FRAMES = 8
"""More than are under way, so that credit must come back."""
CONTEXTS = 2
_OPERATIONS = (
    Operation(position=2, kind="reset", context=1),
    Operation(position=4, kind="save", context=0, name="first"),
    Operation(position=5, kind="save", context=1, name="second"),
    Operation(position=6, kind="reset", context=1),
    Operation(position=6, kind="restore", context=1, name="first"),
    Operation(position=FRAMES, kind="save", context=0, name="end of 0"),
    Operation(position=FRAMES, kind="save", context=1, name="end of 1"),
)
"""Of a host, while frames of both contexts take turns: resets, each in front of a frame of the
other context, a move to that, and what is left at the end."""


@dataclass(frozen=True)
class FrameScenario:
    """One stream of frames and what golden expects.

    Parameters
    ----------
    stimulus : what is played
    trace : golden's values
    saved : golden's words of every state that the host saves
    """

    stimulus: FrameStimulus
    trace: vectors.Trace
    saved: dict[str, list[list[int]]] = field(default_factory=dict)


def _order(difference: Difference) -> tuple[bool, int]:
    """Sort by time, what has none last."""
    return difference.cycle is None, difference.cycle or 0


class StreamingCampaign:
    """A small frame network of two contexts with all faults built in, compiled once.

    Parameters
    ----------
    folder : empty or missing; receives the design, the simulator and the records
    shape : of the network
    faults : to build in
    multipliers : what multiplies; hardware multipliers take two products each

    Raises
    ------
    InputError
        If a fault's pattern no longer fits the Verilog.
    """

    def __init__(
        self,
        folder: Path,
        shape: NetworkShape = SHAPE,
        faults: Sequence[Fault] = STREAMING_FAULTS,
        multipliers: Multipliers = Multipliers.DSP,
    ) -> None:
        self._faults = faults
        program = random_program(shape, find_scheme("w4a8"), seed=3)
        plan = choose_streaming(shape, program.scheme)
        stimulus = vectors.random_stimulus(program, FRAMES, 0, CONTEXTS)
        self.made = write_streaming_design(
            program,
            plan,
            stimulus,
            preset="mutation",
            folder=folder / "design",
            multipliers=multipliers,
            persistent=True,
            contexts=CONTEXTS,
        )
        schemata = folder / "schemata"
        build_schemata(folder / "design", self.made.top, faults, schemata)
        self.scenarios = self._streams(stimulus)
        self._simulation = StreamingCosimulation(schemata, folder / "simulation")

    def _streams(self, stimulus: vectors.Stimulus) -> dict[str, FrameScenario]:
        """Return the streams by name in the order of playing."""
        made, plan = self.made, self.made.plan
        play = partial(frame_stimulus, made, reset_at_last=False)
        features = stimulus.tokens.copy()
        features[np.random.default_rng(1).random(len(features)) < 0.4] = 0
        # Here every frame is a sequence, elsewhere the states go on.
        cut = vectors.trace(made.program, features, stimulus.last, stimulus.context)
        turns = np.resize((0, 1), FRAMES).repeat(len(stimulus.tokens) // FRAMES)
        hosted, states = played_trace(
            made.program, replace(stimulus, context=turns), _OPERATIONS, reset_at_last=False
        )
        lanes = Lanes(mac=1, scan=plan.lanes.scan)
        return {
            "full speed": FrameScenario(play(made.trace), made.trace),
            "save and restore": FrameScenario(
                play(hosted, operations=_OPERATIONS),
                hosted,
                {name: state_words(made.program, lanes, own, 0) for name, own in states.items()},
            ),
            "stalls, short frames": FrameScenario(
                play(cut, stall_seed=5, cut=True, reset_at_last=True), cut
            ),
            "outputs wait": FrameScenario(
                replace(
                    play(made.trace, stall_seed=5),
                    # Few features pause, but outputs soon, longer than all room takes to fill.
                    pause_rate=0.01,
                    longest_stall=3 * (plan.frames_under_way + 1) * plan.frame_interval,
                ),
                made.trace,
            ),
        }

    def play(self, scenario: str, number: int) -> Difference | None:
        """Play one stream with fault ``number`` (0: none); return what differs first in time."""
        own = self.scenarios[scenario]
        outcome = self._simulation.run(
            own.stimulus, f"fault{number}", plusargs={SELECTOR: str(number)}
        )
        found = find_frame_differences(self.made, outcome, own.trace)
        return min([*found, *wrong_states(outcome.saved, own.saved)], key=_order, default=None)

    def try_fault(self, number: int) -> Verdict:
        """Play streams with fault ``number`` (from 1) until one shows it."""
        fault = self._faults[number - 1]
        for scenario in self.scenarios:
            found = self.play(scenario, number)
            if found is not None:
                return Verdict(
                    fault.name, fault.unit, fault.kind, scenario, found.source, found.text
                )
        return Verdict(fault.name, fault.unit, fault.kind, None, None, "")

    def run(self, workers: int | None = None) -> list[Verdict]:
        """Return the verdict of every fault, in the order of the table.

        Raises
        ------
        InputError
            If golden and the design differ without a fault.
        """
        for scenario in self.scenarios:
            found = self.play(scenario, 0)
            if found is not None:
                raise InputError(
                    f"without a fault the design differs from golden at {scenario}: {found.text}; "
                    "make these equal first"
                )
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            return list(pool.map(self.try_fault, range(1, len(self._faults) + 1)))
