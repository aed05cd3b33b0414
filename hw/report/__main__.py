"""Area and clock: ``python -m hw.report --preset NAME --scheme NAME --out DIR``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from golden import command
from golden.builtin import load_builtin
from golden.errors import InputError
from golden.scheme import find_scheme
from hw.multiplier import Multipliers
from hw.primitives import Primitives
from hw.report import flow
from hw.report.console import show
from hw.report.contents import contents
from hw.report.design import Design, build
from hw.report.pictures import write_pictures
from hw.report.targets import ECP5, Target, parse_target
from hw.report.tools import Listener

application = typer.Typer(add_completion=False)


def measure(
    folder: Path, design: Design, target: Target, seeds: int, frequency: float
) -> dict[str, Any]:
    """Synthesize and, for an ECP5, pack, place and route; return the report's contents.

    Raises
    ------
    InputError
        If a tool is missing or fails.
    """
    work = folder / "work" / target.kind
    routed = target.kind == ECP5
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("synthesis", total=2 + seeds if routed else 1)

        def stage(text: str) -> Listener:
            def listen(line: str) -> None:
                detail = " ".join(line.split())
                if detail.startswith("Info: ") or "Executing" in detail:
                    detail = detail.removeprefix("Info: ")[:48]
                    progress.update(task, description=f"{text}: {detail}")

            progress.update(task, description=text)
            return listen

        sources = folder / "design"
        netlist = flow.synthesize(sources, design.top, target, work, listener=stage("synthesis"))
        progress.advance(task)
        packed, routes = None, []
        if routed:
            packed = flow.pack(netlist, listener=stage("packing"))
            progress.advance(task)
        for seed in range(1, seeds + 1) if routed else ():
            listener = stage(f"routing, seed {seed} of {seeds}")
            routes.append(flow.route(netlist, seed=seed, frequency=frequency, listener=listener))
            progress.advance(task)
    return contents(design=design.describe(), netlist=netlist, packed=packed, routes=routes)


def named_primitives(target: Target, asked: Primitives | None, *, frames: bool) -> Primitives:
    """Return the primitives that a design names: those asked for, or a frame network's an ECP5's.

    Raises
    ------
    InputError
        If those asked for are of another device.
    """
    if asked is Primitives.ECP5 and target.kind != ECP5:
        raise InputError(
            f"--target {target.name} has no primitives of an ECP5; leave --primitives out"
        )
    return asked or (Primitives.ECP5 if frames and target.kind == ECP5 else Primitives.NONE)


@application.command()
def report(
    preset: Annotated[str, typer.Option(help="network, or a name for --artifact")],
    scheme: Annotated[str, typer.Option(help="quantization scheme: w8a8, w4a8, w4a5-se")],
    out: Annotated[Path, typer.Option(help="directory to write; earlier steps in it are reused")],
    artifact: Annotated[
        Path | None, typer.Option(help="integer program; without it the built-in one")
    ] = None,
    mac_lanes: Annotated[int | None, typer.Option(help="lanes of the array")] = None,
    scan_lanes: Annotated[int | None, typer.Option(help="lanes of the scan engine")] = None,
    beat: Annotated[int | None, typer.Option(help="cycles a block of a frame network")] = None,
    multipliers: Annotated[
        Multipliers | None,
        typer.Option(help="what multiplies; without it mix for a frame network, else dsp"),
    ] = None,
    primitives: Annotated[
        Primitives | None,
        typer.Option(help="ecp5: products' registers in MULT18X18D, usual for a frame network"),
    ] = None,
    contexts: Annotated[
        int,
        typer.Option(help="independent streams, a power of two; of frames with --persistent"),
    ] = 1,
    target: Annotated[str, typer.Option(help="ecp5, xilinx or liberty:FILE")] = ECP5,
    seeds: Annotated[
        int, typer.Option(help="placements, seeds 1 to this; ECP5 only; 0 packs and does not route")
    ] = 5,
    frequency: Annotated[float, typer.Option(help="clock to route for, MHz")] = 110.0,
    *,
    persistent: Annotated[
        bool, typer.Option("--persistent", help="frame network: the state can outlive a frame")
    ] = False,
    dense_trits: Annotated[
        bool, typer.Option("--dense-trits", help="five ternary weights a byte, not two bits each")
    ] = False,
) -> None:
    """Synthesize a design, place and route it, and report area and clock by component.

    Steps whose inputs did not change are not run again.
    """
    if seeds < 0:
        raise InputError(f"--seeds {seeds} is negative; give how many, or 0 for no routing")
    if not frequency > 0:
        raise InputError(f"--frequency {frequency} is not positive; give a clock in MHz")
    chosen = parse_target(target)
    program = load_builtin(preset, find_scheme(scheme), artifact)
    primitives = named_primitives(chosen, primitives, frames=program.shape.frame is not None)
    design = build(
        program,
        preset=preset,
        folder=out / "design",
        mac_lanes=mac_lanes,
        scan_lanes=scan_lanes,
        beat=beat,
        multipliers=multipliers,
        dense_trits=dense_trits,
        primitives=primitives,
        persistent=persistent,
        contexts=contexts,
    )
    found = measure(out, design, chosen, seeds, frequency)
    text = json.dumps(found, indent=2, sort_keys=True)
    command.atomic_write(out / "report.json", (text + "\n").encode())
    pictures = write_pictures(out, found, design.chart())
    show(Console(), found)
    typer.echo(f"{out}: report.json, {', '.join(path.name for path in pictures)}")


if __name__ == "__main__":
    command.run(application)
