"""What every benchmark hands over: figures beside their targets, and the machine they hold for."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from golden import command
from golden.builtin import builtin_path, load_builtin
from golden.presets import find_preset
from golden.program import Program
from golden.random_program import random_program
from golden.scheme import find_scheme

PRESET, SCHEME = "bytelm", "w8a8"
FOLDER = Path("build/bench")
"""Where benchmarks write, below the working directory."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number.

    Parameters
    ----------
    name : what was measured
    value, unit : the number
    target : the bound that the project has set itself, or None
    at_least : whether the target is a lower bound; else an upper one
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = True

    @property
    def ratio(self) -> float | None:
        """How many times better than the target the value is; below 1 misses it."""
        if self.target is None:
            return None
        return self.value / self.target if self.at_least else self.target / self.value


def machine() -> dict[str, Any]:
    """Describe this machine; the load tells whether something else was running."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    """Return the processor's name where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown"


def measured_program() -> tuple[Program, str]:
    """Return the program that is timed, and whether its weights are "trained" or "random".

    Without the built-in artifact they are random, which changes no number of cycles.
    """
    scheme = find_scheme(SCHEME)
    if builtin_path(PRESET, SCHEME).is_file():
        return load_builtin(PRESET, scheme), "trained"
    return random_program(find_preset(PRESET), scheme), "random"


def print_figures(figures: Sequence[Figure]) -> None:
    """Print a table with the ratio of every figure to its target."""
    width = max(len(figure.name) for figure in figures)
    print(f"{'figure':{width}}  {'value':>12} {'unit':10} {'target':>12} {'ratio':>8}")
    for figure in figures:
        bound = ">=" if figure.at_least else "<="
        target = "" if figure.target is None else f"{bound} {figure.target:,g}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:,.2f}"
        print(f"{figure.name:{width}}  {value:>12} {figure.unit:10} {target:>12} {ratio:>8}")


def write_report(path: Path, figures: Sequence[Figure], **details: Any) -> None:
    """Write figures, details and the machine as JSON, and print the figures."""
    report = {
        "machine": machine(),
        "figures": [asdict(figure) | {"ratio": _rounded(figure.ratio)} for figure in figures],
        **details,
    }
    command.atomic_write(path, json.dumps(report, indent=1).encode() + b"\n")
    print_figures(figures)


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)
