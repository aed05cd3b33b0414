"""Tokens a second of the C++ back end beside the golden executor on one thread of this CPU.

``python -m bench.native_speed`` runs the trained integer program `bytelm` w8a8 through both: a
prefill of 512 tokens; decoding one stream token by token from Python; and greedy generation of one
stream, which the C++ back end does without Python. Each side runs in its own process with one
thread, and the two take turns; the best round counts. What counts is the process's own time on the
processor, so that other work on the machine does not favour the side with the shorter runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench.measurement import FOLDER, Figure, measured_program, write_report
from golden import command

PREFILL, DECODED = 512, 200
REPEATS = 5
TARGET_RATIO = 20.0
"""Times the golden model's tokens a second in one stream."""
DECODE, GENERATE = f"decode 1 x {DECODED}", f"generate 1 x {DECODED}"

application = typer.Typer(add_completion=False)
Workloads = dict[str, tuple[Callable[[], object], int]]


def golden_workloads(tokens: np.ndarray) -> Workloads:
    """Return what the golden executor runs, with the number of tokens."""
    from golden.executor import Executor  # noqa: PLC0415 - each side loads only its own modules
    from golden.state import State  # noqa: PLC0415

    program, _ = measured_program()
    executor = Executor(program)

    def decode() -> None:
        state = State.zeros(program, 1)
        for token in tokens[:DECODED]:
            _, state = executor.step([token], state)

    def generate() -> None:
        state, token = State.zeros(program, 1), int(tokens[0])
        for _ in range(DECODED):
            logits, state = executor.step([token], state)
            token = int(logits[0].argmax())

    return {
        f"prefill 1 x {PREFILL}": (lambda: executor.forward(tokens[None, :PREFILL]), PREFILL),
        DECODE: (decode, DECODED),
        GENERATE: (generate, DECODED),
    }


def native_workloads(tokens: np.ndarray) -> Workloads:
    """Return what the C++ back end runs, with the number of tokens."""
    from native.executor import Executor  # noqa: PLC0415

    program, _ = measured_program()
    context, numbers = Executor(program).context(), tokens.tolist()

    def decode() -> None:
        context.reset()
        for token in numbers[:DECODED]:
            context.step(token)

    def generate() -> None:
        context.reset()
        context.generate(numbers[0], DECODED)

    return {
        f"prefill 1 x {PREFILL}": (lambda: context.forward(tokens[:PREFILL]), PREFILL),
        DECODE: (decode, DECODED),
        GENERATE: (generate, DECODED),
    }


SIDES = {"golden": golden_workloads, "native": native_workloads}


def rates(workloads: Workloads) -> dict[str, float]:
    """Return tokens a second of every workload, the best of a few runs."""
    results = {}
    for name, (run, tokens) in workloads.items():
        run()  # compiles, and fills caches
        seconds = []
        for _ in range(REPEATS):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
        results[name] = tokens / min(seconds)
    return results


def _measure(side: str) -> dict[str, float]:
    """Run one side in a fresh process with one thread."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "bench.native_speed", "--side", side]
    done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def compare(rounds: int) -> list[dict[str, Any]]:
    """Return one row a workload: both rates and their ratio, the best of ``rounds`` turns."""
    best: dict[str, dict[str, float]] = {side: {} for side in SIDES}
    for _ in range(rounds):
        for side, known in best.items():
            for name, rate in _measure(side).items():
                known[name] = max(rate, known.get(name, 0.0))
    return [
        {
            "workload": name,
            "golden": round(rate),
            "native": round(best["native"][name]),
            "ratio": round(best["native"][name] / rate, 2),
        }
        for name, rate in best["golden"].items()
    ]


@application.command()
def main(
    output: Annotated[Path, typer.Option("--json", help="report to write")] = (
        FOLDER / "native.json"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="turns of each side")] = 3,
    side: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print tokens a second of the C++ back end and of the golden executor, and their ratio."""
    if side is not None:
        tokens = np.random.default_rng(0).integers(0, 256, PREFILL)
        print(json.dumps(rates(SIDES[side](tokens))))
        return
    rows = compare(rounds)
    print(f"{'workload':20}{'golden':>10}{'native':>10}   (tokens/s, one thread)")
    for row in rows:
        print(f"{row['workload']:20}{row['golden']:10}{row['native']:10}")
    figures = [
        Figure(
            name=f"native / golden, {row['workload']}, one thread",
            value=row["ratio"],
            unit="times",
            target=TARGET_RATIO if row["workload"] in (DECODE, GENERATE) else None,
        )
        for row in rows
    ]
    write_report(output, figures, unit="tokens/s", rows=rows)


if __name__ == "__main__":
    command.run(application)
