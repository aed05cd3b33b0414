"""Synthesizes engines and fits the area estimate: ``python -m hw.report.calibrate --out DIR``.

Writes ``hw/schedule/area.json`` with the points, the factors and the error on the engines that
took no part in the fit. Engines that were synthesized before in the same directory are reused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from golden import command
from golden.builtin import load_builtin
from golden.presets import find_preset
from golden.scheme import find_scheme
from hw.lanes import Lanes
from hw.report import flow
from hw.report.components import totals
from hw.report.design import build
from hw.report.targets import ECP5, parse_target
from hw.report.tools import NEXTPNR, YOSYS, package_version
from hw.schedule.area import CALIBRATION, Point, apply, fit, terms

FITTED = (
    ("micro", "w4a8", 2, 1),
    ("micro", "w4a8", 16, 4),
    ("micro", "w4a8", 4, 4),
    ("micro", "w8a8", 8, 2),
    ("micro", "w8a8", 16, 1),
    ("bytelm", "w4a8", 16, 2),
)
HELD_OUT = (
    ("micro", "w4a8", 8, 4),
    ("micro", "w8a8", 4, 2),
    ("bytelm", "w4a8", 32, 4),
)

application = typer.Typer(add_completion=False)


def synthesized(preset: str, scheme: str, lanes: Lanes, folder: Path) -> dict[str, int]:
    """Return the cells of one engine as nextpnr counts them."""
    program = load_builtin(preset, find_scheme(scheme))
    design = build(
        program,
        preset=preset,
        folder=folder / "design",
        mac_lanes=lanes.mac,
        scan_lanes=lanes.scan,
    )
    netlist = flow.synthesize(folder / "design", design.top, parse_target(ECP5), folder / "work")
    return totals(flow.pack(netlist))


def _terms(point: Point) -> dict[str, dict[str, float]]:
    lanes = Lanes(mac=point.mac, scan=point.scan)
    return terms(find_preset(point.preset), find_scheme(point.scheme), lanes)


def calibrated(points: list[Point]) -> dict[str, Any]:
    """Return the content of the calibration file."""
    fitted = [point for point in points if not point.held_out]
    held_out = [point for point in points if point.held_out]
    factors, errors = {}, {}
    for kind in _terms(points[0]):
        counts = [point.cells[kind] for point in fitted]
        factors[kind] = fit([_terms(point)[kind] for point in fitted], counts)
        errors[kind] = max(
            abs(apply(factors[kind], _terms(point)[kind]) / point.cells[kind] - 1)
            for point in held_out
        )
    return {
        "command": "python -m hw.report.calibrate --out DIR",
        "tools": {name: package_version(name) for name in (YOSYS, NEXTPNR)},
        "factors": factors,
        "held_out_error": {kind: round(error, 4) for kind, error in errors.items()},
        "points": [
            {
                "preset": point.preset,
                "scheme": point.scheme,
                "mac_lanes": point.mac,
                "scan_lanes": point.scan,
                "held_out": point.held_out,
                "cells": point.cells,
            }
            for point in points
        ],
    }


@application.command()
def calibrate(
    out: Annotated[Path, typer.Option(help="directory of the synthesized engines")],
    result: Annotated[Path, typer.Option(help="file to write")] = CALIBRATION,
) -> None:
    """Synthesize engines of several shapes and lanes and fit the area estimate to them."""
    console = Console(stderr=True)
    points = []
    for preset, scheme, mac, scan in track([*FITTED, *HELD_OUT], "synthesis", console=console):
        folder = out / f"{preset}-{scheme}-{mac}-{scan}"
        cells = synthesized(preset, scheme, Lanes(mac=mac, scan=scan), folder)
        held_out = (preset, scheme, mac, scan) in HELD_OUT
        points.append(Point(preset, scheme, mac, scan, cells, held_out))
    content = calibrated(points)
    text = json.dumps(content, indent=1, sort_keys=True)
    command.atomic_write(result, (text + "\n").encode())
    errors = ", ".join(f"{k} {e:.1%}" for k, e in content["held_out_error"].items())
    typer.echo(f"{result}: error on held-out engines at most {errors}")


if __name__ == "__main__":
    command.run(application)
