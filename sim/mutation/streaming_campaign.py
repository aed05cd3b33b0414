"""Runs every fault of the streaming organisation until a stream of frames shows it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from golden import vectors
from golden.configuration import AverageShape, FrameShape, NetworkShape, PatchShape
from golden.errors import InputError
from golden.random_program import random_program
from golden.scheme import find_scheme
from hw.multiplier import Multipliers
from hw.streaming.choice import choose_streaming
from hw.streaming.generate import write_streaming_design
from sim.cosimulation import Difference
from sim.mutation.average_faults import AVERAGE_FAULTS
from sim.mutation.campaign import Verdict
from sim.mutation.schemata import SELECTOR, Fault, build_schemata
from sim.mutation.streaming_faults import STREAMING_FAULTS
from sim.streaming_cosimulation import (
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
    "scan": (SHAPE, STREAMING_FAULTS),
    "average": (AVERAGE_SHAPE, AVERAGE_FAULTS),
}
"""Networks and the faults that their Verilog has places for."""
FRAMES = 8
"""More than are under way, so that credit must come back."""


def _order(difference: Difference) -> tuple[bool, int]:
    """Sort by time, what has none last."""
    return difference.cycle is None, difference.cycle or 0


class StreamingCampaign:
    """A small frame network with all faults built in, compiled once.

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
        stimulus = vectors.random_stimulus(program, FRAMES, 0)
        self.made = write_streaming_design(
            program,
            plan,
            stimulus,
            preset="mutation",
            folder=folder / "design",
            multipliers=multipliers,
            # Faults of what persists are among those of averages.
            persistent=shape.average is not None,
        )
        schemata = folder / "schemata"
        build_schemata(folder / "design", self.made.top, faults, schemata)
        features = stimulus.tokens.copy()
        features[np.random.default_rng(1).random(len(features)) < 0.4] = 0
        cut = vectors.trace(program, features, stimulus.last)
        self.scenarios = {
            "full speed": (self.made.trace, frame_stimulus(self.made, self.made.trace)),
            "stalls, short frames": (
                cut,
                frame_stimulus(self.made, cut, stall_seed=5, cut=True),
            ),
            "outputs wait": (
                self.made.trace,
                replace(
                    frame_stimulus(self.made, self.made.trace, stall_seed=5),
                    # Few features pause, but outputs soon, longer than all room takes to fill.
                    pause_rate=0.01,
                    longest_stall=3 * (plan.frames_under_way + 1) * plan.frame_interval,
                ),
            ),
        }
        self._simulation = StreamingCosimulation(schemata, folder / "simulation")

    def play(self, scenario: str, number: int) -> Difference | None:
        """Play one stream with fault ``number`` (0: none); return what differs first in time."""
        trace, stimulus = self.scenarios[scenario]
        name = f"fault{number}"
        outcome = self._simulation.run(stimulus, name, plusargs={SELECTOR: str(number)})
        return min(find_frame_differences(self.made, outcome, trace), key=_order, default=None)

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
