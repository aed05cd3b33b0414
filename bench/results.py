"""The README's table of speed and cycles: ``python -m bench.results --update README.md``.

Figures come from ``bench/results.json`` and nowhere else: ``make bench`` writes
``build/bench/*.json``, and ``--collect`` joins them into this file. A missing file is an error that
names the command. ``--check`` changes nothing and fails if the document is not what ``--update``
would write. The table of accuracy is written by ``python -m model.evaluate --table``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.measurement import FOLDER
from bench.run import BENCHMARKS
from golden import command
from golden.document import Marks, publish
from golden.json_file import read_object
from golden.presets import find_preset
from golden.scheme import find_scheme
from hw.lanes import default_lanes
from hw.latencies import latencies
from hw.manifest import SINGLE_STREAM_TURNAROUND
from hw.schedule import build_schedule

RESULTS = Path(__file__).parent / "results.json"
MARKS = Marks("results", "python -m bench.results --update")
UTILISATION_TARGET = 80
NATIVE_TARGET = 20

application = typer.Typer(add_completion=False)
Row = tuple[str, str, str, str]


def collect(folder: Path) -> dict[str, Any]:
    """Return the reports of all benchmarks by name.

    Raises
    ------
    InputError
        If one is missing or damaged.
    """
    return {name: read_object(folder / f"{name}.json", "run: make bench") for name in BENCHMARKS}


def cycle_rows() -> list[Row]:
    """Return cycles and utilisation of `bytelm` as the schedule has them now."""
    shape, scheme = find_preset("bytelm"), find_scheme("w8a8")
    lanes = default_lanes(shape)
    schedule = build_schedule(shape, lanes, latencies(shape, scheme, lanes))
    rows: list[Row] = []
    for name, cycles in (
        ("tokens known ahead", schedule.interval),
        ("each token the last arg-max", schedule.latency + SINGLE_STREAM_TURNAROUND),
    ):
        share = 100 * schedule.utilisation(cycles)
        rows.append(
            (
                f"cycles a token, {lanes.mac} + {lanes.scan} lanes, {name}",
                f"{cycles:,}, array {share:.1f} % useful",
                f"array ≥ {UTILISATION_TARGET} %",
                "`python -m hw.schedule --preset bytelm`",
            )
        )
    return rows


def tool_rows(results: dict[str, Any]) -> list[Row]:
    """Return cycles, utilisation and the speed of the tools."""
    generation, cosimulation = results["generation"], results["cosimulation"]
    golden = results["golden"]
    seconds, cycles = generation["figures"][0], cosimulation["figures"][0]
    rows = cycle_rows()
    rows.append(
        (
            "cosimulation, all probe points recorded",
            f"{cycles['value']:,} cycles/s",
            f"≥ {cycles['target']:,.0f}",
            "`python -m bench.cosimulation_speed`",
        )
    )
    rows += [
        (
            f"golden model, {row['workload']}, one thread",
            f"{row['golden']:,} tokens/s; transformers {row['transformers']:,}",
            "≥ transformers",
            "`python -m bench.golden_speed`",
        )
        for row in golden["rows"]
        if row["threads"] == 1
    ]
    rows += [
        (
            f"C++ back end, {row['workload']}, one thread",
            f"{row['native']:,} tokens/s; golden {row['golden']:,}, {row['ratio']:.1f}x"
            + (f"; NumPy alone {row['definition']:,}" if row["definition"] else ""),
            "" if "prefill" in row["workload"] else f"≥ {NATIVE_TARGET} x golden",
            "`python -m bench.native_speed`",
        )
        for row in results["native"]["rows"]
    ]
    rows += [
        (
            f"C++ back end, {row['workload']}, {row['threads']} threads",
            f"{row['native']:,} tokens/s; golden on one {row['golden']:,}, {row['ratio']:.1f}x",
            "" if "prefill" in row["workload"] else f"≥ {NATIVE_TARGET} x golden",
            "`python -m bench.native_speed`",
        )
        for row in results["native"]["team"]
    ]
    return [
        *rows,
        (
            "generating Verilog, images, vectors and bench",
            f"{seconds['value']:.1f} s",
            f"≤ {seconds['target']:.0f} s",
            "`python -m bench.generation_speed`",
        ),
    ]


def table(results: dict[str, Any]) -> str:
    """Return the Markdown of the table with a line about the machine."""
    machine = results["cosimulation"]["machine"]
    lines = ["| `bytelm` | measured | target | command |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {value} | {target} | {source} |"
        for name, value, target, source in tool_rows(results)
    ]
    weights = results["cosimulation"]["weights"]
    where = f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}"
    return "\n".join([*lines, "", f"Speeds: {where}, {weights} weights, `make bench`."])


@application.command()
def main(
    *,
    collecting: Annotated[
        bool, typer.Option("--collect", help="first join the reports of make bench")
    ] = False,
    update: Annotated[list[Path] | None, typer.Option(help="document to rewrite")] = None,
    check: Annotated[list[Path] | None, typer.Option(help="document to compare")] = None,
) -> None:
    """Print the table of results, and put it into a document or compare it with one."""
    if collecting:
        content = json.dumps(collect(FOLDER), indent=1) + "\n"
        command.atomic_write(RESULTS, content.encode())
    results = read_object(RESULTS, "run: make bench, then python -m bench.results --collect")
    publish(MARKS, table(results), update=update or (), check=check or ())


if __name__ == "__main__":
    command.run(application)
