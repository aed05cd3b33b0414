"""Draws the figures of the documentation: ``python -m docs.figures``.

``docs/datapath.svg`` shows the units of a generated engine and the values between them, and
``docs/timeline.svg`` when they work during the first block of a `bytelm` token. Both come from the
code: the drawn units must be those that the Verilog of designs has, the labels must name every
probe point, and the cycles are those of the schedule. ``--update FILE`` also rewrites the table of
the worked example in a document; ``--check`` changes nothing and fails if something is not current.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from docs.datapath import datapath
from docs.drawing import caption, document
from golden import command
from golden.document import Marks, markdown_table
from golden.errors import InputError
from golden.presets import find_preset
from golden.scheme import find_scheme
from hw.lanes import default_lanes
from hw.latencies import latencies
from hw.schedule import Schedule, build_schedule

FOLDER = Path(__file__).parent
PRESET, SCHEME = "bytelm", "w8a8"
MARKS = Marks("timeline", "python -m docs.figures --update")

application = typer.Typer(add_completion=False)


def first_block(schedule: Schedule) -> list[tuple[str, str, int, int]]:
    """Return (unit, work, first cycle, last cycle) of the first block of a token."""
    shape = find_preset(PRESET)
    e, d = shape.d_inner, shape.d_model
    array = {i.name: i for i in schedule.array if i.layer == 0}

    def span(probe: str, first: int, count: int) -> tuple[int, int]:
        cycles = schedule.probes[probe][first : first + count]
        return int(cycles[0]), int(cycles[-1])

    work = [
        ("norm", "embedding written to the residual", *span("residual", 0, d)),
        ("norm", "RMSNorm of block 0", *span("norm", 0, d)),
    ]
    for name, text in (
        ("in_x", "x rows of in_proj"),
        ("x_proj", "x_proj"),
        ("in_z", "z rows of in_proj"),
        ("out", "out_proj"),
    ):
        work.append(("array", text, array[name].start, array[name].end - 1))
    work += [
        ("SiLU", "convolution, then SiLU: u", *span("u", 0, e)),
        ("SiLU", "SiLU of z: gate", *span("gate", 0, e)),
        (
            "scan",
            "start pulse to last gated value",
            schedule.scan_starts[0],
            span("gated", 0, e)[1],
        ),
        ("norm", "out_proj added to the residual", *span("residual", d, d)),
        ("norm", "RMSNorm of block 1", *span("norm", d, d)),
    ]
    return sorted(work, key=lambda row: row[2])


KINDS = {"array": "array", "scan": "scan"}
SHORT = {
    "x rows of in_proj": "in_proj x",
    "z rows of in_proj": "in_proj z",
    "convolution, then SiLU: u": "u",
    "SiLU of z: gate": "gate",
    "start pulse to last gated value": "scan",
    "out_proj added to the residual": "add",
}


def timeline(schedule: Schedule) -> str:
    """Return the picture of the first block."""
    left, top, scale, height = 80, 40, 0.25, 34
    rows = ("array", "SiLU", "scan", "norm")
    last = 4000
    elements = []
    bottom = top + len(rows) * (height + 10)
    for cycle in range(0, last + 1, 500):
        x = left + round(cycle * scale)
        elements += [
            f'<path class="grid" d="M{x} {top - 6} L{x} {bottom}"/>',
            caption(x, top - 14, f"{cycle:,}", "text", "middle"),
        ]
    for number, row in enumerate(rows):
        y = top + number * (height + 10)
        elements.append(caption(12, y + 22, row, "name"))
        for unit, work, begin, end in first_block(schedule):
            if unit != row:
                continue
            x, width = left + round(begin * scale), round((end + 1 - begin) * scale)
            kind = KINDS.get(row, "other")
            elements.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="3"/>'
            )
            label = SHORT.get(work, work)
            if len(label) * 7 < width:
                elements.append(caption(x + width // 2, y + 22, label, "bar", "middle"))
    title = f"Cycles of the first block of a {PRESET} token"
    return document(left + round(last * scale) + 30, bottom + 12, title, elements)


def timeline_table(schedule: Schedule) -> str:
    """Return the first block as a table."""
    rows = [
        [f"{begin:,} to {end:,}", unit, work] for unit, work, begin, end in first_block(schedule)
    ]
    return markdown_table(["cycles", "unit", "work"], rows)


@application.command()
def main(
    *,
    update: Annotated[Path | None, typer.Option(help="document with the worked example")] = None,
    check: Annotated[bool, typer.Option("--check", help="only compare")] = False,
) -> None:
    """Draw the figures, or compare them with what is there."""
    shape = find_preset(PRESET)
    lanes = default_lanes(shape)
    schedule = build_schedule(shape, lanes, latencies(shape, find_scheme(SCHEME), lanes))
    files = {
        FOLDER / "datapath.svg": datapath(schedule),
        FOLDER / "timeline.svg": timeline(schedule),
    }
    if update is not None:
        files[update] = MARKS.renewed(update, timeline_table(schedule))
    else:
        typer.echo(timeline_table(schedule))
    for path, text in files.items():
        if check and (not path.is_file() or path.read_text() != text):
            raise InputError(f"{path} is not current; run: python -m docs.figures")
        if not check:
            command.atomic_write(path, text.encode())


if __name__ == "__main__":
    command.run(application)
