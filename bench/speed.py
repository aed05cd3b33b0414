"""How speeds are compared: sides take turns on the same machine, and the best turn of each counts.

On one thread a turn's time is that of the process on the processor: other work on the machine then
favours no side. On several threads it is the clock's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Workload = tuple[Callable[[], object], int]
"""What is run, and how many tokens it computes."""
Workloads = Mapping[str, Workload]
Rates = dict[str, float]
"""Tokens a second of every workload."""

_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def best(turns: Sequence[Rates]) -> Rates:
    """Return the highest rate of every workload; one that a turn lacks counts where it is."""
    names = dict.fromkeys(name for turn in turns for name in turn)
    return {name: max(turn[name] for turn in turns if name in turn) for name in names}


def turn(workloads: Workloads, threads: int) -> Rates:
    """Run every workload once and return its tokens a second."""
    clock = time.process_time if threads == 1 else time.perf_counter
    rates = {}
    for name, (run, tokens) in workloads.items():
        start = clock()
        run()
        rates[name] = tokens / (clock() - start)
    return rates


def best_rates(sides: Mapping[str, Workloads], rounds: int, threads: int = 1) -> dict[str, Rates]:
    """Return every side's best rates of so many turns, after one that compiles and fills caches."""
    turns: dict[str, list[Rates]] = {name: [] for name in sides}
    for workloads in sides.values():
        turn(workloads, threads)
    for _ in range(rounds):
        for name, workloads in sides.items():
            turns[name].append(turn(workloads, threads))
    return {name: best(own) for name, own in turns.items()}


def in_own_process(module: str, threads: int, *words: str) -> Any:
    """Return the JSON that ``python -m module words`` prints, run with so many threads.

    NumPy's BLAS reads their number when it is loaded, and some libraries choose what they run by
    the modules that they find.
    """
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)
