"""Tokens a second of the C++ back end beside the golden model's, on one thread of this CPU.

``python -m bench.native_speed`` runs trained integer programs of `bytelm`, weights of 8 and of 4
bits, in three ways: by the C++ back end; by the golden executor, whose loops numba compiles; and by
the golden definition, NumPy alone. Workloads are a prefill of 512 tokens, decoding one stream token
by token from Python, and greedy generation of one stream, which the C++ back end does without
Python. All take turns in one process with one thread, and the best turn of each counts, in the
process's own time on the processor.

The same is run by a context of two threads, on lines of its own: by the clock, as two processors
work on one stream, and beside the golden executor on its one thread, by the clock too.

Beside them stands the roof of the memory: how often a second one thread reads as many bytes as the
weights have, by NumPy's dot product of such a vector with itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench.measurement import FOLDER, PRESET, Figure, write_report
from bench.speed import Rates, Workload, Workloads, best_rates, in_own_process
from golden import command
from golden.builtin import load_builtin
from golden.executor import Executor
from golden.fixed_point import Integers
from golden.program import Program
from golden.reference import ReferenceExecutor
from golden.scheme import find_scheme
from golden.state import State

COMPARED_SCHEMES = ("w8a8", "w4a8")
PREFILL, DECODED, DEFINED = 512, 200, 10
"""Tokens of a prefill, of one stream, and of one stream by the definition."""
ROUNDS = 12
TEAM = 2
"""Threads of the context that shares one stream among several."""
TARGET_RATIO = 20.0
"""Times the golden model's tokens a second in one stream."""
PREFILL_NAME = f"prefill 1 x {PREFILL}"
DECODE_NAME, GENERATE_NAME = f"decode 1 x {DECODED}", f"generate 1 x {DECODED}"

application = typer.Typer(add_completion=False)
Run = Callable[[Integers, State], tuple[Integers, State]]


def _decoding(program: Program, run: Run, tokens: Integers) -> Workload:
    """Return the decoding of ``tokens`` one by one by an executor's ``forward``."""

    def decode() -> None:
        state = State.zeros(program, 1)
        for token in tokens:
            _, state = run(np.array([[token]]), state)

    return decode, len(tokens)


def golden_workloads(program: Program, tokens: Integers) -> Workloads:
    """Return what the golden executor runs."""
    executor = Executor(program)

    def generate() -> None:
        state, token = State.zeros(program, 1), int(tokens[0])
        for _ in range(DECODED):
            logits, state = executor.step([token], state)
            token = int(logits[0].argmax())

    return {
        PREFILL_NAME: (lambda: executor.forward(tokens[None]), PREFILL),
        DECODE_NAME: _decoding(program, executor.forward, tokens[:DECODED]),
        GENERATE_NAME: (generate, DECODED),
    }


def definition_workloads(program: Program, tokens: Integers) -> Workloads:
    """Return what the golden definition runs."""
    run = ReferenceExecutor(program).forward
    return {DECODE_NAME: _decoding(program, run, tokens[:DEFINED])}


def native_workloads(program: Program, tokens: Integers, threads: int = 1) -> Workloads:
    """Return what the C++ back end runs."""
    from native.executor import Executor as Native  # noqa: PLC0415 - reports what is not built

    context, numbers = Native(program).context(threads=threads), tokens.tolist()

    def decode() -> None:
        context.reset()
        for token in numbers[:DECODED]:
            context.step(token)

    def generate() -> None:
        context.reset()
        context.generate(numbers[0], DECODED)

    return {
        PREFILL_NAME: (lambda: context.forward(tokens), PREFILL),
        DECODE_NAME: (decode, DECODED),
        GENERATE_NAME: (generate, DECODED),
    }


