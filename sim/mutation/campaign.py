"""Runs every fault until a stream shows it, and says which probe showed it first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golden import vectors
from golden.errors import InputError
from golden.program import Program
from hw.generate import Generated, write_design
from hw.lanes import Lanes
from hw.schedule import Schedule
from sim.cosimulation import Cosimulation, Difference, Outcome, find_differences
from sim.mutation.control_faults import CONTROL_FAULTS, IMAGE_FAULTS, ImageFault
from sim.mutation.dense_faults import DENSE_FAULTS
from sim.mutation.format_faults import FORMAT_FAULTS, FORMAT_IMAGE_FAULTS
from sim.mutation.head_faults import HEAD_FAULTS, HEAD_IMAGE_FAULTS
from sim.mutation.linear_faults import LINEAR_FAULTS
from sim.mutation.mixer_faults import MIXER_FAULTS
from sim.mutation.mlp_faults import MLP_FAULTS
from sim.mutation.rotation_faults import ROTATION_FAULTS
from sim.mutation.schemata import SELECTOR, Fault, build_schemata, flip_bit
from sim.mutation.state_faults import LANES as STATE_LANES
from sim.mutation.state_faults import STATE_FAULTS, state_program, state_streams
from sim.mutation.strained import (
    LANES,
    Scenario,
    scenarios,
    strained_formats,
    strained_heads,
    strained_program,
    strained_ternary,
)
from sim.mutation.ternary_faults import TERNARY_FAULTS, TERNARY_IMAGE_FAULTS

RTL_FAULTS: tuple[Fault, ...] = (
    *LINEAR_FAULTS,
    *MIXER_FAULTS,
    *ROTATION_FAULTS,
    *MLP_FAULTS,
    *CONTROL_FAULTS,
)
PRESET = "mutation"


@dataclass(frozen=True)
class Verdict:
    """What became of one fault.

    Parameters
    ----------
    name, unit, kind : of the fault
    scenario : the stream that showed it, None for a survivor
    probe : the probe or stream that differed first in time, None for a survivor
    detail : that difference in words
    """

    name: str
    unit: str
    kind: str
    scenario: str | None
    probe: str | None
    detail: str

    @property
    def caught(self) -> bool:
        """Return whether any stream showed the fault."""
        return self.scenario is not None


def _order(difference: Difference) -> tuple[bool, int]:
    """Sort by time, what has none (a stream, or what never came) last."""
    return difference.cycle is None, difference.cycle or 0


def wrong_states(
    found: Mapping[str, list[list[int]]], golden: Mapping[str, list[list[int]]]
) -> list[Difference]:
    """Return every saved state, by name, whose words are not golden's."""
    return [
        Difference("saved state", None, f"state {name} is not what golden has then")
        for name, words in golden.items()
        if found.get(name) != words
    ]


@dataclass(frozen=True)
class Subject:
    """A network and the faults that its Verilog has places for.

    Parameters
    ----------
    program : makes the network
    rtl, images : its faults
    tokens : of a stream; without it all
    streams : makes the streams that have to show the faults
    lanes : of the design
    dense_trits : whether it stores five ternary weights in a byte
    """

    program: Callable[[], Program]
    rtl: tuple[Fault, ...]
    images: tuple[ImageFault, ...]
    tokens: int | None = None
    streams: Callable[[Program, Schedule, int | None], list[Scenario]] = scenarios
    lanes: Lanes = LANES
    dense_trits: bool = False


MIXED = Subject(strained_program, RTL_FAULTS, IMAGE_FAULTS)
"""Mamba-1 blocks with MLPs and a rotation."""
HEADS = Subject(strained_heads, HEAD_FAULTS, HEAD_IMAGE_FAULTS)
"""Mamba-2 blocks; faults of the units that the others do not have."""
TERNARY = Subject(strained_ternary, TERNARY_FAULTS, TERNARY_IMAGE_FAULTS, tokens=5)
"""Ternary blocks with deep memories; faults of what only these have."""
FORMATS = Subject(strained_formats, FORMAT_FAULTS, FORMAT_IMAGE_FAULTS, tokens=5)
"""Mamba-1 blocks of different width, with zero points and groups of weights; their faults."""
DENSE = Subject(strained_ternary, DENSE_FAULTS, (), tokens=5, dense_trits=True)
"""The ternary blocks with five weights a byte; faults of their decoder."""
STATE = Subject(state_program, STATE_FAULTS, (), streams=state_streams, lanes=STATE_LANES)
"""Two contexts whose states a host saves, restores and resets."""
SUBJECTS = {
    "mixed": MIXED, "heads": HEADS, "ternary": TERNARY, "formats": FORMATS, "dense": DENSE,
    "state": STATE,
}  # fmt: skip


