"""``make demo``: a trained language model writes text from its own Verilog."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from golden import command, vectors
from golden.builtin import load_builtin
from golden.errors import InputError
from golden.executor import Executor, State
from golden.program import Program
from golden.sampling import Sampler
from golden.scheme import find_scheme
from hw.generate import Generated, write_design
from hw.lanes import default_lanes
from sim.compiled_design import PROGRESS
from sim.cosimulation import Cosimulation, Outcome, Stimulus, differences

application = typer.Typer(add_completion=False)
POLL_SECONDS = 0.2


def golden_text(program: Program, prompt: list[int], count: int, sampler: Sampler) -> list[int]:
    """Return prompt and ``count`` tokens drawn from the golden model's logits."""
    executor = Executor(program)
    tokens = list(prompt)
    logits, state = executor.forward([tokens], State.zeros(program, 1))
    for _ in range(count):
        tokens.append(sampler.choose(logits.reshape(-1, program.shape.vocabulary)[-1]))
        logits, state = executor.step([tokens[-1]], state)
    return tokens


def _follow(path: Path, finished: threading.Event, console: Console) -> None:
    """Print the tokens of a running simulation as text, as they come."""
    shown = 0
    while True:
        last_look = finished.is_set()
        tokens = path.read_text().split() if path.exists() else []
        text = bytes(int(token) for token in tokens[shown:]).decode("utf-8", "replace")
        console.print(text, end="", highlight=False, markup=False, soft_wrap=True)
        shown = len(tokens)
        if last_look:
            console.print()
            return
        time.sleep(POLL_SECONDS)


def _simulate(
    simulation: Cosimulation, stimulus: Stimulus, folder: Path, console: Console
) -> tuple[Outcome, float]:
    """Run the hardware while its text is printed; return the outcome and the seconds it took."""
    progress = folder / "run" / PROGRESS
    progress.unlink(missing_ok=True)
    finished = threading.Event()
    printer = threading.Thread(target=_follow, args=(progress, finished, console))
    printer.start()
    begun = time.perf_counter()
    try:
        outcome = simulation.run(stimulus)
    finally:
        finished.set()
        printer.join()
    return outcome, time.perf_counter() - begun


def _report(
    made: Generated, outcome: Outcome, expected: list[int], prompt: int, console: Console
) -> list[str]:
    """Print the figures of the run and return what differs from the golden model."""
    found = differences(made, outcome, vectors.trace(made.program, outcome.tokens, outcome.last))
    if outcome.tokens != expected:
        found.append("the text differs from the text that the golden model generates on its own")
    values = sum(len(cycles) for cycles, _ in outcome.probes.values())
    single = float(np.diff(outcome.starts[prompt:]).mean())
    known = float(np.diff(outcome.starts[:prompt]).mean())
    schedule = made.schedule
    console.print(
        f"compared {values:,} values on {len(outcome.probes)} probe points, each in value and "
        f"cycle: {'all equal' if not found else 'DIFFERENT'}"
    )
    console.print(
        f"generating: {single:,.0f} cycles a token, array utilisation "
        f"{100 * schedule.utilisation(single):.1f} % of {schedule.lanes.mac} lanes (single stream)"
    )
    console.print(
        f"prompt:     {known:,.0f} cycles a token, array utilisation "
        f"{100 * schedule.utilisation(known):.1f} %; at 100 MHz "
        f"{1e8 / single:,.0f} and {1e8 / known:,.0f} tokens a second"
    )
    return found


@application.command()
def demo(
    preset: Annotated[str, typer.Option(help="network")] = "bytelm",
    scheme: Annotated[str, typer.Option(help="quantization scheme")] = "w8a8",
    prompt: Annotated[str, typer.Option(help="text to continue")] = "The village of ",
    tokens: Annotated[int, typer.Option(help="bytes to generate", min=1)] = 160,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely byte")] = 0.6,
    seed: Annotated[int, typer.Option(help="of the sampling")] = 0,
    out: Annotated[Path, typer.Option(help="folder for design and simulator")] = Path("build/demo"),
) -> None:
    """Generate Verilog of a trained model, simulate it, and watch it write text.

    The golden model generates the same text on its own; every probe point of the hardware is
    compared with it in value and in the predicted cycle.
    """
    console = Console(highlight=False)
    program = load_builtin(preset, find_scheme(scheme))
    begun = list(prompt.encode())
    if len(begun) < 3 or max(begun) >= program.shape.vocabulary:
        raise InputError(
            f"the prompt has {len(begun)} bytes up to {max(begun, default=0)}; give at least 3, "
            f"each below {program.shape.vocabulary}"
        )
    lanes = default_lanes(program.shape)
    fraction = program.logit_fraction
    sampler = Sampler(logit_fraction=fraction, temperature=temperature, seed=seed)
    with console.status("generating Verilog"):
        folder = out.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        stimulus = vectors.random_stimulus(program, 1, seed)
        made = write_design(program, lanes, stimulus, preset=preset, folder=folder / "design")
    manifest = json.loads((folder / "design" / "manifest.json").read_text())
    console.print(
        f"Verilog of {made.top}: {len(manifest['files'])} files in {folder / 'design'}, "
        f"{lanes.mac} MAC lanes, {lanes.scan} scan lanes"
    )
    with console.status("compiling with Verilator (about half a minute)"):
        simulation = Cosimulation(folder / "design", folder / "simulation")
    console.print("the Verilog writes:\n", style="bold")
    played = Stimulus(
        tokens=begun,
        last=[0] * len(begun),
        vocabulary=program.shape.vocabulary,
        generate=tokens,
        logit_fraction=fraction,
        temperature=temperature,
        sampling_seed=seed,
    )
    outcome, seconds = _simulate(simulation, played, folder / "simulation", console)
    expected = golden_text(program, begun, tokens, sampler)
    console.print()
    found = _report(made, outcome, expected[: len(outcome.tokens)], len(begun), console)
    console.print(f"simulated {outcome.cycles:,} cycles, {outcome.cycles / seconds:,.0f} a second")
    if found:
        console.print("\n".join(found), style="red")
        raise typer.Exit(1)
    console.print("the golden model generates the same text, bit for bit", style="bold green")


if __name__ == "__main__":
    command.run(application)
