"""Cosimulates a generated design with cocotb on Verilator against its golden program."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from golden.vectors import Trace
from hw.expectation import expected_probe
from hw.generate import Generated
from sim.cocotb_runner import SelectiveVerilator, build, simulate
from sim.monitor import WRAPPER, probe_names, wrapper_verilog

PROGRESS = "progress.txt"
"""File of a run's folder that receives each token as soon as it is played."""


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """What the test bench plays.

    Parameters
    ----------
    tokens, last : the stream
    generate : tokens to add, each the arg-max of the one before
    stall_seed : random stalls on all streams from this seed; None for full speed
    longest_stall : cycles between tokens when stalling
    reset_at_last, emit_logits : control register
    temperature, sampling_seed, logit_fraction : how generated tokens are drawn from the logits;
        temperature 0 takes the arg-max that the hardware returns
    vocabulary : V
    """

    tokens: list[int]
    last: list[int]
    vocabulary: int
    generate: int = 0
    stall_seed: int | None = None
    longest_stall: int = 1
    reset_at_last: bool = True
    emit_logits: bool = True
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
    tokens : the tokens that were played, generated ones included
    results, logits : values that left the streams
    result_last : TLAST of every result
    """

    starts: np.ndarray
    probes: dict[str, tuple[np.ndarray, np.ndarray]]
    tokens: list[int]
    last: list[int]
    results: list[int]
    result_last: list[int]
    logits: list[int]

    @property
    def cycles(self) -> int:
        """Return the cycles between the first token's start and the last recorded value."""
        return int(max(cycles[-1] for cycles, _ in self.probes.values()) - self.starts[0])


class Cosimulation:
    """A generated design, compiled once and run with any number of stimuli.

    Parameters
    ----------
    design : folder that :mod:`hw.generate` wrote
    folder : where the simulator is built and its records go
    """

    def __init__(self, design: Path, folder: Path) -> None:
        self.design, self.folder = design.resolve(), folder.resolve()
        manifest = json.loads((self.design / "manifest.json").read_text())
        self.top: str = manifest["top"]
        self.probe_names = probe_names(self.design / "rtl" / f"{self.top}_engine.v")
        self.folder.mkdir(parents=True, exist_ok=True)
        wrapper = self.folder / f"{WRAPPER}.v"
        wrapper.write_text(wrapper_verilog(self.design))
        self._simulator: SelectiveVerilator = build(
            sources=[wrapper, *sorted((self.design / "rtl").glob("*.v"))],
            top=WRAPPER,
            directory=self.folder / "build",
            arguments=["-O3", "--x-assign", "fast", "--x-initial", "fast"],
        )

    def run(self, stimulus: Stimulus, name: str = "run") -> Outcome:
        """Play ``stimulus`` and return what was recorded; ``name`` is a subfolder for the files.

        Raises
        ------
        SimulationError
            If the simulation fails.
        """
        directory = self.folder / name
        directory.mkdir(exist_ok=True)
        images = directory / "mem"
        if not images.exists():
            images.symlink_to(self.design / "mem")
        (directory / "stimulus.json").write_text(json.dumps(stimulus.__dict__))
        record, outcome = directory / "record.txt", directory / "outcome.json"
        simulate(
            self._simulator,
            test_module="sim.top_bench",
            directory=directory,
            plusargs={
                "record": str(record),
                "stimulus": str(directory / "stimulus.json"),
                "outcome": str(outcome),
                "progress": str(directory / PROGRESS),
            },
        )
        return self._read(record, json.loads(outcome.read_text()))

    def _read(self, record: Path, played: dict[str, Any]) -> Outcome:
        numbers: dict[int, tuple[list[int], list[str]]] = {
            number: ([], []) for number in range(len(self.probe_names) + 1)
        }
        with record.open() as lines:
            for line in lines:
                number, cycle, value = line.split()
                cycles, values = numbers[int(number)]
                cycles.append(int(cycle))
                values.append(value)
        probes = {
            name: (
                np.array(numbers[number][0]),
                np.array([int(value, 16) for value in numbers[number][1]], dtype=object),
            )
            for number, name in enumerate(self.probe_names, start=1)
        }
        return Outcome(
            # The recorded cycle is the one in which the token was taken.
            starts=np.array(numbers[0][0]) + 1,
            probes=probes,
            tokens=played["tokens"],
            last=played["last"],
            results=[value for value, _ in played["results"]],
            result_last=[last for _, last in played["results"]],
            logits=[value for value, _ in played["logits"]],
        )


def differences(generated: Generated, outcome: Outcome, trace: Trace) -> list[str]:
    """Return one line for each probe or stream that differs in value or cycle, else nothing."""
    found = []
    for name, (cycles, values) in outcome.probes.items():
        expected = expected_probe(name, generated.program, generated.lanes, trace)
        mask = (1 << generated.probe_widths[name][0]) - 1
        wanted = np.array([int(value) & mask for value in expected.ravel()], dtype=object)
        due = (outcome.starts[:, None] + generated.schedule.probes[name]).ravel()
        found += _first_difference(name, "value", wanted, values, expected.shape[1])
        found += _first_difference(name, "cycle", due, cycles, expected.shape[1])
    for name, wanted_list, seen in (
        ("results", trace.probes["token"].ravel().tolist(), outcome.results),
        ("result TLAST", trace.last.tolist(), outcome.result_last),
        ("logits", trace.probes["logits"].ravel().tolist(), outcome.logits),
    ):
        if wanted_list != seen and (seen or name != "logits"):
            found.append(
                f"stream of {name}: expected {wanted_list[:8]}, found {seen[:8]} (first 8)"
            )
    return found


def _first_difference(
    name: str, kind: str, wanted: np.ndarray, seen: np.ndarray, count: int
) -> list[str]:
    """Return a line for the first difference of two sequences of a probe, or nothing."""
    if len(wanted) != len(seen):
        return [f"{name}: {len(seen)} values, expected {len(wanted)}"]
    different = np.flatnonzero(wanted != seen)
    if not different.size:
        return []
    token, place = divmod(int(different[0]), count)
    expected, found = wanted[different[0]], seen[different[0]]
    return [f"{name}, token {token}, position {place}: {kind} {found}, expected {expected}"]
