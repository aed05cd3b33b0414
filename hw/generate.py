"""Writes a design: ``python -m hw.generate --preset NAME --scheme NAME --out DIR``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from golden import command, vectors
from golden.builtin import load_builtin
from golden.program import Program
from golden.scheme import find_scheme
from hw.design_files import IMAGE_FOLDER, top_name, write_golden, write_sources
from hw.lanes import Lanes, chosen_lanes
from hw.manifest import build_manifest, file_digests
from hw.multiplier import Multipliers
from hw.parameter_memory import MemoryPlan
from hw.primitives import Primitives
from hw.schedule import Schedule
from hw.streaming.choice import choose_streaming
from hw.streaming.generate import (
    StreamingGenerated,
    refuse_shared_options,
    refuse_streaming_options,
    write_streaming_design,
)
from hw.testbench import write_testbench
from hw.top import Accelerator

application = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Generated:
    """What :func:`generate_design` wrote.

    Parameters
    ----------
    top : name of the top module
    program, schedule, lanes : what it realises
    probe_widths : width and signedness of every probe point
    trace : the golden vectors of the directory
    """

    top: str
    program: Program
    schedule: Schedule
    lanes: Lanes
    probe_widths: dict[str, tuple[int, bool]]
    trace: vectors.Trace

    @property
    def summary(self) -> str:
        """Return one line for people."""
        interval = self.schedule.interval
        return (
            f"{self.top}, {self.lanes.mac} MAC lanes, {self.lanes.scan} scan lanes, "
            f"{interval} cycles a token, "
            f"array utilisation {100 * self.schedule.utilisation(interval):.1f} %"
        )


def write_design(
    program: Program,
    lanes: Lanes,
    stimulus: vectors.Stimulus,
    *,
    preset: str,
    folder: Path,
    multipliers: Multipliers = Multipliers.DSP,
    dense_trits: bool = False,
    primitives: Primitives = Primitives.NONE,
) -> Generated:
    """Fill ``folder`` with Verilog, memory images, golden vectors, test bench and manifest.

    Deterministic: the same arguments write the same bytes.

    Raises
    ------
    InputError
        If the lanes do not fit the shape, a hazard remains or there are no trits to store densely;
        nothing is written then.
    """
    plan = MemoryPlan(
        IMAGE_FOLDER, multipliers=multipliers, dense_trits=dense_trits, primitives=primitives
    )
    accelerator = Accelerator(program=program, lanes=lanes, plan=plan)
    top, schedule = top_name(preset, program.scheme.name), accelerator.schedule
    trace = vectors.trace(program, stimulus.tokens, stimulus.last, stimulus.context)
    write_sources(folder, accelerator, top, plan)
    digest = write_golden(folder, program, trace, stimulus, schedule.probes)
    write_testbench(folder, top=top, program=program, lanes=lanes, schedule=schedule, trace=trace)
    manifest = build_manifest(
        preset=preset,
        top=top,
        artifact_digest=digest,
        program=program,
        schedule=schedule,
        plan=plan,
        files=file_digests(folder),
    )
    command.atomic_write(folder / "manifest.json", manifest.encode())
    widths = accelerator.engine.probe_widths
    return Generated(top, program, schedule, lanes, widths, trace)


@application.command()
def generate(
    preset: Annotated[
        str, typer.Option(help="network: micro, bytelm, mars, or a name for --artifact")
    ],
    scheme: Annotated[str, typer.Option(help="quantization scheme: w8a8, w4a8, w4a5-se")],
    out: Annotated[Path, typer.Option(help="directory to write, new or an earlier output")],
    artifact: Annotated[
        Path | None, typer.Option(help="integer program; without it the built-in one")
    ] = None,
    mac_lanes: Annotated[
        int | None, typer.Option(help="lanes of the array of a language model")
    ] = None,
    scan_lanes: Annotated[int | None, typer.Option(help="lanes of the scan engine")] = None,
    beat: Annotated[int | None, typer.Option(help="cycles a block of a frame network")] = None,
    multipliers: Annotated[
        Multipliers | None,
        typer.Option(help="what multiplies; without it mix for a frame network, else dsp"),
    ] = None,
    primitives: Annotated[
        Primitives, typer.Option(help="ecp5 puts the products' registers into MULT18X18D")
    ] = Primitives.NONE,
    contexts: Annotated[
        int,
        typer.Option(help="independent streams, a power of two; of frames with --persistent"),
    ] = 1,
    tokens: Annotated[
        int, typer.Option(help="tokens of the golden vectors; of a frame network, frames")
    ] = 4,
    seed: Annotated[int, typer.Option(help="seed of the golden vectors' tokens")] = 0,
    *,
    persistent: Annotated[
        bool, typer.Option("--persistent", help="frame network: the state can outlive a frame")
    ] = False,
    dense_trits: Annotated[
        bool, typer.Option("--dense-trits", help="five ternary weights a byte, not two bits each")
    ] = False,
) -> None:
    """Generate Verilog, memory images, golden vectors, test bench and manifest.

    The same arguments write the same bytes. A frame network becomes a pipe of arrays of its own,
    a language model shares one array.
    """
    program = load_builtin(preset, find_scheme(scheme), artifact)
    write: Callable[..., Generated | StreamingGenerated]
    if program.shape.frame is not None:
        refuse_shared_options(mac_lanes, dense_trits=dense_trits)
        plan = choose_streaming(program.shape, program.scheme, scan=scan_lanes, beat=beat)
        write = partial(
            write_streaming_design, program, plan, persistent=persistent, contexts=contexts
        )
    else:
        refuse_streaming_options(beat, persistent=persistent)
        lanes = chosen_lanes(program.shape, mac_lanes, scan_lanes, contexts)
        write = partial(write_design, program, lanes, dense_trits=dense_trits)
    console = Console(stderr=True)
    with (
        console.status(f"generating {preset} {scheme}"),
        command.atomic_directory(out) as folder,
    ):
        stimulus = vectors.random_stimulus(program, tokens, seed, contexts)
        made = write(
            stimulus,
            preset=preset,
            folder=folder,
            multipliers=multipliers or Multipliers.usual(frames=program.shape.frame is not None),
            primitives=primitives,
        )
    typer.echo(f"{out}: {made.summary}")


if __name__ == "__main__":
    command.run(application)
