"""What ``python -m model.evaluate`` does for a frame preset: errors in centimetres, by subject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from golden.artifact import load_program
from golden.errors import InputError
from golden.fixed_point import to_real
from golden.frames import FrameExecutor, features_of
from golden.program import Program
from model.frame_training import predict
from model.radar import RadarSplit, mean_absolute_error, read_radar, root_mean_square_error
from model.sources import find_frame_network

__all__ = ["frame_report", "integer_outputs", "print_frame_report"]


def integer_outputs(program: Program, split: RadarSplit) -> npt.NDArray[np.float64]:
    """Return the integer program's outputs (rows, 57) in metres of all frames of a split."""
    assert program.shape.frame is not None  # the executor refuses language models
    features = features_of(program, split.features(program.shape.frame))
    return to_real(FrameExecutor(program).forward(features), program.logit_fraction)


def _errors(outputs: npt.NDArray[Any], split: RadarSplit) -> dict[str, Any]:
    """Return rmse and mae over all rows and the rmse of every subject."""
    rows = {str(s): split.subject == s for s in np.unique(split.subject)}
    return {
        "rmse": root_mean_square_error(outputs, split.labels),
        "mae": mean_absolute_error(outputs, split.labels),
        "rmse_by_subject": {
            name: root_mean_square_error(outputs[own], split.labels[own])
            for name, own in rows.items()
        },
    }


def frame_report(
    preset: str, checkpoint: Path | None, artifacts: dict[str, Path], data: Path | None
) -> dict[str, Any]:
    """Return the errors on the test split, in centimetres, of the float network and of programs.

    ``loss`` is a program's rmse less the float network's.

    Raises
    ------
    InputError
        If checkpoint, data or a program cannot be used, or a program has another shape.
    """
    source, radar = find_frame_network(preset, checkpoint), read_radar(data)
    split = radar["test"]
    with Console(stderr=True).status("measuring float") as status:
        exact = _errors(predict(source.network, split).numpy(), split)
        schemes = {}
        for name, path in artifacts.items():
            status.update(f"measuring {name}")
            program = load_program(path)
            if program.shape != source.network.shape:
                raise InputError(
                    f"{path} has shape {program.shape}, the float network has "
                    f"{source.network.shape}; give the checkpoint it was quantized from"
                )
            errors = _errors(integer_outputs(program, split), split)
            schemes[name] = {**errors, "loss": errors["rmse"] - exact["rmse"]}
    return {
        "unit": "centimetres",
        "rows": len(split.labels),
        "float": exact,
        "schemes": schemes,
        "data_sha256": radar.digest,
        **source.description,
    }


def print_frame_report(report: dict[str, Any]) -> None:
    """Print the report of :func:`frame_report` as a table."""
    subjects = list(report["float"]["rmse_by_subject"])
    table = Table(title=f"errors in cm on {report['rows']:,} test frames")
    for column in ("program", "RMSE", "loss", "MAE", *(f"subject {s}" for s in subjects)):
        table.add_column(column, justify="left" if column == "program" else "right")
    for name, own in {"float": report["float"], **report["schemes"]}.items():
        loss = f"{own['loss']:+.3f}" if "loss" in own else ""
        by_subject = (f"{own['rmse_by_subject'][s]:.2f}" for s in subjects)
        table.add_row(name, f"{own['rmse']:.3f}", loss, f"{own['mae']:.3f}", *by_subject)
    Console().print(table)
