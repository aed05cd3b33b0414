"""Predicts cycles: ``python -m hw.schedule --preset NAME [--mac-lanes P] [--json]``.

``--sweep`` predicts every engine that the shape allows, and shows which are worth their area.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from golden import command
from golden.configuration import NetworkShape
from golden.presets import find_preset
from golden.scheme import Scheme, find_scheme
from hw.lanes import Lanes, chosen_lanes
from hw.latencies import latencies
from hw.manifest import SINGLE_STREAM_TURNAROUND, cycles_generating
from hw.schedule import Schedule, build_schedule
from hw.schedule.sweep import Engine, lane_pairs, sweep
from hw.schedule.sweep_report import print_sweep, sweep_json
from hw.streaming.choice import choose_streaming
from hw.streaming.generate import refuse_shared_options, refuse_streaming_options
from hw.streaming.report import print_streaming, streaming_report
from hw.streaming.sweep import frame_settings, sweep_frames

application = typer.Typer(add_completion=False)


def stages(schedule: Schedule) -> dict[str, dict[str, float]]:
    """Return cycles and useful share of the array by kind of instruction, and its idle cycles."""
    found: dict[str, dict[str, float]] = {}
    for instruction in schedule.array:
        stage = found.setdefault(instruction.name, {"cycles": 0, "products": 0})
        stage["cycles"] += instruction.groups * instruction.interval
        stage["products"] += instruction.products
    for stage in found.values():
        stage["utilisation"] = stage["products"] / (stage["cycles"] * schedule.lanes.mac)
    idle = schedule.interval - sum(stage["cycles"] for stage in found.values())
    found["idle"] = {"cycles": idle, "products": 0, "utilisation": 0.0}
    return found


def report(shape: NetworkShape, scheme: Scheme, lanes: Lanes) -> dict[str, Any]:
    """Return the prediction: cycles are exact, as simulation asserts for what it can reach."""
    schedule = build_schedule(shape, lanes, latencies(shape, scheme, lanes))
    single = schedule.latency + SINGLE_STREAM_TURNAROUND
    rows = shape.in_projected + shape.d_inner  # out_proj has as many weights as E rows
    weights = shape.n_layer * (
        rows * shape.d_model
        + shape.projected * shape.d_inner
        + 3 * shape.d_model * (shape.mlp or 0)
    )
    return {
        "scheme": scheme.name,
        "mac_lanes": lanes.mac,
        "scan_lanes": lanes.scan,
        "cycles_per_token": schedule.interval,
        "cycles_single_stream": single,
        "contexts": lanes.contexts,
        "cycles_generating": cycles_generating(schedule),
        "array_utilisation": schedule.utilisation(schedule.interval),
        "array_utilisation_single_stream": schedule.utilisation(single),
        "array_utilisation_generating": schedule.utilisation(cycles_generating(schedule)),
        "products_per_token": schedule.products,
        "weight_bits_per_cycle": lanes.mac * scheme.weight_bits,
        "weight_bits_per_token": weights * scheme.weight_bits
        + shape.vocabulary * shape.d_model * scheme.head_weight_bits,
        "stages": stages(schedule),
    }


def _print(preset: str, found: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"{preset} {found['scheme']}: one token on the array")
    for column in ("stage", "cycles", "share", "lanes busy"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, stage in found["stages"].items():
        share = stage["cycles"] / found["cycles_per_token"]
        table.add_row(name, f"{stage['cycles']:,}", f"{share:.1%}", f"{stage['utilisation']:.1%}")
    console.print(table)
    console.print(
        f"{found['mac_lanes']} MAC lanes, {found['scan_lanes']} scan lanes: "
        f"{found['cycles_per_token']:,} cycles a token with known input "
        f"({found['array_utilisation']:.1%} useful), "
        f"{found['cycles_single_stream']:,} when generating "
        f"({found['array_utilisation_single_stream']:.1%}); "
        f"{found['weight_bits_per_cycle']:,} weight bits a cycle",
        highlight=False,
    )
    if found["contexts"] > 1:
        console.print(
            f"{found['contexts']} contexts, each generating: {found['cycles_generating']:,.0f} "
            f"cycles a token ({found['array_utilisation_generating']:.1%} useful)",
            highlight=False,
        )


def swept(
    shape: NetworkShape,
    scheme: Scheme,
    mac_lanes: int | None,
    scan_lanes: int | None,
    beat: int | None,
) -> Sequence[Engine]:
    """Return every engine of the shape that can be built, with the settings that were given."""
    progress = partial(track, description="schedules", console=Console(stderr=True), transient=True)
    if shape.frame is not None:
        settings = frame_settings(shape, scan_lanes, beat)
        return sweep_frames(shape, scheme, progress(settings))
    if mac_lanes is not None or scan_lanes is not None:
        chosen_lanes(shape, mac_lanes, scan_lanes)
    pairs = [
        lanes
        for lanes in lane_pairs(shape)
        if mac_lanes in (None, lanes.mac) and scan_lanes in (None, lanes.scan)
    ]
    return sweep(shape, scheme, progress(pairs))


@application.command()
def schedule(
    preset: Annotated[str, typer.Option(help="shape, mamba-130m and mamba-2.8b included")],
    scheme: Annotated[str, typer.Option(help="quantization scheme")] = "w8a8",
    mac_lanes: Annotated[int | None, typer.Option(help="lanes of the array")] = None,
    scan_lanes: Annotated[int | None, typer.Option(help="lanes of the scan engine")] = None,
    beat: Annotated[int | None, typer.Option(help="cycles a block of a frame network")] = None,
    contexts: Annotated[int, typer.Option(help="independent streams, a power of two")] = 1,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    sweeping: Annotated[
        bool, typer.Option("--sweep", help="all lane counts: cycles against estimated area")
    ] = False,
) -> None:
    """Predict the cycles of a token or a frame, and how busy the arrays are."""
    shape = find_preset(preset)
    if shape.frame is not None:
        refuse_shared_options(mac_lanes, scheduled_contexts=contexts)
    else:
        refuse_streaming_options(beat)
    if sweeping:
        candidates = swept(shape, find_scheme(scheme), mac_lanes, scan_lanes, beat)
        if as_json:
            typer.echo(sweep_json(preset, scheme, candidates))
        else:
            print_sweep(preset, scheme, candidates)
        return
    if shape.frame is not None:
        plan = choose_streaming(shape, find_scheme(scheme), scan=scan_lanes, beat=beat)
        predicted = streaming_report(plan, find_scheme(scheme))
        if as_json:
            typer.echo(json.dumps({"preset": preset, **predicted}, indent=2))
        else:
            print_streaming(preset, predicted)
        return
    lanes = chosen_lanes(shape, mac_lanes, scan_lanes, contexts)
    found = report(shape, find_scheme(scheme), lanes)
    if as_json:
        typer.echo(json.dumps({"preset": preset, **found}, indent=2))
    else:
        _print(preset, found)


if __name__ == "__main__":
    command.run(application)
