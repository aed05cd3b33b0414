"""Every benchmark, one after another: ``python -m bench.run``, which is ``make bench``.

Each runs in its own process, so that none inherits another's modules or threads, and writes its
report to ``build/bench``. The table at the end holds all figures beside their targets.
"""

from __future__ import annotations

import json
import subprocess
import sys

from bench.measurement import FOLDER, Figure, print_figures

BENCHMARKS = ("generation", "cosimulation", "golden", "native")


def main() -> int:
    """Run all benchmarks; return 1 if a figure misses its target."""
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
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