def weights(program: Program) -> tuple[int, int]:
    """Return the number of weights that a token reads, and the bytes that they have in C++.

    The first block's in_proj is not among them: what it computes of a token is tabulated.
    """
    matrices = [program.head.weight]
    for layer in program.scan_layers:
        matrices += [part.weight for part in (layer.x_proj, layer.dt_proj, layer.out_proj)]
    matrices += [layer.in_proj.weight for layer in program.scan_layers[1:]]
    sizes = [matrix.size for matrix in matrices]
    narrow = [matrix.min() >= -8 and matrix.max() < 8 for matrix in matrices]
    held = [size // 2 if half else size for size, half in zip(sizes, narrow, strict=True)]
    return sum(sizes), sum(held)


def reading_workloads(program: Program) -> Workloads:
    """Return the reading of as many bytes as the weights have."""
    vector = np.ones(weights(program)[1] // 4, np.float32)

    def read() -> None:
        for _ in range(DECODED):
            np.dot(vector, vector)

    return {"read": (read, DECODED)}


def measured(rounds: int) -> dict[str, dict[str, Rates]]:
    """Return tokens a second by scheme, side and workload."""
    tokens = np.random.default_rng(0).integers(0, 256, PREFILL)
    results = {}
    for scheme in COMPARED_SCHEMES:
        program = load_builtin(PRESET, find_scheme(scheme))
        sides = {
            "golden": golden_workloads(program, tokens),
            "definition": definition_workloads(program, tokens),
            "native": native_workloads(program, tokens),
            "reading": reading_workloads(program),
        }
        results[scheme] = best_rates(sides, rounds)
        clocked = {
            "golden by the clock": golden_workloads(program, tokens),
            "team": native_workloads(program, tokens, TEAM),
        }
        results[scheme] |= best_rates(clocked, rounds, TEAM)
    return results


def _rows(scheme: str, sides: dict[str, Rates]) -> list[dict[str, Any]]:
    """Return one row a workload, with the ratios to golden's two executors."""
    rows = []
    for name, rate in sides["golden"].items():
        native, definition = sides["native"][name], sides["definition"].get(name)
        rows.append(
            {
                "workload": f"{name}, {scheme}",
                "definition": None if definition is None else round(definition),
                "golden": round(rate),
                "native": round(native),
                "ratio": round(native / rate, 2),
            }
        )
    return rows


def _team_rows(scheme: str, sides: dict[str, Rates]) -> list[dict[str, Any]]:
    """Return one row a workload of a stream on several threads, beside golden's one."""
    return [
        {
            "workload": f"{name}, {scheme}",
            "threads": TEAM,
            "golden": round(rate),
            "native": round(sides["team"][name]),
            "ratio": round(sides["team"][name] / rate, 2),
        }
        for name, rate in sides["golden by the clock"].items()
    ]


def _target(row: dict[str, Any]) -> float | None:
    """Return the ratio that a row is to reach; a prefill reads many tokens at once and has none."""
    return None if row["workload"].startswith(PREFILL_NAME) else TARGET_RATIO


def _roof(scheme: str, sides: dict[str, Rates]) -> dict[str, Any]:
    """Return what the weights cost a token, and how near generation comes to reading them."""
    count, size = weights(load_builtin(PRESET, find_scheme(scheme)))
    rate, most = sides["native"][GENERATE_NAME], sides["reading"]["read"]
    return {
        "scheme": scheme,
        "weights": count,
        "bytes": size,
        "reads": round(most),
        "share": round(rate / most, 3),
        "gigabytes_a_second": round(rate * size / 1e9, 1),
        "multiply_adds_a_second": round(rate * count / 1e9, 1),
    }


def _print(
    rows: list[dict[str, Any]], team: list[dict[str, Any]], roofs: list[dict[str, Any]]
) -> None:
    print(f"{'workload':24}{'definition':>12}{'golden':>10}{'native':>10}{'ratio':>8}   (tokens/s)")
    for row in rows:
        definition = row["definition"] or ""
        print(f"{row['workload']:24}{definition:>12}{row['golden']:10}{row['native']:10}"
              f"{row['ratio']:8.1f}")  # fmt: skip
    print(f"one stream on {TEAM} threads, beside golden on one; by the clock:")
    for row in team:
        print(f"{row['workload']:36}{row['golden']:10}{row['native']:10}{row['ratio']:8.1f}")
    for roof in roofs:
        print(
            f"{roof['scheme']}: {roof['bytes']:,} bytes of weights a token; reading them takes one "
            f"thread 1/{roof['reads']:,} s, {100 * roof['share']:.0f} % of the time of generation "
            f"({roof['gigabytes_a_second']} GB/s, {roof['multiply_adds_a_second']} billion "
            "multiply-adds a second)"
        )


@application.command()
def main(
    *,
    output: Annotated[Path, typer.Option("--json", help="report to write")] = (
        FOLDER / "native.json"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="turns of each side")] = ROUNDS,
    measuring: Annotated[bool, typer.Option("--measure", hidden=True)] = False,
) -> None:
    """Print tokens a second of the C++ back end and of the golden model, and their ratio."""
    if measuring:
        print(json.dumps(measured(rounds)))
        return
    results = in_own_process("bench.native_speed", 1, "--measure", "--rounds", str(rounds))
    rows = [row for scheme, sides in results.items() for row in _rows(scheme, sides)]
    roofs = [_roof(scheme, sides) for scheme, sides in results.items()]
    team = [row for scheme, sides in results.items() for row in _team_rows(scheme, sides)]
    _print(rows, team, roofs)
    figures = [
        Figure(
            name=f"native / golden, {row['workload']}, one thread",
            value=row["ratio"],
            unit="times",
            target=_target(row),
        )
        for row in rows
    ]
    figures += [
        Figure(
            name=f"native on {TEAM} threads / golden on one, {row['workload']}",
            value=row["ratio"],
            unit="times",
            target=_target(row),
        )
        for row in team
    ]
    write_report(output, figures, unit="tokens/s", rows=rows, team=team, roofs=roofs)


if __name__ == "__main__":
    command.run(application)
