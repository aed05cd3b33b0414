"""Published methods beside ours, in one run: ``python -m model.peers --preset NAME``.

The peers are our own re-implementations, and they are given what ours does without: real scales,
a float scan, and float values between the matrices. Stored are the inputs of the matrices and of
the scan (norm, u, dt, B, C, y SiLU(z)) with one scale a tensor, and all weights, those of embedding
and head at 8 bits. Ours is the integer program, everything included; and the same quantizer with
real scales for groups of columns, its scan and activations the program's integers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from golden import command
from golden.artifact import load_program
from golden.builtin import builtin_path
from golden.fixed_point import integer_range
from golden.scheme import Scheme, find_scheme
from model.document_statistics import PairedBootstrap
from model.float_simulation import FloatNetwork
from model.layer_quantization import WeightChoice
from model.mode_report import interval_text, token_groups
from model.network_parameters import LayerParameters, NetworkParameters, extract_parameters
from model.outliers import plant_outliers
from model.quantizer import QuantizationChoice, quantize_network
from model.range_observers import RangeObserver, make_observer
from model.rotation import hadamard_columns
from model.sensitivity import measure_sensitivity
from model.sources import FloatSource, TokenSource, find_network, find_tokens
from model.text_windows import (
    WINDOW,
    Start,
    choose_windows,
    cut_windows,
    float_start,
    inputs_of,
    integer_start,
    token_bits,
)

application = typer.Typer(add_completion=False)
Array = npt.NDArray[Any]

_TENSORS = {"norm": "in_proj", "u": "x_proj", "dt": "dt_proj", "gated": "out_proj"}
"""Inputs of matrices, and whose."""
_STORED = (*_TENSORS, "scan_u", "b", "c")
_CALIBRATION_WINDOW = 1024
GROUPS = (32,)
"""Columns that share a real scale of ours."""
SCHEMES = ("w8a8-h", "w4a8-h")
"""Widths to compare at; every activation of a peer has the same."""
SIZE, CALIBRATION_BYTES = 65536, 32768
"""Held-out and training text."""
OURS = "ours, powers of two"
_MIGRATION = 0.5
"""SmoothQuant's alpha: the share of a channel's range that moves to the weights."""
_ENDS_BITS = 8
"""Width of embedding and head."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A published method.

    Parameters
    ----------
    name : of the row
    observer : of the activations' ranges
    tensor : one scale a matrix in place of one a row
    smooth : SmoothQuant's migration of activation ranges into the weights (Xiao et al. 2023)
    rotate : a Hadamard transform in front of out_proj, as Quamba has (Chiang et al. 2024)
    """

    name: str
    observer: str
    tensor: bool = False
    smooth: bool = False
    rotate: bool = False


PEERS = (
    Peer(name="round to nearest", observer="min-max"),
    Peer(name="SmoothQuant scaling", observer="min-max", smooth=True),
    Peer(name="Quamba, weights a tensor", observer="quamba", tensor=True, rotate=True),
    Peer(name="Quamba, weights a row", observer="quamba", rotate=True),
)


def rounded(weight: Array, bits: int, *, tensor: bool = False) -> Array:
    """Return ``weight`` rounded to nearest with a real scale a row, or one for all."""
    high = integer_range(bits)[1]
    peak = np.abs(weight).max(axis=None if tensor else 1, keepdims=True)
    step = np.where(peak > 0, peak, 1.0) / high
    return np.asarray(np.clip(np.rint(weight / step), -high, high) * step)


class Simulation:
    """One peer on one network: its scales from calibration text, its weights and its hook."""

    def __init__(
        self, peer: Peer, parameters: NetworkParameters, calibration: Array, scheme: Scheme
    ) -> None:
        self._peer, self._bits = peer, scheme.activation_bits
        self._size = parameters.shape.d_inner
        self._columns = hadamard_columns(self._size).astype(np.float32) if peer.rotate else None
        self._smooth: dict[tuple[str, int], Array] = {}
        network = FloatNetwork(parameters)
        if peer.smooth:
            self._smooth = _migration(network, parameters, calibration)
        self._observers: dict[tuple[str, int], RangeObserver] = {}
        for row in inputs_of(calibration):
            network.forward(row[None], None, self._observe)
        layers = tuple(
            self._layer(index, layer, scheme.weight_bits)
            for index, layer in enumerate(parameters.layers)
        )
        self._parameters = dataclasses.replace(
            parameters,
            layers=layers,
            embedding=rounded(parameters.embedding, _ENDS_BITS),
            head=rounded(parameters.head, _ENDS_BITS),
        )

    def start(self) -> Start:
        """Return what runs the peer's network."""
        return float_start(FloatNetwork(self._parameters), self._store)

    def _seen(self, name: str, layer: int, value: Array) -> Array:
        """Return what is stored of a tensor before rounding: smoothed or rotated."""
        if name == "gated" and self._columns is not None:
            return value @ self._columns
        return value / self._smooth.get((name, layer), np.float32(1.0))

    def _observe(self, name: str, layer: int, value: Array) -> Array:
        if name in _STORED:
            site = (name, layer)
            if site not in self._observers:
                levels = integer_range(self._bits)[1]
                self._observers[site] = make_observer(self._peer.observer, levels)
            self._observers[site].observe(self._seen(name, layer, value))
        return value

    def _store(self, name: str, layer: int, value: Array) -> Array:
        observer = self._observers.get((name, layer))
        if observer is None:
            return value
        low, high = integer_range(self._bits)
        step = np.float32(observer.scale(self._bits) or 1.0)
        stored = np.clip(np.rint(self._seen(name, layer, value) / step), low, high) * step
        if name == "gated" and self._columns is not None:
            back: Array = stored @ self._columns.T / np.float32(self._size)
            return back
        whole: Array = stored * self._smooth.get((name, layer), np.float32(1.0))
        return whole

    def _layer(self, index: int, own: LayerParameters, bits: int) -> LayerParameters:
        changes: dict[str, Any] = {}
        for tensor, name in _TENSORS.items():
            weight = getattr(own, name)
            factor = self._smooth.get((tensor, index), np.float32(1.0))
            if name == "out_proj" and self._columns is not None:
                turned = rounded(weight @ self._columns, bits, tensor=self._peer.tensor)
                changes[name] = turned @ self._columns.T / self._size
            else:
                changes[name] = rounded(weight * factor, bits, tensor=self._peer.tensor) / factor
        return dataclasses.replace(own, **changes)


