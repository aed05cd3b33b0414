"""Takes over what was trained: ``python -m model.qat_collect FOLDER... --seed N``.

A folder is the output of :mod:`model.qat`. Its report goes to ``docs/qat``, its program, if it is
of the float network that comes with the project, becomes a built-in one. Of two runs of a scheme
and seed the one that did better on validation text stays; one that went on from the program of the
run before it takes that run's report along.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from golden import command
from golden.artifact import load_program
from golden.builtin import FOLDER, QAT_SCHEMES
from golden.errors import InputError
from golden.json_file import read_object
from model.qat_page import EARLIER, SEEDS

application = typer.Typer(add_completion=False)
REPORTS = Path("docs/qat")
_REPORT, _RUN = "training.json", "resume.safetensors"


def _report(path: Path) -> dict[str, Any]:
    """Return a finished run's report."""
    report = read_object(path, "name the --out folder of a run of model.qat")
    if not report.get("held_out"):
        raise InputError(f"the run of {path} was not finished; continue it with model.qat --resume")
    return report


def _program(folder: Path, report: dict[str, Any]) -> tuple[str, bytes]:
    """Return the scheme of the folder's program, which must be that of the report, and its bytes.

    Raises
    ------
    InputError
        If there is not just one, or it is another one's.
    """
    paths = [path for path in folder.glob("*.safetensors") if path.name != _RUN]
    if len(paths) != 1:
        raise InputError(f"{folder} holds {len(paths)} programs, one is needed")
    program = load_program(paths[0])
    if program.provenance.get("best") != report["best"]:
        raise InputError(f"{paths[0]} is not the program of the report beside it; take both anew")
    if program.scheme.name not in QAT_SCHEMES:
        raise InputError(
            f"{paths[0]} is {program.scheme.name}; trained programs are of {', '.join(QAT_SCHEMES)}"
        )
    return program.scheme.name, paths[0].read_bytes()


def collect(folder: Path, seed: int, reports: Path, programs: Path) -> str:
    """Take over one run; return what was done, a line.

    Parameters
    ----------
    folder : of the run
    seed : training seed of its float network
    reports, programs : where reports and built-in programs are
    """
    report = _report(folder / _REPORT)
    is_program = report["network"] == "program"
    name, content = _program(folder, report) if is_program else (report["network"], b"")
    kept = reports / f"{name}-{seed}.json"
    if kept.is_file():
        earlier = read_object(kept, "delete it")
        if earlier["best"]["validation"] < report["best"]["validation"]:
            return f"{name} of seed {seed}: the earlier one is better on validation text and stays"
        if earlier["best"] == report.get("start", {}).get("best"):
            report[EARLIER] = earlier
    command.atomic_write(kept, (json.dumps(report, indent=1, sort_keys=True) + "\n").encode())
    if is_program and seed == 0:
        command.atomic_write(programs / f"bytelm-{name}-qat.safetensors", content)
    return f"{name} of seed {seed}: taken"


@application.command()
def main(
    folders: Annotated[list[Path], typer.Argument(help="outputs of model.qat")],
    seed: Annotated[int, typer.Option(help="training seed of the float network")],
) -> None:
    """Put reports into docs/qat and programs of seed 0 beside the built-in ones."""
    if seed not in SEEDS:
        raise InputError(f"seed = {seed} is none of {', '.join(map(str, SEEDS))}")
    for folder in folders:
        typer.echo(collect(folder, seed, REPORTS, FOLDER))
    typer.echo("now: python -m model.evaluate --table")


if __name__ == "__main__":
    command.run(application)
