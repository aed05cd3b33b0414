"""Quantizes a network: ``python -m model.quantize --preset NAME --scheme NAME --out FILE``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from golden import command
from golden.artifact import save_program
from golden.errors import InputError
from golden.presets import is_frame_preset
from golden.scheme import DualScale, Scheme, find_scheme
from model.formats import FormatChoice
from model.frame_quantize import CALIBRATION_FRAMES, write_frame_program
from model.layer_widths import hybrid_scheme, read_layer_widths
from model.post_training import (
    CALIBRATION_BYTES,
    CALIBRATION_WINDOW,
    GRADIENT_BYTES,
    quantize_source,
)
from model.quantizer import QuantizationChoice
from model.range_observers import OBSERVERS
from model.slim_configuration import SLIM_PRESETS
from model.slim_quantize import CALIBRATION_WINDOWS, write_slim_program
from model.sources import find_network, find_tokens
from model.stage_report import stage_report

application = typer.Typer(add_completion=False)
DUAL_SCALE_RULES = ("mse", "quantile")


def _checked(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise InputError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}")
    return value


def _print(report: dict[str, Any]) -> None:
    table = Table(title=f"loss of each stage alone, {report['tokens']:,} held-out tokens")
    for column in ("stage", "bits per token", "loss"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for loss in report["stages"]:
        bits, percent = loss["bits_per_byte"], loss["loss_percent"]
        table.add_row(loss["stage"], f"{bits:.4f}", f"{percent:+.2f} %")
    Console().print(table)


def _with_ratio(scheme: Scheme, ratio: float | None) -> Scheme:
    """Return ``scheme`` with another ratio of its dual scale."""
    if ratio is None:
        return scheme
    if scheme.dual_scale is None:
        raise InputError(
            f"--ratio is for dual scale, scheme {scheme.name} has none; choose a scheme with se"
        )
    dual = DualScale.of_ratio(ratio, scheme.dual_scale.code_bits)
    return dataclasses.replace(scheme, dual_scale=dual)


def _with_widths(scheme: Scheme, **widths: int | None) -> Scheme:
    """Return ``scheme`` with those of its widths that a user gave."""
    given: dict[str, Any] = {name: bits for name, bits in widths.items() if bits is not None}
    return dataclasses.replace(scheme, **given)


def _hybrid(
    scheme: Scheme, choice: QuantizationChoice, path: Path | None, layers: int
) -> tuple[Scheme, QuantizationChoice]:
    """Return scheme and choice with the widths of a layer file; storage has the widest."""
    if path is None:
        return scheme, choice
    scheme, widths = hybrid_scheme(scheme, read_layer_widths(path, layers), layers)
    return scheme, dataclasses.replace(choice, widths=widths)


def _refuse_for_frames(report: Path | None, layers: Path | None, scheme: Scheme) -> None:
    """Raise InputError if an option of language models was given for a frame network."""
    if report is not None:
        raise InputError("--report measures language models; see model.evaluate for frames")
    if layers is not None:
        raise InputError("--layers is for language models; a frame network has one width")
    if scheme.weight_group is not None:
        raise InputError("--weight-groups is for language models; give a frame network none")
    if scheme.asymmetric:
        raise InputError("--asymmetric is for language models; quantize a frame network without")


@application.command()
def quantize(
    scheme: Annotated[str, typer.Option(help="a name of golden.scheme.SCHEMES")],
    out: Annotated[Path, typer.Option(help="artifact to write")],
    preset: Annotated[str, typer.Option(help="network, or a name for --checkpoint")] = "bytelm",
    checkpoint: Annotated[Path | None, typer.Option(help="float network, any naming")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="corpus name (wikipedia), a UTF-8 file or folder; mars: its .npz; "
            "slim: a folder of model.positioning prepare"
        ),
    ] = None,
    corpus_file: Annotated[Path | None, typer.Option(help="where a named corpus lies")] = None,
    calibration_bytes: Annotated[
        int, typer.Option(help="training text to calibrate on")
    ] = CALIBRATION_BYTES,
    gradient_bytes: Annotated[
        int, typer.Option(help="calibration text whose gradients weight the errors; 0 for none")
    ] = GRADIENT_BYTES,
    calibration_frames: Annotated[
        int, typer.Option(help="mars: training frames to calibrate on")
    ] = CALIBRATION_FRAMES,
    calibration_windows: Annotated[
        int, typer.Option(help="slim: training windows to calibrate on")
    ] = CALIBRATION_WINDOWS,
    observer: Annotated[str, typer.Option(help=", ".join(OBSERVERS))] = "mse",
    dual_scale_rule: Annotated[str, typer.Option(help="mse or quantile")] = "mse",
    ratio: Annotated[
        float | None, typer.Option(help="dual scale: coarse over fine step, a power of two")
    ] = None,
    embedding_bits: Annotated[
        int | None, typer.Option(help="of embedding and head, 8; 16 leaves them as they are")
    ] = None,
    head_bits: Annotated[int | None, typer.Option(help="of the head alone, 4 to 16")] = None,
    layers: Annotated[
        Path | None, typer.Option(help="hybrid: JSON file of layer numbers and bits")
    ] = None,
    seed: Annotated[int, typer.Option(help="of calibration text and rotation")] = 0,
    report: Annotated[Path | None, typer.Option(help="JSON file for the stages' losses")] = None,
    *,
    weight_groups: Annotated[
        int | None, typer.Option(help="columns that share a scale, such as 128; else all of a row")
    ] = None,
    asymmetric: Annotated[
        bool, typer.Option(help="unsigned codes with zero points for x_proj's input")
    ] = False,
    rotate: Annotated[bool, typer.Option(help="rotate the residual stream")] = True,
) -> None:
    """Quantize a float network to an integer program with power-of-two scales.

    The same arguments on the same machine write the same bytes.
    """
    found = _with_ratio(find_scheme(scheme), ratio)
    found = _with_widths(found, embedding_bits=embedding_bits, head_bits=head_bits)
    found = _with_widths(found, weight_group=weight_groups)
    found = dataclasses.replace(found, asymmetric=asymmetric)
    choice = QuantizationChoice(
        formats=FormatChoice(
            observer=_checked("observer", observer, OBSERVERS),
            dual_scale_rule=_checked("dual-scale rule", dual_scale_rule, DUAL_SCALE_RULES),
        ),
        rotate=rotate,
        seed=seed,
    )
    if preset in SLIM_PRESETS or is_frame_preset(preset):
        _refuse_for_frames(report, layers, found)
    if preset in SLIM_PRESETS:
        folder = None if data is None else Path(data)
        digest = write_slim_program(
            preset, checkpoint, found, choice, folder, calibration_windows, out
        )
        typer.echo(f"{out}: {preset} {scheme}, SHA-256 {digest}")
        return
    if is_frame_preset(preset):
        file = None if data is None else Path(data)
        digest = write_frame_program(
            preset, checkpoint, found, choice, file, calibration_frames, out
        )
        typer.echo(f"{out}: {preset} {scheme}, SHA-256 {digest}")
        return
    if calibration_bytes < CALIBRATION_WINDOW:
        raise InputError(
            f"calibration bytes = {calibration_bytes} is below one window of {CALIBRATION_WINDOW}; "
            "give more"
        )
    network = find_network(preset, checkpoint, seed)
    configuration = network.model.configuration
    found, choice = _hybrid(found, choice, layers, configuration.n_layer)
    tokens = find_tokens(
        configuration.vocab_size, data or "wikipedia", corpus_file, seed,
        length=2 * calibration_bytes,
    )  # fmt: skip
    done = quantize_source(
        network, tokens, found, choice,
        calibration_bytes=calibration_bytes, gradient_bytes=gradient_bytes,
    )  # fmt: skip
    program = done.draft.build(done.provenance)
    if report is not None:
        stages = stage_report(done, program, tokens.held_out)
        _print(stages)
        content = json.dumps(stages, indent=1, sort_keys=True) + "\n"
        command.atomic_write(report, content.encode())
    digest = save_program(program, out)
    typer.echo(f"{out}: {preset} {scheme}, SHA-256 {digest}")


if __name__ == "__main__":
    command.run(application)
