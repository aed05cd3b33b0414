"""Runs the mutation test: ``python -m sim.mutation --out build/mutation``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from golden import command
from sim.mutation.campaign import SUBJECTS, Campaign
from sim.mutation.report import to_json, to_markdown
from sim.mutation.streaming_campaign import STREAMING_SUBJECTS, StreamingCampaign

application = typer.Typer(add_completion=False)


@application.command()
def main(
    out: Annotated[Path, typer.Option(help="folder for mutation.json and mutation.md")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="simulations at a time; without it all cores")
    ] = None,
) -> None:
    """Inject every fault and report which probe caught it; exit code 1 if one survives."""
    with tempfile.TemporaryDirectory() as folder:
        verdicts = [
            verdict
            for name, subject in SUBJECTS.items()
            for verdict in Campaign(Path(folder) / name, subject).run(workers)
        ]
        verdicts += [
            verdict
            for name, (shape, faults) in STREAMING_SUBJECTS.items()
            for verdict in StreamingCampaign(Path(folder) / name, shape, faults).run(workers)
        ]
    command.atomic_write(out / "mutation.json", to_json(verdicts).encode())
    command.atomic_write(out / "mutation.md", to_markdown(verdicts).encode())
    survivors = [verdict.name for verdict in verdicts if not verdict.caught]
    typer.echo(
        f"{out / 'mutation.md'}: {len(verdicts) - len(survivors)} of {len(verdicts)} faults caught"
    )
    for name in survivors:
        typer.echo(f"survived: {name}", err=True)
    if survivors:
        raise typer.Exit(1)


if __name__ == "__main__":
    command.run(application)
