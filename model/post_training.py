"""One run of post-training quantization with progress bars: what commands that quantize share."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from golden.scheme import Scheme
from model.network_parameters import NetworkParameters, extract_parameters
from model.program_builder import NetworkDraft
from model.quantizer import QuantizationChoice, quantize_network
from model.sensitivity import LayerSensitivity, measure_sensitivity
from model.sources import FloatSource, TokenSource
from model.text_windows import choose_windows

__all__ = [
    "CALIBRATION_BYTES", "CALIBRATION_WINDOW", "GRADIENT_BYTES", "Quantization", "quantize_source",
]  # fmt: skip

CALIBRATION_WINDOW = 1024
CALIBRATION_BYTES = 65536
"""Training text to calibrate on, unless something else is said."""
GRADIENT_BYTES = 32768
"""The part of it whose gradients weight the rounding errors."""


@dataclasses.dataclass(frozen=True)
class Quantization:
    """What quantizing a network gave.

    Parameters
    ----------
    draft : of the program, not yet checked against its widths
    parameters : the float network
    provenance : network, data and options, JSON values
    """

    draft: NetworkDraft
    parameters: NetworkParameters
    provenance: dict[str, object]


def quantize_source(
    network: FloatSource, tokens: TokenSource, scheme: Scheme, choice: QuantizationChoice,
    *, calibration_bytes: int = CALIBRATION_BYTES, gradient_bytes: int = GRADIENT_BYTES,
) -> Quantization:  # fmt: skip
    """Quantize ``network`` on training text.

    Windows of the text and their labels are drawn by the choice's seed. The first
    ``gradient_bytes`` of the text show what the loss of a Mamba-1 network feels of rounding errors.

    Raises
    ------
    InputError
        If the text is too short.
    """
    windows = calibration_bytes // CALIBRATION_WINDOW
    gradients = min(windows, gradient_bytes // CALIBRATION_WINDOW)
    calibration = choose_windows(tokens.train, windows, CALIBRATION_WINDOW, choice.seed)
    with torch.no_grad():
        parameters = extract_parameters(network.model)
        sensitivity = None
        if gradients and parameters.shape.heads is None:
            sensitivity = _sensitivity(network, calibration[:gradients], choice.seed)
        draft = _draft(parameters, scheme, calibration, choice, sensitivity)
    provenance = {
        "source": "model.quantize",
        "seed": choice.seed,
        "calibration_tokens": windows * CALIBRATION_WINDOW,
        "gradient_tokens": gradients * CALIBRATION_WINDOW,
        "options": dataclasses.asdict(choice),
        **network.description,
        **tokens.description,
    }
    return Quantization(draft, parameters, provenance)


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
