"""Scale statistics (Q13): ``python -m model.statistics --preset NAME --scheme NAME --out DIR``.

Every requantizer of every block is watched on held-out text: how its values are distributed before
and after, what share is clipped, what share are outliers, and what noise the rounding adds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from golden import command
from golden.artifact import load_program
from golden.builtin import builtin_path
from golden.errors import InputError
from golden.program import Program
from golden.scheme import find_scheme
from model.simulated_program import SimulatedProgram
from model.simulated_scan import RoundingWatch
from model.sources import find_tokens
from model.statistics_plot import draw_layer, draw_summary
from model.text_windows import inputs_of

application = typer.Typer(add_completion=False)
Array = npt.NDArray[Any]

BINS = 80
OUTLIER_DEVIATIONS = 6.0
"""An outlier is further from zero than so many root mean squares (Dettmers et al. 2022)."""
_WINDOW = 1024
SIZE = 16 * _WINDOW
"""Held-out tokens to watch."""
_SAMPLE = 1 << 12
"""Values kept of a tensor at a time, for the histograms."""


class TensorStatistics:
    """Counts of one tensor, over all that its requantizer has done."""

    def __init__(self) -> None:
        self._before: list[Array] = []
        self._after: list[Array] = []
        self._count, self._clipped = 0, 0
        self._power, self._noise, self._peak = 0.0, 0.0, 0.0
        self._steps: Array = np.ones(1)

    def watch(self, before: Array, after: Array, steps: Array) -> None:
        """Take in values before and after rounding (..., channels), in steps (channels,)."""
        error = before - after
        self._count += before.size
        # Rounding moves a value by half a step at most; what moves further was saturated.
        self._clipped += int((np.abs(error) > 0.5 * steps).sum())
        self._power += float(np.square(before).sum())
        self._noise += float(np.square(error).sum())
        self._peak = max(self._peak, float(np.abs(before).max()))
        self._steps = steps
        stride = max(1, before.size // _SAMPLE) | 1  # odd: not the same channel every time
        self._before.append(before.reshape(-1)[::stride])
        self._after.append(after.reshape(-1)[::stride])

    def report(self) -> dict[str, Any]:
        """Return the JSON of the tensor; histograms have the same bins before and after."""
        before, after = np.concatenate(self._before), np.concatenate(self._after)
        deviation = float(np.sqrt(self._power / self._count))
        edges = np.linspace(-self._peak or -1.0, self._peak or 1.0, BINS + 1)
        ratio = self._power / self._noise if self._noise > 0 else np.inf
        return {
            "values": self._count,
            "root_mean_square": deviation,
            "largest": self._peak,
            "quantile_99": float(np.quantile(np.abs(before), 0.99)),
            "quantile_999": float(np.quantile(np.abs(before), 0.999)),
            "clipped": self._clipped / self._count,
            "outliers": float((np.abs(before) > OUTLIER_DEVIATIONS * deviation).mean()),
            "signal_to_noise_db": float(10.0 * np.log10(ratio)) if np.isfinite(ratio) else None,
            "smallest_step": float(self._steps.min()),
            "largest_step": float(self._steps.max()),
            "edges": edges.tolist(),
            "before": np.histogram(before, edges)[0].tolist(),
            "after": np.histogram(after, edges)[0].tolist(),
        }


def collect(program: Program, stream: Array) -> list[dict[str, dict[str, Any]]]:
    """Return the statistics of every layer by tensor, on a stream of tokens."""
    found: dict[tuple[int, str], TensorStatistics] = {}

    def watch(tensor: str, layer: int) -> RoundingWatch:
        return found.setdefault((layer, tensor), TensorStatistics()).watch

    simulated = SimulatedProgram(program, watch=watch)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task("statistics", total=len(stream))
        for start in range(0, len(stream), _WINDOW):
            targets = stream[None, start : start + _WINDOW].astype(np.int64)
            simulated.start(1)(inputs_of(targets))
            progress.advance(task, targets.size)
    return [
        {tensor: own.report() for (layer, tensor), own in found.items() if layer == index}
        for index in range(program.shape.n_layer)
    ]


def _print(layers: list[dict[str, dict[str, Any]]]) -> None:
    table = Table(title="requantizers of the blocks")
    for column in ("layer", "tensor", "rms", "largest", "clipped", "outliers", "signal to noise"):
        table.add_column(column, justify="left" if column == "tensor" else "right")
    for index, tensors in enumerate(layers):
        for name, own in tensors.items():
            noise = own["signal_to_noise_db"]
            table.add_row(
                str(index), name, f"{own['root_mean_square']:.3g}", f"{own['largest']:.3g}",
                f"{100 * own['clipped']:.3f} %", f"{100 * own['outliers']:.3f} %",
                "exact" if noise is None else f"{noise:.1f} dB",
            )  # fmt: skip
        table.add_section()
    Console(width=100).print(table)


@application.command()
def statistics(
    out: Annotated[Path, typer.Option(help="folder to write")],
    preset: Annotated[str, typer.Option(help="network with a built-in program")] = "bytelm",
    scheme: Annotated[str, typer.Option(help="of the built-in program")] = "w8a8",
    artifact: Annotated[Path | None, typer.Option(help="another program")] = None,
    data: Annotated[str, typer.Option(help="corpus name, or a UTF-8 file or folder")] = "wikipedia",
    corpus_file: Annotated[Path | None, typer.Option(help="where a named corpus lies")] = None,
    size: Annotated[int, typer.Option("--bytes", help="held-out text")] = SIZE,
    seed: Annotated[int, typer.Option(help="of tokens where no text fits")] = 0,
) -> None:
    """Write histograms before and after rounding, clipped and outlier fractions, and plots."""
    program = load_program(artifact or builtin_path(preset, find_scheme(scheme).name))
    tokens = find_tokens(program.shape.vocabulary, data, corpus_file, seed, length=size)
    if not 1 <= size <= len(tokens.held_out):
        raise InputError(f"bytes = {size} is outside 1..{len(tokens.held_out)}, the held-out text")
    layers = collect(program, tokens.held_out[:size])
    report = {
        "scheme": program.scheme.name,
        "tokens": size,
        "outlier_deviations": OUTLIER_DEVIATIONS,
        "layers": layers,
        **tokens.description,
    }
    with command.atomic_directory(out, marker="statistics.json") as folder:
        text = json.dumps(report, indent=1, sort_keys=True)
        (folder / "statistics.json").write_text(text + "\n")
        (folder / "summary.svg").write_bytes(draw_summary(layers))
        for index, tensors in enumerate(layers):
            (folder / f"layer-{index}.svg").write_bytes(draw_layer(index, tensors))
    _print(layers)


if __name__ == "__main__":
    command.run(application)
