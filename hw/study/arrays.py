"""Cost of an array's multipliers: ``python -m hw.study.arrays [--seeds N] [--update FILE]``.

Arrays of both kinds of weights are synthesized, packed, placed and routed by themselves, with every
way to build their products that is worth comparing. All give the same values in the same cycles.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from golden import command
from golden.document import Marks, markdown_table, publish
from hw.design_files import IMAGE_FOLDER, write_sources
from hw.mac_array import MacArray
from hw.multiplier import Arithmetic, Multipliers
from hw.parameter_memory import MemoryPlan
from hw.primitives import Primitives
from hw.report import flow
from hw.report.components import totals
from hw.report.targets import parse_target
from hw.report.tools import NEXTPNR, YOSYS, package_version

MARKS = Marks("arrays", "python -m hw.study.arrays --update")
FREQUENCY = 200.0
"""MHz asked of place and route: more than any of them reaches."""
INPUT_BITS, ACCUMULATOR_BITS = 8, 24
CELLS = ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D")

application = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Variant:
    """One array: lanes, bits of a weight, and how its products are built."""

    lanes: int
    weight_bits: int
    multipliers: Multipliers
    primitives: Primitives = Primitives.NONE


VARIANTS = (
    Variant(16, 8, Multipliers.LUT),
    Variant(16, 8, Multipliers.DSP),
    Variant(16, 8, Multipliers.DSP, Primitives.ECP5),
    Variant(20, 4, Multipliers.MIX),
    Variant(20, 4, Multipliers.PACKED),
    Variant(20, 4, Multipliers.PACKED, Primitives.ECP5),
)


def measure(variant: Variant, seeds: int, folder: Path) -> list[str]:
    """Return a variant's row of the table; ``folder`` holds its sources and netlists."""
    arithmetic = Arithmetic(variant.multipliers, variant.primitives)
    array = MacArray(
        lanes=variant.lanes, weight_bits=variant.weight_bits, input_bits=INPUT_BITS,
        accumulator_bits=ACCUMULATOR_BITS, pipelined=True, arithmetic=arithmetic,
    )  # fmt: skip
    plan = MemoryPlan(IMAGE_FOLDER, primitives=variant.primitives)
    write_sources(folder / "design", array, "array", plan)
    netlist = flow.synthesize(folder / "design", "array", parse_target("ecp5"), folder / "work")
    cells = totals(flow.pack(netlist))
    clocks = [
        flow.route(netlist, seed=seed, frequency=FREQUENCY).clock for seed in range(1, seeds + 1)
    ]
    return [
        f"{variant.lanes} lanes, {variant.weight_bits}-bit weights",
        f"`{variant.multipliers}`",
        f"`{variant.primitives}`",
        *(f"{cells.get(kind, 0):,}" for kind in CELLS),
        f"{statistics.median(clocks):.1f}",
    ]


@application.command()
def main(
    *,
    seeds: Annotated[int, typer.Option(min=1, help="routings of each array")] = 3,
    update: Annotated[list[Path] | None, typer.Option(help="document to rewrite")] = None,
) -> None:
    """Print what arrays cost by the way their products are built, and how fast they route."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        variants = track(VARIANTS, "arrays", console=Console(stderr=True))
        for number, variant in enumerate(variants):
            rows.append(measure(variant, seeds, Path(folder) / str(number)))
    columns = ["array", "`--multipliers`", "`--primitives`"]
    columns += [kind.removeprefix("TRELLIS_") for kind in CELLS]
    note = (
        f"{flow.DEVICE_NAME}; inputs of {INPUT_BITS} bits, accumulators of {ACCUMULATOR_BITS}; "
        f"median of {seeds} seeds, {FREQUENCY:.0f} MHz asked for; "
        f"{YOSYS} {package_version(YOSYS)}, {NEXTPNR} {package_version(NEXTPNR)}."
    )
    text = f"{markdown_table([*columns, 'MHz'], rows)}\n\n{note}"
    publish(MARKS, text, update=update or (), check=())


if __name__ == "__main__":
    command.run(application)
