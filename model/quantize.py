"""Quantizes a network: ``python -m model.quantize --preset NAME --scheme NAME --out FILE``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from golden import command
from golden.artifact import save_program
from golden.errors import InputError
from golden.presets import is_frame_preset
from golden.program import Program
from golden.scheme import DualScale, Scheme, find_scheme
from model.formats import FormatChoice
from model.frame_quantize import CALIBRATION_FRAMES, write_frame_program
from model.layer_widths import read_layer_widths
from model.network_parameters import NetworkParameters, extract_parameters
from model.program_builder import NetworkDraft
from model.quantization_report import StageLoss, stage_losses
from model.quantizer import QuantizationChoice, quantize_network
from model.range_observers import OBSERVERS
from model.sensitivity import LayerSensitivity, measure_sensitivity
from model.slim_configuration import SLIM_PRESETS
from model.slim_quantize import CALIBRATION_WINDOWS, write_slim_program
from model.sources import FloatSource, TokenSource, find_network, find_tokens
from model.text_windows import WINDOW, choose_windows, cut_windows

application = typer.Typer(add_completion=False)
CALIBRATION_WINDOW = 1024
REPORT_BYTES = 8 * WINDOW
"""Held-out text on which the stages are measured one by one."""
DUAL_SCALE_RULES = ("mse", "quantile")


def _checked(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise InputError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}")
    return value


def _draft(
    parameters: NetworkParameters, scheme: Scheme, calibration: np.ndarray,
    choice: QuantizationChoice, sensitivity: tuple[LayerSensitivity, ...] | None,
) -> NetworkDraft:  # fmt: skip
    """Quantize with a bar that counts blocks and the head."""
    with Progress(
        TextColumn("quantizing {task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("block 0", total=parameters.shape.n_layer + 1)
        started = False

        def advance(text: str) -> None:
            nonlocal started
            progress.update(task, description=text, advance=int(started))
            started = True

        draft = quantize_network(parameters, scheme, calibration, choice, advance, sensitivity)
        progress.update(task, advance=1)
    return draft


def _sensitivity(
    network: FloatSource, windows: np.ndarray, seed: int
) -> tuple[LayerSensitivity, ...]:
    """Take the loss's gradients with a bar that counts tokens."""
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("gradients of the loss", total=windows.size)
        return measure_sensitivity(
            network.model, windows, seed, lambda tokens: progress.advance(task, tokens)
        )


def _stages(
    draft: NetworkDraft, parameters: NetworkParameters, held_out: np.ndarray
) -> list[StageLoss]:
    """Measure every stage alone on held-out text."""
    console = Console(stderr=True)
    pieces = cut_windows(held_out[:REPORT_BYTES], WINDOW)
    with console.status("measuring") as status:
        return stage_losses(
            draft, parameters, pieces, lambda stage: status.update(f"measuring {stage}")
        )


