"""Measures programs: ``python -m model.evaluate --preset NAME [--artifact FILE ...]``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from golden import command
from golden.artifact import load_program
from golden.builtin import FRAME_SCHEMES, builtin_path, trained_schemes
from golden.errors import InputError
from golden.presets import is_frame_preset
from golden.program import Program
from model.accuracy_table import make_table
from model.float_simulation import FloatNetwork
from model.frame_evaluate import frame_report, print_frame_report
from model.mode_report import mode_report, print_modes
from model.network_parameters import extract_parameters
from model.simulation_modes import DEFAULT_RATIOS, ResearchChoice, choose_modes
from model.slim_configuration import SLIM_PRESETS
from model.sources import find_network, find_tokens
from model.text_windows import WINDOW, cut_windows, float_bits, integer_bits

application = typer.Typer(add_completion=False)


def _measure(
    network: FloatNetwork, artifacts: dict[str, Path], pieces: list[Any]
) -> tuple[float, dict[str, float]]:
    """Return bits a token of the float network and of every artifact, with a bar."""
    tokens = sum(piece.size for piece in pieces)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("float", total=tokens * (1 + len(artifacts)))

        def advance(count: int) -> None:
            progress.advance(task, count)

        exact = float_bits(network, pieces, advance)
        results = {}
        for name, path in artifacts.items():
            progress.update(task, description=name)
            results[name] = integer_bits(_same_shape(network, path), pieces, advance)
    return exact, results


def _same_shape(network: FloatNetwork, path: Path) -> Program:
    """Return the program of ``path``, which must have been quantized from ``network``."""
    program = load_program(path)
    if program.shape != network.parameters.shape:
        raise InputError(
            f"{path} has shape {program.shape}, the float network has "
            f"{network.parameters.shape}; give the checkpoint it was quantized from"
        )
    return program


def _print(report: dict[str, Any]) -> None:
    table = Table(title=f"{report['tokens']:,} held-out tokens, windows of {report['window']:,}")
    for column in ("program", "bits per token", "loss"):
        table.add_column(column, justify="left" if column == "program" else "right")
    table.add_row("float", f"{report['float']:.4f}", "")
    for name, bits in report["schemes"].items():
        table.add_row(name, f"{bits:.4f}", f"{report['loss_percent'][name]:+.2f} %")
    Console().print(table)


def _scheme_report(
    network: FloatNetwork, artifacts: dict[str, Path], stream: Any, window: int
) -> dict[str, Any]:
    pieces = cut_windows(stream, window)
    exact, results = _measure(network, artifacts, pieces)
    return {
        "float": exact,
        "schemes": results,
        "loss_percent": {name: 100.0 * (bits / exact - 1.0) for name, bits in results.items()},
        "tokens": sum(piece.size for piece in pieces),
        "window": window,
    }


def _baseline(preset: str, artifact: list[Path] | None) -> Path:
    """Return the one program that the modes simulate."""
    if artifact is None:
        return builtin_path(preset, "w8a8")
    if len(artifact) > 1:
        raise InputError(f"--modes simulates one program, {len(artifact)} are given; name one")
    return artifact[0]


def _artifacts(preset: str, given: list[Path] | None, schemes: tuple[str, ...]) -> dict[str, Path]:
    """Return the programs to measure by name: those given, or the built-in ones."""
    built_in = [builtin_path(preset, scheme) for scheme in schemes]
    paths = given or [path for path in built_in if path.is_file()] or built_in
    return {path.stem.removeprefix(f"{preset}-"): path for path in paths}


def _write(
    report: dict[str, Any],
    out: Path | None,
    show: Callable[[dict[str, Any]], None],
    *,
    as_json: bool,
) -> None:
    """Write the report to ``out`` if there is one, and print it as JSON or by ``show``."""
    text = json.dumps(report, indent=1, sort_keys=True)
    if out is not None:
        command.atomic_write(out, (text + "\n").encode())
    if as_json:
        typer.echo(text)
    else:
        show(report)


@application.command()
def evaluate(
    preset: Annotated[str, typer.Option(help="network, or a name for --checkpoint")] = "bytelm",
    artifact: Annotated[
        list[Path] | None, typer.Option(help="program; without it the built-in ones")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="float network")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="corpus name (wikipedia), a UTF-8 file or folder; mars: its .npz"),
    ] = None,
    corpus_file: Annotated[Path | None, typer.Option(help="where a named corpus lies")] = None,
    size: Annotated[int | None, typer.Option("--bytes", help="held-out text; all of it")] = None,
    window: Annotated[
        int, typer.Option(help="tokens between resets of the state; longer ones show its drift")
    ] = WINDOW,
    seed: Annotated[int, typer.Option(help="of random weights or tokens")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
    modes: Annotated[
        str | None, typer.Option(help="simulate the scan's input: all, or names with commas")
    ] = None,
    ratio: Annotated[
        list[float] | None, typer.Option(help="research-se: coarse over fine step [3, 4, 2025]")
    ] = None,
    code_bits: Annotated[int, typer.Option(help="research-se: width of a code")] = 4,
    quantile: Annotated[float, typer.Option(help="research-se: .99, .995 or .999")] = 0.99,
    margin: Annotated[float, typer.Option(help="research-se: flag beyond this share")] = 1.0,
    second_checkpoint: Annotated[
        Path | None, typer.Option(help="--table: float network of training seed 1")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="--table: measure this record, leave the pages")
    ] = None,
    *,
    table: Annotated[
        bool,
        typer.Option("--table", help="measure what is not yet; rewrite the pages"),
    ] = False,
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="research-se: one fine step a channel")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure bits a byte of float network and integer programs on the same held-out text.

    The radar network of the preset mars is measured in centimetres on its test frames.

    Windows do not overlap; the state is reset at each, and every byte is predicted. With --modes
    one program is run with every storage of the scan's input, and the losses have intervals.
    """
    if preset in SLIM_PRESETS:
        raise InputError(
            f"preset {preset} is measured in metres; use python -m model.positioning evaluate "
            "--data FOLDER --checkpoint FILE --artifact FILE"
        )
    if table:
        if preset != "bytelm" or artifact or checkpoint or modes or size or window != WINDOW:
            raise InputError(
                "--table measures all built-in programs on all held-out text; leave --preset, "
                "--artifact, --checkpoint, --modes, --bytes and --window out"
            )
        make_table(corpus_file, second_checkpoint, only or [])
        return
    if second_checkpoint or only:
        raise InputError("--second-checkpoint and --only are for --table; give it as well")
    if is_frame_preset(preset):
        if modes is not None or size is not None:
            raise InputError("--modes and --bytes are for language models; leave them out for mars")
        file = None if data is None else Path(data)
        artifacts = _artifacts(preset, artifact, FRAME_SCHEMES)
        report = frame_report(preset, checkpoint, artifacts, file)
        _write(report, out, print_frame_report, as_json=as_json)
        return
    source = find_network(preset, checkpoint, seed)
    network = FloatNetwork(extract_parameters(source.model))
    vocabulary = network.parameters.shape.vocabulary
    tokens = find_tokens(
        vocabulary, data or "wikipedia", corpus_file, seed, length=size or 16 * WINDOW
    )
    if size is not None and not 1 <= size <= len(tokens.held_out):
        raise InputError(f"bytes = {size} is outside 1..{len(tokens.held_out)}, the held-out text")
    if modes is None:
        artifacts = _artifacts(preset, artifact, trained_schemes(preset))
        if window < 1:
            raise InputError(f"window = {window} is no length; give at least 1 token")
        report = _scheme_report(network, artifacts, tokens.held_out[:size], window)
    else:
        choice = ResearchChoice(
            ratios=tuple(ratio or DEFAULT_RATIOS), quantile=quantile, code_bits=code_bits,
            margin=margin, per_channel=per_channel,
        )  # fmt: skip
        chosen = choose_modes(modes)
        program = _same_shape(network, _baseline(preset, artifact))
        report = mode_report(program, network, tokens, chosen, choice, size=size, seed=seed)
    report |= {**source.description, **tokens.description}
    _write(report, out, _print if modes is None else print_modes, as_json=as_json)


if __name__ == "__main__":
    command.run(application)
