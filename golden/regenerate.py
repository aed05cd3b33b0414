"""Writes golden vectors: ``python -m golden.regenerate --artifact FILE --out DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from golden import command, vector_files, vectors
from golden.artifact import file_digest, load_program

application = typer.Typer(add_completion=False)


@application.command()
def regenerate(
    artifact: Annotated[Path, typer.Option(help="integer program to execute")],
    out: Annotated[Path, typer.Option(help="directory that receives vectors.npz")],
    tokens: Annotated[
        int, typer.Option(help="number of random tokens, or of a frame network's frames")
    ] = 8,
    seed: Annotated[int, typer.Option(help="seed of the random tokens")] = 0,
    contexts: Annotated[
        int, typer.Option(help="independent streams that the random tokens belong to")
    ] = 1,
    text: Annotated[str | None, typer.Option(help="text to run in place of random tokens")] = None,
) -> None:
    """Execute a stream of tokens and write every probe of every token.

    The same arguments give the same bytes. Random tokens come in several sequences, so that the
    reset at their ends is covered, and in several contexts if asked for; a text is one sequence.
    A frame is a sequence, but of several contexts each goes on from frame to frame.
    """
    program = load_program(artifact)
    stimulus = (
        vectors.random_stimulus(program, tokens, seed, contexts)
        if text is None
        else vectors.text_stimulus(text)
    )
    result = vectors.trace(
        program, stimulus.tokens, stimulus.last, stimulus.context,
        reset_at_last=stimulus.reset_at_last,
    )  # fmt: skip
    target = out / vector_files.FILE_NAME
    command.atomic_write(target, vector_files.to_bytes(result, stimulus, file_digest(artifact)))
    typer.echo(f"{target}: {len(result.tokens)} tokens, {len(result.probes)} probes")


if __name__ == "__main__":
    command.run(application)
