"""Which range observer? ``python -m model.observer_sweep --preset NAME``.

The float network with every activation stored in one real scale a tensor, from one observer at a
time: by name, by alpha, by sigma, with Q1's alpha by depth, and asymmetric (Q3). Weights stay
float, so that the loss is the observer's. All settings see the same calibration batches and the
same held-out text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from golden import command
from golden.errors import InputError
from golden.fixed_point import integer_range
from model.document_statistics import Difference, PairedBootstrap
from model.float_simulation import FloatNetwork, Hook
from model.mode_report import interval_text, token_groups
from model.network_parameters import extract_parameters
from model.observer_sweep_plot import draw
from model.range_observers import (
    ALPHAS,
    OBSERVERS,
    SIGMAS,
    PercentileObserver,
    RangeObserver,
    asymmetric_range,
    layer_alpha,
    make_observer,
)
from model.simulation_modes import run_modes
from model.sources import find_network, find_tokens
from model.text_windows import WINDOW, Start, choose_windows, cut_windows, float_start, inputs_of

application = typer.Typer(add_completion=False)
Array = npt.NDArray[Any]
Site = tuple[str, int]
"""Tensor and layer."""

TENSORS = frozenset(("norm", "x", "u", "scan_u", "dt", "b", "c", "scan_output", "gated"))
"""What a w8a8 program stores as activations."""
_CALIBRATION_WINDOW = 1024
_BATCHES = 16
_SAMPLE = 1 << 16


@dataclass(frozen=True)
class Setting:
    """One way of finding scales.

    Parameters
    ----------
    group : what is swept: observer, alpha, sigma or asymmetric
    value : its name or number, as text
    observer : makes the observer of a layer; None for asymmetric formats
    alpha : of asymmetric formats
    """

    group: str
    value: str
    observer: Callable[[int], RangeObserver] | None
    alpha: float = 1.0

    @property
    def name(self) -> str:
        """Group and value."""
        return f"{self.group} {self.value}"


def settings(bits: int, layers: int) -> Iterator[Setting]:
    """Yield every setting for formats of ``bits``."""
    levels = integer_range(bits)[1]

    def named(name: str) -> Callable[[int], RangeObserver]:
        return lambda _layer: make_observer(name, levels)

    def percentile(alpha: float, sigma: float) -> Callable[[int], RangeObserver]:
        return lambda _layer: PercentileObserver(alpha, sigma)

    for name in OBSERVERS:
        yield Setting("observer", name, named(name))
    for alpha in ALPHAS:
        yield Setting("alpha", f"{alpha:g}", percentile(alpha, 0.1))
    yield Setting(
        "alpha", "by depth", lambda layer: PercentileObserver(layer_alpha(layer, layers), 0.1)
    )
    for sigma in SIGMAS:
        yield Setting("sigma", f"{sigma:g}", percentile(0.9995, sigma))
    for alpha in (0.9995, 1.0):
        yield Setting("asymmetric", f"{alpha:g}", None, alpha)


class _Calibration:
    """Observers and samples of every tensor for every setting, fed by one pass over the text."""

    def __init__(self, chosen: list[Setting]) -> None:
        self._chosen = chosen
        self._observers: dict[tuple[str, Site], RangeObserver] = {}
        self._samples: dict[Site, list[Array]] = {}

    def record(self, name: str, layer: int, value: Array) -> Array:
        """Show one batch of a tensor to all observers: a hook of the float network."""
        if name not in TENSORS:
            return value
        site = (name, layer)
        flat = value.reshape(-1)
        part = flat[:: max(1, flat.size // _SAMPLE) | 1]
        self._samples.setdefault(site, []).append(part)
        for setting in self._chosen:
            if setting.observer is not None:
                key = (setting.name, site)
                if key not in self._observers:
                    self._observers[key] = setting.observer(layer)
                self._observers[key].observe(part)
        return value

    def hook(self, setting: Setting, bits: int) -> Hook:
        """Return what stores every activation as ``setting`` says."""
        formats: dict[Site, Callable[[Array], Array]] = {}
        for site, parts in self._samples.items():
            if setting.observer is None:
                formats[site] = asymmetric_range(np.concatenate(parts), setting.alpha, bits)
            else:
                scale = self._observers[setting.name, site].scale(bits)
                formats[site] = _symmetric(scale, bits)

        def stored(name: str, layer: int, value: Array) -> Array:
            form = formats.get((name, layer))
            return value if form is None else form(value)

        return stored


def _symmetric(scale: float, bits: int) -> Callable[[Array], Array]:
    """Return a symmetric format, the identity for a tensor that was always zero."""
    low, high = integer_range(bits)
    step = np.float32(scale or 1.0)

    def stored(values: Array) -> Array:
        rounded: Array = np.clip(np.rint(values / step), low, high) * step
        return rounded

    return stored


def sweep(
    network: FloatNetwork, calibration: Array, stream: Array, bits: int, seed: int
) -> tuple[float, list[tuple[Setting, float, Difference]]]:
    """Return the float network's bits a token, and bits and loss of every setting.

    Parameters
    ----------
    calibration : windows of text (b, l), each one batch of the observers
    stream : held-out tokens
    """
    shape = network.parameters.shape
    chosen = list(settings(bits, shape.n_layer))
    found = _Calibration(chosen)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("calibrating", total=len(calibration))
        for row in inputs_of(calibration):
            network.forward(row[None], None, found.record)
            progress.advance(task)
        starts: dict[str, Start] = {"float": float_start(network)}
        for setting in chosen:
            starts[setting.name] = float_start(network, found.hook(setting, bits))
        task = progress.add_task("measuring", total=len(stream) * len(starts))
        costs = run_modes(
            starts, cut_windows(stream, WINDOW), lambda done: progress.advance(task, done)
        )
    exact = costs["float"]
    bootstrap = PairedBootstrap(token_groups(shape.vocabulary, stream), seed)
    rows = [
        (own, float(costs[own.name].mean()), bootstrap.compare(costs[own.name], exact))
        for own in chosen
    ]
    return float(exact.mean()), rows


def _print(report: dict[str, Any]) -> None:
    table = Table(
        title=f"activations of {report['bits']} bits, {report['tokens']:,} held-out tokens"
    )
    for column in ("group", "setting", "bits per token", "loss [95 % interval]"):
        table.add_column(column, justify="left" if column in ("group", "setting") else "right")
    for row in report["settings"]:
        table.add_row(
            row["group"], row["value"], f"{row['bits_per_token']:.4f}", interval_text(row)
        )
    Console(width=100).print(table)


@application.command()
def observer_sweep(
    preset: Annotated[str, typer.Option(help="network, or a name for --checkpoint")] = "bytelm",
    checkpoint: Annotated[Path | None, typer.Option(help="float network")] = None,
    data: Annotated[str, typer.Option(help="corpus name, or a UTF-8 file or folder")] = "wikipedia",
    corpus_file: Annotated[Path | None, typer.Option(help="where a named corpus lies")] = None,
    bits: Annotated[int, typer.Option(help="width of an activation, 3 to 8")] = 8,
    size: Annotated[int, typer.Option("--bytes", help="held-out text")] = 8 * WINDOW,
    seed: Annotated[int, typer.Option(help="of calibration text and intervals")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
    plot: Annotated[Path | None, typer.Option(help="SVG file to draw")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure the loss of every range observer, alpha and sigma on the same text."""
    if not 3 <= bits <= 8:
        raise InputError(f"bits = {bits} is outside 3..8; choose a width in that range")
    source = find_network(preset, checkpoint, seed)
    network = FloatNetwork(extract_parameters(source.model))
    vocabulary = network.parameters.shape.vocabulary
    length = max(size, _BATCHES * _CALIBRATION_WINDOW)
    tokens = find_tokens(vocabulary, data, corpus_file, seed, length=length)
    if not 1 <= size <= len(tokens.held_out):
        raise InputError(f"bytes = {size} is outside 1..{len(tokens.held_out)}, the held-out text")
    calibration = choose_windows(tokens.train, _BATCHES, _CALIBRATION_WINDOW, seed)
    exact, rows = sweep(network, calibration, tokens.held_out[:size], bits, seed)
    report = {
        "float": exact,
        "bits": bits,
        "tokens": size,
        "seed": seed,
        "settings": [
            {"group": own.group, "value": own.value, "bits_per_token": cost, **loss.to_json()}
            for own, cost, loss in rows
        ],
        **source.description,
        **tokens.description,
    }
    text = json.dumps(report, indent=1, sort_keys=True)
    if out is not None:
        command.atomic_write(out, (text + "\n").encode())
    if plot is not None:
        command.atomic_write(plot, draw(report))
    if as_json:
        typer.echo(text)
    else:
        _print(report)


if __name__ == "__main__":
    command.run(application)
