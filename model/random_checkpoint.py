"""Writes a checkpoint of random weights: ``python -m model.random_checkpoint --preset NAME``.

For shapes whose trained weights are not at hand: what quantizing them takes can still be measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from golden import command
from golden.presets import find_preset
from model.checkpoint import checkpoint_bytes
from model.network_parameters import random_network

application = typer.Typer(add_completion=False)


@application.command()
def random_checkpoint(
    preset: Annotated[str, typer.Option(help="shape, as mamba-130m")],
    out: Annotated[Path, typer.Option(help="file to write, .safetensors")],
    seed: Annotated[int, typer.Option(help="of every weight")] = 0,
) -> None:
    """Write Mamba's initialization at a preset's shape; the same seed writes the same bytes."""
    network = random_network(find_preset(preset), seed)
    command.atomic_write(out, checkpoint_bytes(network))
    typer.echo(f"{out}: {preset}, random weights of seed {seed}")


if __name__ == "__main__":
    command.run(application)