class Campaign:
    """A design with all faults built in, compiled once.

    Parameters
    ----------
    folder : empty or missing; receives the design, the simulator and the records
    subject : what is made faulty

    Raises
    ------
    InputError
        If a fault's pattern no longer fits the Verilog.
    """

    def __init__(self, folder: Path, subject: Subject = MIXED) -> None:
        self.folder, self._subject = folder, subject
        program = subject.program()
        self.generated: Generated = write_design(
            program,
            subject.lanes,
            vectors.random_stimulus(program, 2, 0, subject.lanes.contexts),
            preset=PRESET,
            folder=folder / "design",
            dense_trits=subject.dense_trits,
        )
        build_schemata(folder / "design", self.generated.top, subject.rtl, folder / "schemata")
        self.scenarios = subject.streams(program, self.generated.schedule, subject.tokens)
        self._simulation = Cosimulation(folder / "schemata", folder / "simulation")

    def play(
        self, scenario: Scenario, name: str, *, number: int = 0, images: Path | None = None
    ) -> Difference | None:
        """Play one stream with fault ``number`` and return the difference that is first in time."""
        outcome = self._simulation.run(
            scenario.stimulus, name, images=images, plusargs={SELECTOR: str(number)}
        )
        found = [
            *self._wrong_starts(outcome, scenario),
            *find_differences(self.generated, outcome, scenario.trace),
            *wrong_states(outcome.saved, scenario.saved),
        ]
        return min(found, key=_order, default=None)

    def _wrong_starts(self, outcome: Outcome, scenario: Scenario) -> list[Difference]:
        """Return the first token that did not start, or not an interval after the one before.

        Probes are compared relative to their token's start, so this is what checks the starts.
        """
        interval, starts = self.generated.schedule.interval, outcome.starts
        late = np.flatnonzero(np.diff(starts) != interval)
        stops = scenario.stimulus.stall_seed is not None or scenario.stimulus.operations
        if not late.size or stops:
            taken, offered = len(starts), len(scenario.stimulus.tokens)
            text = f"{taken} tokens were taken of {offered}"
            return [] if taken == offered else [Difference("start", None, text)]
        token = int(late[0]) + 1
        text = f"token {token} starts {starts[token] - starts[token - 1]} cycles after the last"
        return [Difference("start", int(starts[token]), f"{text}, expected {interval}")]

    def try_rtl_fault(self, number: int) -> Verdict:
        """Play streams with fault ``number`` (from 1) until one shows it."""
        fault = self._subject.rtl[number - 1]
        return self._try(
            lambda scenario: self.play(scenario, f"fault{number}", number=number),
            Verdict(fault.name, fault.unit or "top", fault.kind, None, None, ""),
        )

    def try_image_fault(self, fault: ImageFault) -> Verdict:
        """Play streams with a flipped bit until one shows it."""
        images = self.folder / "images" / fault.image
        shutil.copytree(self.folder / "design" / "mem", images)
        flip_bit(images / f"{fault.image}.hex", fault.word, fault.bit)
        return self._try(
            lambda scenario: self.play(scenario, f"image_{fault.image}", images=images),
            Verdict(fault.name, f"{fault.image}.hex", fault.kind, None, None, ""),
        )

    def _try(self, play: Callable[[Scenario], Difference | None], survivor: Verdict) -> Verdict:
        for scenario in self.scenarios:
            found = play(scenario)
            if found is not None:
                return Verdict(
                    survivor.name,
                    survivor.unit,
                    survivor.kind,
                    scenario.name,
                    found.source,
                    found.text,
                )
        return survivor

    def check_original(self) -> None:
        """Play every stream without a fault; were that not golden, any fault would seem caught.

        Raises
        ------
        InputError
            If golden and the design differ.
        """
        for scenario in self.scenarios:
            found = self.play(scenario, "original")
            if found is not None:
                raise InputError(
                    f"without a fault the design differs from golden at {scenario.name}: "
                    f"{found.text}; make these equal first"
                )

    def run(self, workers: int | None = None) -> list[Verdict]:
        """Return the verdict of every fault, in the order of the tables.

        Raises
        ------
        InputError
            If golden and the design differ without a fault.
        """
        self.check_original()
        with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
            rtl = pool.map(self.try_rtl_fault, range(1, len(self._subject.rtl) + 1))
            images = pool.map(self.try_image_fault, self._subject.images)
            return [*rtl, *images]
