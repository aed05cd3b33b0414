"""Cosimulated cycles a second of the `bytelm` top: ``python -m bench.cosimulation_speed``.

The whole top level runs in Verilator under cocotb with every probe point recorded, at full speed
and with its logits read. A round's seconds are those of the whole run: start of the simulator, the
simulation, and reading the record back. The best round counts, all are in the JSON file. What was
recorded is compared with the golden model in value and cycle; a difference ends the benchmark.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from bench.measurement import FOLDER, PRESET, SCHEME, Figure, measured_program, write_report
from golden import command, vectors
from golden.errors import InputError
from hw.generate import write_design
from hw.lanes import default_lanes
from sim.cosimulation import Cosimulation, Stimulus, differences

TARGET_CYCLES = 20_000.0

application = typer.Typer(add_completion=False)


@application.command()
def main(
    output: Annotated[Path, typer.Option("--json", help="report to write")] = (
        FOLDER / "cosimulation.json"
    ),
    tokens: Annotated[int, typer.Option(min=1, help="tokens a round")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="runs; the best counts")] = 3,
) -> None:
    """Time the cosimulation and print its speed beside the target."""
    program, weights = measured_program()
    stream = vectors.random_stimulus(program, tokens, 0)
    with command.atomic_directory(FOLDER / "cosimulated") as folder:
        generated = write_design(
            program, default_lanes(program.shape), stream, preset=PRESET, folder=folder
        )
    start = time.perf_counter()
    simulation = Cosimulation(FOLDER / "cosimulated", FOLDER / "simulation")
    build_seconds = time.perf_counter() - start
    stimulus = Stimulus(
        tokens=stream.tokens.tolist(),
        last=stream.last.tolist(),
        vocabulary=program.shape.vocabulary,
    )
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        outcome = simulation.run(stimulus)
        seconds.append(time.perf_counter() - start)
        found = differences(generated, outcome, generated.trace)
        if found:
            raise InputError(f"the design differs from the golden model: {found[0]}")
    figure = Figure(
        name=f"cosimulate {PRESET} {SCHEME}, {len(outcome.probes)} probe points",
        value=round(outcome.cycles / min(seconds)),
        unit="cycles/s",
        target=TARGET_CYCLES,
    )
    write_report(
        output,
        [figure],
        cycles=outcome.cycles,
        tokens=tokens,
        seconds=[round(value, 2) for value in seconds],
        build_seconds=round(build_seconds, 2),
        weights=weights,
    )


if __name__ == "__main__":
    command.run(application)