def _print(losses: list[StageLoss]) -> None:
    table = Table(title=f"loss of each stage alone, {REPORT_BYTES:,} held-out bytes")
    for column in ("stage", "bits per token", "loss"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for loss in losses:
        table.add_row(loss.stage, f"{loss.bits_per_byte:.4f}", f"{loss.loss_percent:+.2f} %")
    Console().print(table)


def quantized(
    network: FloatSource, tokens: TokenSource, scheme: Scheme, *, windows: int, seed: int,
    choice: QuantizationChoice, gradient_windows: int = 0,
) -> tuple[NetworkDraft, NetworkParameters, Program]:  # fmt: skip
    """Return draft, float parameters and program; provenance names network, data and options.

    ``gradient_windows`` of the calibration text show what the loss of a Mamba-1 network feels of
    rounding errors.
    """
    parameters = extract_parameters(network.model)
    calibration = choose_windows(tokens.train, windows, CALIBRATION_WINDOW, seed)
    sensitivity = None
    if gradient_windows and parameters.shape.heads is None:
        sensitivity = _sensitivity(network, calibration[:gradient_windows], seed)
    draft = _draft(parameters, scheme, calibration, choice, sensitivity)
    provenance = {
        "source": "model.quantize",
        "seed": seed,
        "calibration_tokens": windows * CALIBRATION_WINDOW,
        "gradient_tokens": gradient_windows * CALIBRATION_WINDOW,
        "options": dataclasses.asdict(choice),
        **network.description,
        **tokens.description,
    }
    return draft, parameters, draft.build(provenance)


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
    widths = read_layer_widths(path, layers)
    bits = tuple(widths.get(layer, scheme.weight_bits) for layer in range(layers))
    return (
        dataclasses.replace(scheme, weight_bits=max(bits)),
        dataclasses.replace(choice, layer_bits=bits),
    )


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
    calibration_bytes: Annotated[int, typer.Option(help="training text to calibrate on")] = 65536,
    gradient_bytes: Annotated[
        int, typer.Option(help="calibration text whose gradients weight the errors; 0 for none")
    ] = 32768,
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
        Path | None, typer.Option(help="hybrid: JSON file of layer numbers and weight bits")
    ] = None,
    seed: Annotated[int, typer.Option(help="of calibration text and rotation")] = 0,
    report: Annotated[Path | None, typer.Option(help="JSON file for the stages' losses")] = None,
    *,
    rotate: Annotated[bool, typer.Option(help="rotate the residual stream")] = True,
) -> None:
    """Quantize a float network to an integer program with power-of-two scales.

    The same arguments on the same machine write the same bytes.
    """
    found = _with_ratio(find_scheme(scheme), ratio)
    found = _with_widths(found, embedding_bits=embedding_bits, head_bits=head_bits)
    choice = QuantizationChoice(
        formats=FormatChoice(
            observer=_checked("observer", observer, OBSERVERS),
            dual_scale_rule=_checked("dual-scale rule", dual_scale_rule, DUAL_SCALE_RULES),
        ),
        rotate=rotate,
        seed=seed,
    )
    if preset in SLIM_PRESETS:
        folder = None if data is None else Path(data)
        digest = write_slim_program(
            preset, checkpoint, found, choice, folder, calibration_windows, out
        )
        typer.echo(f"{out}: {preset} {scheme}, SHA-256 {digest}")
        return
    if is_frame_preset(preset):
        if report is not None:
            raise InputError("--report measures language models; see model.evaluate for frames")
        if layers is not None:
            raise InputError("--layers is for language models; a frame network has one width")
        file = None if data is None else Path(data)
        digest = write_frame_program(
            preset, checkpoint, found, choice, file, calibration_frames, out
        )
        typer.echo(f"{out}: {preset} {scheme}, SHA-256 {digest}")
        return
    windows = calibration_bytes // CALIBRATION_WINDOW
    if windows < 1:
        raise InputError(
            f"calibration bytes = {calibration_bytes} is below one window of {CALIBRATION_WINDOW}; "
            "give more"
        )
    with torch.no_grad():
        network = find_network(preset, checkpoint, seed)
        configuration = network.model.configuration
        found, choice = _hybrid(found, choice, layers, configuration.n_layer)
        vocabulary = configuration.vocab_size
        tokens = find_tokens(
            vocabulary, data or "wikipedia", corpus_file, seed, length=2 * calibration_bytes
        )
        draft, parameters, program = quantized(
            network, tokens, found, windows=windows, seed=seed, choice=choice,
            gradient_windows=min(windows, gradient_bytes // CALIBRATION_WINDOW),
        )  # fmt: skip
        if report is not None:
            losses = _stages(draft, parameters, tokens.held_out)
            _print(losses)
            content = [dataclasses.asdict(loss) for loss in losses]
            command.atomic_write(report, (json.dumps(content, indent=1) + "\n").encode())
    digest = save_program(program, out)
    typer.echo(f"{out}: {preset} {scheme}, SHA-256 {digest}")


if __name__ == "__main__":
    command.run(application)
