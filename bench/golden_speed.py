"""Tokens a second of the golden executor beside `transformers` on this CPU.

``python -m bench.golden_speed`` measures both at the shape of the `bytelm` preset, the integer
program of scheme `w8a8` beside a float32 network: prefill of 1 x 512 and of 16 x 256 tokens, and
decoding one stream token by token. Each side runs in its own process, since `transformers` picks
its kernels from the modules it finds loaded; its compiled kernels need a GPU, so it runs its
reference implementation. The two take turns, so that both see the same machine, and the best
turn counts. Figures are given for one thread and for all cores; the ratio compares equal numbers
of threads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench.measurement import FOLDER, PRESET, SCHEME, Figure, write_report
from bench.speed import Rates, best, best_rates, in_own_process
from golden import command
from golden.presets import find_preset
from golden.scheme import find_scheme

PREFILLS = ((1, 512), (16, 256))
DECODED = 200
REPEATS = 3
TARGET_RATIO = 1.0
"""Golden at least as fast as transformers."""

application = typer.Typer(add_completion=False)


def rates(prefill: Callable[[Any], object], decode: Callable[[Any], object], threads: int) -> Rates:
    """Return tokens a second of every workload; ``decode`` runs one stream token by token."""
    random = np.random.default_rng(0)
    vocabulary = find_preset(PRESET).vocabulary
    shapes = {f"prefill {b} x {length}": (prefill, (b, length)) for b, length in PREFILLS}
    shapes[f"decode 1 x {DECODED}"] = (decode, (1, DECODED))
    workloads = {}
    for name, (run, shape) in shapes.items():
        tokens = random.integers(0, vocabulary, shape)
        workloads[name] = (lambda run=run, tokens=tokens: run(tokens), tokens.size)
    return best_rates({"own": workloads}, REPEATS, threads)["own"]


def golden_rates(threads: int) -> Rates:
    """Measure the golden executor."""
    from golden.executor import Executor  # noqa: PLC0415 - each side loads only its own modules
    from golden.random_program import random_program  # noqa: PLC0415
    from golden.state import State  # noqa: PLC0415

    executor = Executor(random_program(find_preset(PRESET), find_scheme(SCHEME)))

    def decode(tokens: np.ndarray) -> None:
        state = State.zeros(executor.program, 1)
        for token in tokens.T:
            _, state = executor.step(token, state)

    return rates(executor.forward, decode, threads)


def transformers_rates(threads: int) -> Rates:
    """Measure ``MambaForCausalLM`` in float32, without compiled kernels as on any CPU."""
    import torch  # noqa: PLC0415
    from transformers import MambaConfig, MambaForCausalLM, logging  # noqa: PLC0415

    logging.set_verbosity_error()  # it would say at each start that it has no compiled kernels
    torch.set_num_threads(threads)
    shape = find_preset(PRESET)
    model = MambaForCausalLM(
        MambaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.d_model,
            expand=shape.d_inner // shape.d_model,
            state_size=shape.d_state,
            conv_kernel=shape.d_conv,
            time_step_rank=shape.dt_rank,
            num_hidden_layers=shape.n_layer,
        )
    ).eval()

    def prefill(tokens: np.ndarray) -> None:
        model(torch.from_numpy(tokens), use_cache=False)

    def decode(tokens: np.ndarray) -> None:
        cache = None
        for token in torch.from_numpy(tokens).T:
            cache = model(token[:, None], cache_params=cache, use_cache=True).cache_params

    with torch.inference_mode():
        return rates(prefill, decode, threads)


SIDES = {"golden": golden_rates, "transformers": transformers_rates}


def compare(threads: int, rounds: int) -> list[dict[str, Any]]:
    """Return one row a workload: both rates and their ratio, the best of ``rounds`` turns."""
    turns: dict[str, list[Rates]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, own in turns.items():
            words = ("--side", side, "--threads", str(threads))
            own.append(in_own_process("bench.golden_speed", threads, *words))
    golden, transformers = (best(turns[side]) for side in SIDES)
    return [
        {
            "workload": name,
            "threads": threads,
            "golden": round(rate),
            "transformers": round(transformers[name]),
            "ratio": round(rate / transformers[name], 2),
        }
        for name, rate in golden.items()
    ]


@application.command()
def main(
    output: Annotated[Path, typer.Option("--json", help="report to write")] = (
        FOLDER / "golden.json"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="turns of each side")] = 2,
    side: Annotated[str | None, typer.Option(hidden=True)] = None,
    threads: Annotated[int, typer.Option(hidden=True)] = 1,
) -> None:
    """Print tokens a second of the golden executor and of transformers, and their ratio."""
    if side is not None:
        print(json.dumps(SIDES[side](threads)))
        return
    counts = sorted({1, os.cpu_count() or 1})
    rows = [row for count in counts for row in compare(count, rounds)]
    print(f"{'workload':20}{'threads':>8}{'golden':>10}{'transformers':>14}   (tokens/s)")
    for row in rows:
        print(f"{row['workload']:20}{row['threads']:8}{row['golden']:10}{row['transformers']:14}")
    figures = [
        Figure(
            name=f"golden / transformers, {row['workload']}, {row['threads']} thread(s)",
            value=row["ratio"],
            unit="times",
            target=TARGET_RATIO,
        )
        for row in rows
    ]
    write_report(output, figures, shape=asdict(find_preset(PRESET)), unit="tokens/s", rows=rows)


if __name__ == "__main__":
    command.run(application)
