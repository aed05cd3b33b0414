"""Cosimulates a generated design with cocotb on Verilator against its golden program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from golden.vectors import Trace
from hw.expectation import expected_probe
from hw.generate import Generated
from sim.compiled_design import CompiledDesign, Record
from sim.operations import Operation


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """What the test bench plays.

    Parameters
    ----------
    tokens, last : the stream
    context : of every token, empty for 0; generated tokens belong to the contexts in turn
    contexts : C, as the design has them
    operations : of the host between tokens
    states : saved words by name that operations may restore
    generate : tokens to add, each the arg-max of the one before
    stall_seed : random stalls on all streams from this seed; None for full speed
    longest_stall : cycles between tokens when stalling
    reset_at_last, emit_logits : control register
    temperature, sampling_seed, logit_fraction : how generated tokens are drawn from the logits;
        temperature 0 takes the arg-max that the hardware returns
    vocabulary : V
    watchdog : cycles after which to end with what was recorded so far; None waits for all of it
    """

    tokens: list[int]
    last: list[int]
    vocabulary: int
    context: list[int] = field(default_factory=list)
    contexts: int = 1
    operations: list[Operation] = field(default_factory=list)
    states: dict[str, list[list[int]]] = field(default_factory=dict)
    generate: int = 0
    stall_seed: int | None = None
    longest_stall: int = 1
    reset_at_last: bool = True
    emit_logits: bool = True
    watchdog: int | None = None
    temperature: float = 0.0
    sampling_seed: int = 0
    logit_fraction: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a cosimulation recorded.

    Parameters
    ----------
    starts : cycle 0 of every token
    probes : cycles and values of every probe point, in order of appearance
    tokens, last, context : the tokens that were played, generated ones included
    results, logits : values that left the streams
    result_last : TLAST of every result
    result_context, logit_context : TID of every result and logit, zero with one context
    saved : words of both state memories by the name of the operation that saved them
    finished : False if the watchdog ended the simulation
    """

    starts: np.ndarray
    probes: dict[str, tuple[np.ndarray, np.ndarray]]
    tokens: list[int]
    last: list[int]
    context: list[int]
    results: list[int]
    result_last: list[int]
    result_context: list[int]
    logits: list[int]
    logit_context: list[int]
    saved: dict[str, list[list[int]]]
    finished: bool

    @property
    def cycles(self) -> int:
        """Return the cycles between the first token's start and the last recorded value."""
        return int(max(cycles[-1] for cycles, _ in self.probes.values()) - self.starts[0])


class Cosimulation(CompiledDesign):
    """A design of the shared organisation, compiled once and run with any number of stimuli.

    Parameters
    ----------
    design : folder that :mod:`hw.generate` wrote
    folder : where the simulator is built and its records go
    """

    def run(
        self,
        stimulus: Stimulus,
        name: str = "run",
        *,
        images: Path | None = None,
        plusargs: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Play ``stimulus`` and return what was recorded; ``name`` is a subfolder for the files.

        ``images`` replaces the design's folder of memory images; ``plusargs`` go to the Verilog.

        Raises
        ------
        SimulationError
            If the simulation fails.
        """
        content = json.dumps(asdict(stimulus))
        record, played = self.simulate(
            "sim.top_bench", content, name, images=images, plusargs=plusargs
        )
        return _outcome(record, played)


def _outcome(record: Record, played: dict[str, Any]) -> Outcome:
    """Return what the wrapper and the bench recorded."""
    return Outcome(
        # The recorded cycle is the one in which the token was taken.
        starts=record.taken + 1,
        probes=record.probes,
        tokens=played["tokens"],
        last=played["last"],
        context=played["context"],
        results=[value for value, _, _ in played["results"]],
        result_last=[last for _, last, _ in played["results"]],
        result_context=[context for _, _, context in played["results"]],
        logits=[value for value, _, _ in played["logits"]],
        logit_context=[context for _, _, context in played["logits"]],
        saved=played["saved"],
        finished=played["finished"],
    )


@dataclass(frozen=True)
class Difference:
    """The first place in which a probe or a stream is not as golden says.

    Parameters
    ----------
    source : name of the probe or stream
    cycle : when the value was due; None for a stream
    text : one line for people
    """

    source: str
    cycle: int | None
    text: str


def find_differences(generated: Generated, outcome: Outcome, trace: Trace) -> list[Difference]:
    """Return each probe or stream that differs in value or cycle, else nothing."""
    found = []
    for name, (cycles, values) in outcome.probes.items():
        expected = expected_probe(name, generated.program, generated.lanes, trace)
        mask = (1 << generated.probe_widths[name][0]) - 1
        wanted = np.array([int(value) & mask for value in expected.ravel()], dtype=object)
        due = (outcome.starts[:, None] + generated.schedule.probes[name]).ravel()
        found += _first_difference(name, (due, wanted), (cycles, values), expected.shape[1])
    vocabulary = generated.program.shape.vocabulary
    for name, wanted_list, seen in (
        ("results", trace.probes["token"].ravel().tolist(), outcome.results),
        ("result TLAST", trace.last.tolist(), outcome.result_last),
        ("result TID", trace.context.tolist(), outcome.result_context),
        ("logits", trace.probes["logits"].ravel().tolist(), outcome.logits),
        ("logits TID", trace.context.repeat(vocabulary).tolist(), outcome.logit_context),
    ):
        if wanted_list != seen and (seen or not name.startswith("logits")):
            text = f"stream of {name}: expected {wanted_list[:8]}, found {seen[:8]} (first 8)"
            found.append(Difference(f"stream of {name}", None, text))
    if not outcome.finished:
        found.append(Difference("watchdog", None, "the streams did not end in time"))
    return found


def differences(generated: Generated, outcome: Outcome, trace: Trace) -> list[str]:
    """Return one line for each probe or stream that differs in value or cycle, else nothing."""
    return [difference.text for difference in find_differences(generated, outcome, trace)]


def _first_difference(
    name: str,
    expected: tuple[np.ndarray, np.ndarray],
    seen: tuple[np.ndarray, np.ndarray],
    count: int,
) -> list[Difference]:
    """Compare cycles and values of a probe with ``count`` values a token."""
    (due, wanted), (cycles, values) = expected, seen
    common = min(len(due), len(wanted), len(cycles))
    different = np.flatnonzero(
        (wanted[:common] != values[:common]) | (due[:common] != cycles[:common])
    )
    if different.size:
        first = int(different[0])
        token, place = divmod(first, count)
        text = (
            f"{name}, token {token}, position {place}: {values[first]} in cycle {cycles[first]}, "
            f"expected {wanted[first]} in cycle {due[first]}"
        )
        return [Difference(name, int(min(due[first], cycles[first])), text)]
    if len(wanted) == len(values) == len(due):
        return []
    later = next((int(rest[common]) for rest in (due, cycles) if len(rest) > common), None)
    return [Difference(name, later, f"{name}: {len(values)} values, expected {len(wanted)}")]
