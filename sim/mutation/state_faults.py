"""Faults of what saves and restores a state, and the streams of a host that does."""

from __future__ import annotations

import dataclasses

import numpy as np

from golden import vectors
from golden.program import Program
from hw.lanes import Lanes
from hw.schedule import Schedule
from sim.cosimulation import Stimulus
from sim.mutation.linear_faults import ANONYMOUS
from sim.mutation.schemata import Fault
from sim.mutation.strained import Scenario, strained_formats
from sim.operations import Operation, played_trace, state_words

LANES = Lanes(mac=4, scan=2, contexts=2)

_CONTROL = "control"
_LENGTH = 12
_TURNS = (0, 1)
_OPERATIONS = (
    Operation(position=3, kind="reset", context=1),
    Operation(position=4, kind="save", context=0, name="first"),
    Operation(position=6, kind="save", context=1, name="second"),
    Operation(position=8, kind="reset", context=1),
    Operation(position=8, kind="restore", context=1, name="first"),
    Operation(position=9, kind="save", context=1, name="third"),
    Operation(position=10, kind="restore", context=0, name="first"),
)
"""Resets, a move to the other context and a rollback, each in the middle of sequences."""

STATE_FAULTS = (
    Fault(
        name="state's address does not count",
        unit=_CONTROL,
        kind="every word read or written is the first one",
        pattern=r"= (?P<site>state_address \+ 1'h1);",
        faulty="state_address",
    ),
    Fault(
        name="neighbouring word of the scan",
        unit=_CONTROL,
        kind="words of the scan's state are read and written in each other's place",
        pattern=r"assign scan_access_address = (?P<site>state_address\[\d+:0\]);",
        faulty="{site} ^ 1'h1",
    ),
    Fault(
        name="window's word cut",
        unit=_CONTROL,
        kind="the oldest inputs of the convolution are saved as zeros",
        pattern=r"= state_select \? (?P<site>window_access_read_data) :",
        faulty="window_access_read_data[7:0]",
    ),
    Fault(
        name="scan written with the window",
        unit=_CONTROL,
        kind="words for the convolution overwrite the scan's state too",
        pattern=rf"assign scan_access_write = state_writing & (?P<site>{ANONYMOUS});",
        faulty="1'h1",
    ),
    Fault(
        name="window not restored",
        unit=_CONTROL,
        kind="the convolution keeps the inputs that a restore should replace",
        pattern=rf"assign window_access_write = (?P<site>state_writing & {ANONYMOUS});",
        faulty="1'h0",
    ),
    Fault(
        name="written state is shifted",
        unit=_CONTROL,
        kind="the scan's state is restored one bit off",
        pattern=r"assign scan_access_write_data = (?P<site>state_shadow\[\d+:0\]);",
        faulty="state_shadow >> 1",
    ),
    Fault(
        name="reset is a command of both contexts",
        unit="engine_sequencer",
        kind="a reset of one context starts the other one afresh too",
        pattern=rf"= reset_request & (?P<site>{ANONYMOUS});",
        faulty="1'h1",
        places=2,
    ),
    Fault(
        name="restored state is not resumed",
        unit="engine_sequencer",
        kind="a context that was reset stays fresh although a state was restored",
        pattern=rf"= (?P<site>resume_request) & {ANONYMOUS};",
        faulty="1'h0",
        places=2,
    ),
    Fault(
        name="context of a word ignored",
        unit="engine_scan",
        kind="a restore writes the first context, whichever is selected",
        pattern=r"\$0 \((?P<site>access_context)\)",
        faulty="1'h0",
    ),
)


def state_program() -> Program:
    """Return the program whose states are saved and restored."""
    return strained_formats()


def state_streams(program: Program, schedule: Schedule, length: int | None) -> list[Scenario]:
    """Return streams in which a host saves, moves, rolls back and resets, at both speeds."""
    del length
    drawn = vectors.random_stimulus(program, _LENGTH, 4, LANES.contexts)
    stream = dataclasses.replace(
        drawn, last=np.zeros_like(drawn.last), context=np.resize(_TURNS, _LENGTH)
    )
    trace, states = played_trace(program, stream, _OPERATIONS)
    saved = {name: state_words(program, LANES, state, 0) for name, state in states.items()}
    full = Stimulus(
        tokens=stream.tokens.tolist(),
        last=stream.last.tolist(),
        context=stream.context.tolist(),
        contexts=LANES.contexts,
        vocabulary=program.shape.vocabulary,
        operations=list(_OPERATIONS),
    )
    stalled = dataclasses.replace(full, stall_seed=5, longest_stall=2 * schedule.interval)
    return [
        Scenario(name, stimulus, trace, saved)
        for name, stimulus in (("save and restore", full), ("the same under stalls", stalled))
    ]
