"""Seconds to generate the `bytelm` design: ``python -m bench.generation_speed``.

Times the whole command ``python -m hw.generate``, its start included, in a fresh process a round;
the best round counts, all are in the JSON file. The manifest's cycles and utilisation go along.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.measurement import FOLDER, PRESET, SCHEME, Figure, measured_program, write_report
from golden import command
from golden.artifact import to_bytes

TARGET_SECONDS = 60.0
KEPT = (
    "predicted_cycles_per_token",
    "predicted_cycles_single_stream",
    "array_utilisation",
    "array_utilisation_single_stream",
    "mac_lanes",
    "scan_lanes",
    "scheme",
)
"""Entries of the manifest that results quote."""

application = typer.Typer(add_completion=False)


def timed_generation(design: Path, artifact: Path) -> float:
    """Return the seconds of one generation into ``design``."""
    words = ["--preset", PRESET, "--scheme", SCHEME, "--artifact", str(artifact)]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "hw.generate", *words, "--out", str(design)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


@application.command()
def main(
    output: Annotated[Path, typer.Option("--json", help="report to write")] = (
        FOLDER / "generation.json"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="generations; the best counts")] = 3,
) -> None:
    """Time the generator and print the seconds beside the target."""
    program, weights = measured_program()
    artifact, design = FOLDER / f"{PRESET}-{SCHEME}.safetensors", FOLDER / "design"
    command.atomic_write(artifact, to_bytes(program))
    seconds = [timed_generation(design, artifact) for _ in range(rounds)]
    manifest: dict[str, Any] = json.loads((design / "manifest.json").read_text())
    figure = Figure(
        name=f"generate {PRESET} {SCHEME}",
        value=round(min(seconds), 2),
        unit="s",
        target=TARGET_SECONDS,
        at_least=False,
    )
    write_report(
        output,
        [figure],
        seconds=[round(value, 2) for value in seconds],
        weights=weights,
        manifest={key: manifest[key] for key in KEPT},
    )


if __name__ == "__main__":
    command.run(application)
