"""Writes a design: ``python -m hw.generate --preset NAME --scheme NAME --out DIR``."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from golden import command, vectors
from golden.artifact import to_bytes
from golden.builtin import load_builtin
from golden.configuration import find_scheme
from golden.program import Program
from hw.lanes import Lanes, chosen_lanes
from hw.manifest import build_manifest, file_digests
from hw.parameter_memory import ROM_MODULE, ROM_VERILOG, MemoryPlan
from hw.schedule import Schedule
from hw.testbench import write_testbench
from hw.top import Accelerator
from hw.verilog import emit

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


def top_name(preset: str, scheme: str) -> str:
    """Return the top module's name, a plain Verilog identifier."""
    return "".join(c if c.isalnum() else "_" for c in f"{preset}_{scheme}")


def _predicted_cycles(schedule: Schedule) -> bytes:
    """Return a deterministic npz of every probe's cycles after a token's cycle 0."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, cycles in schedule.probes.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, cycles, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
    return buffer.getvalue()


def write_design(
    program: Program,
    lanes: Lanes,
    stimulus: vectors.Stimulus,
    *,
    preset: str,
    folder: Path,
) -> Generated:
    """Fill ``folder`` with Verilog, memory images, golden vectors, test bench and manifest.

    Deterministic: the same arguments write the same bytes.

    Raises
    ------
    InputError
        If the lanes do not fit the shape or a hazard remains; nothing is written then.
    """
    plan = MemoryPlan("mem")
    accelerator = Accelerator(program=program, lanes=lanes, plan=plan)
    top, schedule = top_name(preset, program.scheme.name), accelerator.schedule
    trace = vectors.trace(program, stimulus.tokens, stimulus.last, stimulus.context)
    rtl = {**emit(accelerator, top), f"{ROM_MODULE}.v": ROM_VERILOG}
    for name, text in rtl.items():
        command.atomic_write(folder / "rtl" / name, text.encode())
    for name in plan.images:
        command.atomic_write(folder / "mem" / f"{name}.hex", plan.hex_text(name).encode())
    artifact = to_bytes(program)
    digest = command.digest(artifact)
    golden = folder / "golden"
    command.atomic_write(golden / vectors.FILE_NAME, vectors.to_bytes(trace, stimulus, digest))
    command.atomic_write(golden / "predicted_cycles.npz", _predicted_cycles(schedule))
    command.atomic_write(golden / "program.safetensors", artifact)
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
    preset: Annotated[str, typer.Option(help="network: micro, bytelm, or a name for --artifact")],
    scheme: Annotated[str, typer.Option(help="quantization scheme: w8a8, w4a8, w4a5-se")],
    out: Annotated[Path, typer.Option(help="directory to write, new or an earlier output")],
    artifact: Annotated[
        Path | None, typer.Option(help="integer program; without it the built-in one")
    ] = None,
    mac_lanes: Annotated[int | None, typer.Option(help="lanes of the array")] = None,
    scan_lanes: Annotated[int | None, typer.Option(help="lanes of the scan engine")] = None,
    contexts: Annotated[int, typer.Option(help="independent streams, a power of two")] = 1,
    tokens: Annotated[int, typer.Option(help="tokens of the golden vectors")] = 4,
    seed: Annotated[int, typer.Option(help="seed of the golden vectors' tokens")] = 0,
) -> None:
    """Generate Verilog, memory images, golden vectors, test bench and manifest.

    The same arguments write the same bytes.
    """
    console = Console(stderr=True)
    program = load_builtin(preset, find_scheme(scheme), artifact)
    lanes = chosen_lanes(program.shape, mac_lanes, scan_lanes, contexts)
    with (
        console.status(f"generating {preset} {scheme} with {lanes.mac} + {lanes.scan} lanes"),
        command.atomic_directory(out) as folder,
    ):
        stimulus = vectors.random_stimulus(program, tokens, seed, contexts)
        made = write_design(program, lanes, stimulus, preset=preset, folder=folder)
    schedule = made.schedule
    typer.echo(
        f"{out}: {made.top}, {lanes.mac} MAC lanes, {lanes.scan} scan lanes, "
        f"{schedule.interval} cycles a token, "
        f"array utilisation {100 * schedule.utilisation(schedule.interval):.1f} %"
    )


if __name__ == "__main__":
    command.run(application)
