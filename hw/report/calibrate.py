"""Synthesizes engines and fits the area estimates: ``python -m hw.report.calibrate --out DIR``.

Writes ``hw/schedule/area.json``: for language models and for frame networks the points, the
factors, and the error on the engines that took no part in the fit. Engines that were synthesized
before in the same directory are reused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from golden import command
from golden.builtin import load_builtin
from golden.configuration import AverageShape, FrameShape, NetworkShape, PatchShape
from golden.presets import find_preset
from golden.program import Program
from golden.random_program import random_program
from golden.scheme import find_scheme
from hw.lanes import Lanes
from hw.report import flow
from hw.report.components import totals
from hw.report.design import build
from hw.report.targets import ECP5, parse_target
from hw.report.tools import NEXTPNR, YOSYS, package_version
from hw.schedule.area import CALIBRATION, SHARED, STREAMING, apply, fit, terms
from hw.streaming.area import streaming_terms
from hw.streaming.choice import choose_streaming

SMALL_SHAPES = {
    "small-frames": NetworkShape(
        vocabulary=8,
        d_model=12,
        d_inner=24,
        d_state=4,
        d_conv=4,
        dt_rank=2,
        n_layer=1,
        frame=FrameShape(features=8, tokens=4, hidden=16),
    ),
    "small-averages": NetworkShape(
        vocabulary=2,
        d_model=16,
        d_inner=32,
        d_state=1,
        d_conv=1,
        dt_rank=32,
        n_layer=2,
        frame=FrameShape(features=24, tokens=3, patch=PatchShape(width=16, kernel=4, stride=2)),
        average=AverageShape(),
    ),
}
"""Frame networks with random weights that are synthesized in a minute."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What is synthesized.

    Parameters
    ----------
    preset, scheme : network; a preset or one of :data:`SMALL_SHAPES`
    scan_lanes : of the scan engine
    mac_lanes : of a language model
    beat : of a frame network; without it the usual one
    """

    preset: str
    scheme: str
    scan_lanes: int
    mac_lanes: int | None = None
    beat: int | None = None

    @property
    def shape(self) -> NetworkShape:
        """Return the network's shape."""
        return SMALL_SHAPES.get(self.preset) or find_preset(self.preset)

    @property
    def program(self) -> Program:
        """Return the network."""
        scheme = find_scheme(self.scheme)
        if self.preset in SMALL_SHAPES:
            return random_program(self.shape, scheme, seed=0)
        return load_builtin(self.preset, scheme)

    @property
    def terms(self) -> dict[str, dict[str, float]]:
        """Return what each of its resources grows with."""
        scheme = find_scheme(self.scheme)
        if self.mac_lanes is not None:
            return terms(self.shape, scheme, Lanes(mac=self.mac_lanes, scan=self.scan_lanes))
        plan = choose_streaming(self.shape, scheme, scan=self.scan_lanes, beat=self.beat)
        return streaming_terms(plan, scheme)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One synthesized engine.

    Parameters
    ----------
    engine : which one
    cells : what nextpnr counts after packing
    held_out : whether it only judges the estimate
    """

    engine: Engine
    cells: dict[str, int]
    held_out: bool


def _model(preset: str, scheme: str, mac: int, scan: int) -> Engine:
    return Engine(preset=preset, scheme=scheme, mac_lanes=mac, scan_lanes=scan)


def _frames(preset: str, scheme: str, scan: int, beat: int | None = None) -> Engine:
    return Engine(preset=preset, scheme=scheme, scan_lanes=scan, beat=beat)


FITTED = {
    STREAMING: (
        _frames("small-frames", "w4a8", 4),
        _frames("small-frames", "w8a8", 2),
        _frames("small-frames", "w4a8", 1, 192),
        _frames("small-frames", "w8a8", 4, 36),
        _frames("mars", "w4a8", 8),
        _frames("small-averages", "w4a8", 1),
    ),
    SHARED: (
        _model("micro", "w4a8", 2, 1),
        _model("micro", "w4a8", 16, 4),
        _model("micro", "w4a8", 4, 4),
        _model("micro", "w8a8", 8, 2),
        _model("micro", "w8a8", 16, 1),
        _model("bytelm", "w4a8", 16, 2),
    ),
}
HELD_OUT = {
    STREAMING: (
        _frames("small-frames", "w4a8", 2, 64),
        _frames("slim", "w4a8", 1),
    ),
    SHARED: (
        _model("micro", "w4a8", 8, 4),
        _model("micro", "w8a8", 4, 2),
        _model("bytelm", "w8a8", 32, 16),
    ),
}

application = typer.Typer(add_completion=False)


def synthesized(engine: Engine, out: Path) -> dict[str, int]:
    """Return the cells of one engine as nextpnr counts them."""
    settings = [str(v) for v in asdict(engine).values() if v is not None]
    folder = out / "-".join(settings)
    design = build(
        engine.program,
        preset=engine.preset,
        folder=folder / "design",
        mac_lanes=engine.mac_lanes,
        scan_lanes=engine.scan_lanes,
        beat=engine.beat,
    )
    netlist = flow.synthesize(folder / "design", design.top, parse_target(ECP5), folder / "work")
    return totals(flow.pack(netlist))


def calibrated(points: Sequence[Point]) -> dict[str, Any]:
    """Return factors, error and points of one organisation."""
    fitted = [point for point in points if not point.held_out]
    held_out = [point for point in points if point.held_out]
    factors, errors = {}, {}
    for kind in points[0].engine.terms:
        counts = [point.cells.get(kind, 0) for point in fitted]
        factors[kind] = fit([point.engine.terms[kind] for point in fitted], counts)
        errors[kind] = max(
            abs(apply(factors[kind], point.engine.terms[kind]) / point.cells[kind] - 1)
            for point in held_out
        )
    return {
        "factors": factors,
        "held_out_error": {kind: round(error, 4) for kind, error in errors.items()},
        "points": [
            {key: value for key, value in asdict(point.engine).items() if value is not None}
            | {"held_out": point.held_out, "cells": point.cells}
            for point in points
        ],
    }


@application.command()
def calibrate(
    out: Annotated[Path, typer.Option(help="directory of the synthesized engines")],
    result: Annotated[Path, typer.Option(help="file to write")] = CALIBRATION,
) -> None:
    """Synthesize engines of several shapes and lanes and fit the area estimates to them."""
    chosen = [
        (organisation, engine, engine in HELD_OUT[organisation])
        for organisation in FITTED
        for engine in (*FITTED[organisation], *HELD_OUT[organisation])
    ]
    points: dict[str, list[Point]] = {organisation: [] for organisation in FITTED}
    for organisation, engine, held_out in track(chosen, "synthesis", console=Console(stderr=True)):
        cells = synthesized(engine, out)
        points[organisation].append(Point(engine=engine, cells=cells, held_out=held_out))
    content: dict[str, Any] = {
        "command": "python -m hw.report.calibrate --out DIR",
        "tools": {name: package_version(name) for name in (YOSYS, NEXTPNR)},
    }
    content |= {organisation: calibrated(found) for organisation, found in points.items()}
    text = json.dumps(content, indent=1, sort_keys=True)
    command.atomic_write(result, (text + "\n").encode())
    for organisation in points:
        errors = content[organisation]["held_out_error"]
        listed = ", ".join(f"{kind} {error:.1%}" for kind, error in errors.items())
        typer.echo(f"{result}: {organisation} engines held out are off by at most {listed}")


if __name__ == "__main__":
    command.run(application)
