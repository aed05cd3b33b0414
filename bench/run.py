"""Every benchmark, one after another: ``python -m bench.run``, which is ``make bench``.

Each runs in its own process, so that none inherits another's modules or threads, and writes its
report to ``build/bench``. The table at the end holds all figures beside their targets. A missed
target is named and is no error: how far a figure gets depends on the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys

from bench.measurement import FOLDER, Figure, print_figures

BENCHMARKS = ("generation", "cosimulation", "golden", "native")


def main() -> None:
    """Run all benchmarks and name the figures that miss their targets."""
    figures = []
    for name in BENCHMARKS:
        print(f"-- bench.{name}_speed", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{name}_speed"], check=True)
        report = json.loads((FOLDER / f"{name}.json").read_text())
        for entry in report["figures"]:
            entry.pop("ratio")
            figures.append(Figure(**entry))
    print("-- all")
    print_figures(figures)
    missed = [figure.name for figure in figures if figure.ratio is not None and figure.ratio < 1]
    for name in missed:
        print(f"missed: {name}")
    print(f"reports: {FOLDER}/*.json; python -m bench.results --collect --update README.md")


if __name__ == "__main__":
    main()