def _migration(
    network: FloatNetwork, parameters: NetworkParameters, calibration: Array
) -> dict[tuple[str, int], Array]:
    """Return SmoothQuant's factor of every channel: ``max|X|^alpha / max|W|^(1 - alpha)``."""
    peaks: dict[tuple[str, int], Array] = {}

    def watch(name: str, layer: int, value: Array) -> Array:
        if name in _TENSORS and layer >= 0:
            peak = np.abs(value).max(axis=(0, 1))
            peaks[name, layer] = np.maximum(peaks.get((name, layer), 0.0), peak)
        return value

    for row in inputs_of(calibration):
        network.forward(row[None], None, watch)
    factors = {}
    for (name, layer), peak in peaks.items():
        weight = np.abs(getattr(parameters.layers[layer], _TENSORS[name])).max(axis=0)
        factor = np.maximum(peak, 1e-5) ** _MIGRATION / np.maximum(weight, 1e-5) ** (
            1.0 - _MIGRATION
        )
        factors[name, layer] = factor.astype(np.float32)
    return factors


class PeerComparison:
    """All methods on one network and the same text.

    Parameters
    ----------
    source : the float network
    tokens : its text
    size : held-out tokens to measure on
    calibration_bytes : training text for every method
    outliers : channels planted in front of every in_proj, see :mod:`model.outliers`
    seed : of calibration, rotation, outliers and resamples
    """

    def __init__(
        self, source: FloatSource, tokens: TokenSource, *, size: int, calibration_bytes: int,
        outliers: int = 0, seed: int = 0,
    ) -> None:  # fmt: skip
        parameters = extract_parameters(source.model)
        windows = calibration_bytes // _CALIBRATION_WINDOW
        self._calibration = choose_windows(tokens.train, windows, _CALIBRATION_WINDOW, seed)
        stream = tokens.held_out[:size]
        self._pieces = cut_windows(stream, WINDOW)
        self._exact = token_bits(float_start(FloatNetwork(parameters)), self._pieces)
        groups = token_groups(parameters.shape.vocabulary, stream)
        self._bootstrap = PairedBootstrap(groups, seed)
        self._sensitivity = measure_sensitivity(
            source.model, self._calibration[: windows // 2], seed
        )
        self._parameters = plant_outliers(parameters, outliers, seed) if outliers else parameters
        self._seed = seed
        self.tokens = len(stream)

    @property
    def bits(self) -> float:
        """Bits a token of the float network."""
        return float(self._exact.mean())

    def rows(
        self, scheme: Scheme, groups: tuple[int, ...] = GROUPS, artifact: Path | None = None
    ) -> list[dict[str, Any]]:
        """Return the JSON rows of a scheme.

        Parameters
        ----------
        groups : columns that share a real scale of ours, a row for each
        artifact : our program; without it the network is quantized here
        """
        console, rows = Console(stderr=True), []
        for name, make in self._contestants(scheme, groups, artifact):
            with console.status(f"{scheme.name}: {name}"):
                found = token_bits(make(), self._pieces)
            difference = self._bootstrap.compare(found, self._exact)
            rows.append({"method": name, "bits": float(found.mean()), **difference.to_json()})
        return rows

    def _contestants(
        self, scheme: Scheme, groups: tuple[int, ...], artifact: Path | None
    ) -> Iterator[tuple[str, Callable[[], Start]]]:
        """Yield every row of the table with what makes its network."""
        for peer in PEERS:
            simulation = partial(Simulation, peer, self._parameters, self._calibration, scheme)
            yield peer.name, partial(_started, simulation)
        for group in groups:
            name = f"ours, a real scale for {group} columns of a row"
            yield name, partial(self._ours, scheme, group)
        if artifact is None:
            yield OURS, partial(self._ours, scheme)
        else:
            yield OURS, lambda: integer_start(load_program(artifact))

    def _ours(self, scheme: Scheme, group: int | None = None) -> Start:
        """Return our quantizer's network; with real scales for groups of columns if given."""
        choice = QuantizationChoice(weights=WeightChoice(group=group), seed=self._seed)
        draft = quantize_network(
            self._parameters, scheme, self._calibration, choice, sensitivity=self._sensitivity
        )
        return integer_start(draft.build(simulated=group is not None))


def _started(simulation: Callable[[], Simulation]) -> Start:
    return simulation().start()


def _print(report: dict[str, Any]) -> None:
    for scheme, rows in report["schemes"].items():
        table = Table(title=f"{scheme}, {report['tokens']:,} held-out tokens")
        for column in ("method", "bits per token", "loss [95 % interval]"):
            table.add_column(column, justify="left" if column == "method" else "right")
        for row in rows:
            table.add_row(row["method"], f"{row['bits']:.4f}", interval_text(row))
        Console().print(table)


@application.command()
def peers(
    preset: Annotated[str, typer.Option(help="network, or a name for --checkpoint")] = "bytelm",
    checkpoint: Annotated[Path | None, typer.Option(help="float network")] = None,
    scheme: Annotated[
        list[str] | None, typer.Option(help="widths to compare at [w8a8-h, w4a8-h]")
    ] = None,
    data: Annotated[str, typer.Option(help="corpus name, a UTF-8 file or folder")] = "wikipedia",
    corpus_file: Annotated[Path | None, typer.Option(help="where a named corpus lies")] = None,
    size: Annotated[int, typer.Option("--bytes", help="held-out text")] = SIZE,
    calibration_bytes: Annotated[
        int, typer.Option(help="training text to calibrate on")
    ] = CALIBRATION_BYTES,
    group: Annotated[
        list[int] | None, typer.Option(help="columns that share a real scale of ours [32]")
    ] = None,
    outliers: Annotated[
        int, typer.Option(help="plant that many outlier channels first, same function")
    ] = 0,
    seed: Annotated[int, typer.Option(help="of calibration, rotation and outliers")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
) -> None:
    """Compare the quantizer with published methods on the same network, data and text."""
    schemes = [find_scheme(name) for name in scheme or SCHEMES]
    source = find_network(preset, checkpoint, seed)
    vocabulary = source.model.configuration.vocab_size
    tokens = find_tokens(vocabulary, data, corpus_file, seed, length=size + calibration_bytes)
    comparison = PeerComparison(
        source, tokens, size=size, calibration_bytes=calibration_bytes, outliers=outliers,
        seed=seed,
    )  # fmt: skip
    built_in = preset == "bytelm" and checkpoint is None and not outliers
    rows = {
        own.name: comparison.rows(
            own, tuple(group or GROUPS), builtin_path(preset, own.name) if built_in else None
        )
        for own in schemes
    }
    report = {"tokens": comparison.tokens, "float": comparison.bits, "schemes": rows}
    report |= {"outliers": outliers, **source.description, **tokens.description}
    if out is not None:
        command.atomic_write(out, (json.dumps(report, indent=1, sort_keys=True) + "\n").encode())
    _print(report)


if __name__ == "__main__":
    command.run(application)
