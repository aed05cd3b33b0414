"""A generated design compiled with Verilator, and the record of its probes."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.cocotb_runner import SelectiveVerilator, build, simulate
from sim.monitor import WRAPPER, probe_names, wrapper_verilog

__all__ = ["PROGRESS", "CompiledDesign", "Record"]

PROGRESS = "progress.txt"
"""File of a run's folder that receives each token as soon as it is played."""


@dataclass(frozen=True)
class Record:
    """What the wrapper of a design wrote down.

    Parameters
    ----------
    taken : cycles in which tokens were taken, each the one before the token's cycle 0
    rows : the same of projected rows, none in a design without
    probes : cycles and unsigned values of every probe point, in order of appearance
    """

    taken: np.ndarray
    rows: np.ndarray
    probes: dict[str, tuple[np.ndarray, np.ndarray]]


class CompiledDesign:
    """A generated design of either organisation, compiled once and run with any stimulus.

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

    def simulate(
        self,
        test_module: str,
        stimulus: str,
        name: str,
        *,
        images: Path | None = None,
        plusargs: Mapping[str, str] | None = None,
    ) -> tuple[Record, dict[str, Any]]:
        """Run a cocotb test and return the record and the JSON object that the test wrote.

        Parameters
        ----------
        test_module : importable name; it reads the plusargs stimulus, outcome and progress
        stimulus : JSON text
        name : subfolder for the files
        images : replaces the design's folder of memory images
        plusargs : more of them, for the Verilog

        Raises
        ------
        SimulationError
            If the simulation fails.
        """
        directory = self.folder / name
        directory.mkdir(exist_ok=True)
        linked = directory / "mem"
        linked.unlink(missing_ok=True)
        linked.symlink_to((images or self.design / "mem").resolve())
        (directory / "stimulus.json").write_text(stimulus)
        record, outcome = directory / "record.txt", directory / "outcome.json"
        simulate(
            # The runner keeps the arguments of a run: a copy lets runs go on side by side.
            copy.copy(self._simulator),
            test_module=test_module,
            directory=directory,
            # The bench asserts nothing, and rewriting assertions takes longer than a short run.
            variables={"COCOTB_REWRITE_ASSERTION_FILES": ""},
            plusargs={
                **(plusargs or {}),
                "record": str(record),
                "stimulus": str(directory / "stimulus.json"),
                "outcome": str(outcome),
                "progress": str(directory / PROGRESS),
            },
        )
        return self._read(record), json.loads(outcome.read_text())

    def _read(self, record: Path) -> Record:
        numbers: dict[int, tuple[list[int], list[str]]] = {
            number: ([], []) for number in range(len(self.probe_names) + 2)
        }
        with record.open() as lines:
            for line in lines:
                number, cycle, value = line.split()
                cycles, values = numbers[int(number)]
                cycles.append(int(cycle))
                values.append(value)
        return Record(
            np.array(numbers[0][0], dtype=np.int64),
            np.array(numbers[len(self.probe_names) + 1][0], dtype=np.int64),
            {
                name: (
                    np.array(numbers[number][0]),
                    np.array([int(value, 16) for value in numbers[number][1]], dtype=object),
                )
                for number, name in enumerate(self.probe_names, start=1)
            },
        )
