"""Draws the figures of the documentation: ``python -m docs.figures``.

``docs/datapath.svg`` shows the units of a generated engine and the values between them, and
``docs/timeline.svg`` when they work during the first block of a `bytelm` token. Both come from the
code: the drawn units must be those that the Verilog of a design has, the labels must name every
probe point, and the cycles are those of the schedule. ``--update FILE`` also rewrites the table of
the worked example in a document; ``--check`` changes nothing and fails if something is not current.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from golden import command
from golden.document import Marks, markdown_table
from golden.errors import InputError
from golden.presets import find_preset
from golden.random_program import random_program
from golden.scheme import find_scheme
from hw.lanes import default_lanes
from hw.latencies import latencies
from hw.parameter_memory import MemoryPlan
from hw.probes import probe_widths
from hw.schedule import Schedule, build_schedule
from hw.top import Accelerator
from hw.verilog import emit

FOLDER = Path(__file__).parent
PRESET, SCHEME = "bytelm", "w8a8"
MARKS = Marks("timeline", "python -m docs.figures --update")

STYLE = """\
    svg { color-scheme: light dark; font: 14px sans-serif; }
    .page { fill: #ffffff; }
    .unit { fill: #eef2f7; stroke: #55677d; stroke-width: 1.5; }
    .part { fill: #ffffff; stroke: #8b9bb0; }
    .port { fill: none; stroke: none; }
    .array { fill: #3b76b5; } .scan { fill: #c47a1d; } .other { fill: #5d8a54; }
    .wire { fill: none; stroke: #55677d; stroke-width: 1.5; }
    .start { stroke-dasharray: 4 4; }
    .head { fill: #55677d; }
    .name { fill: #16202c; font-weight: bold; }
    .text { fill: #16202c; font-size: 12px; }
    .value { fill: #1f5c99; font-size: 12px; font-style: italic; }
    .bar { fill: #ffffff; font-size: 12px; }
    .grid { stroke: #c9d2dc; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #10161d; }
      .unit { fill: #1c2733; stroke: #8ea0b5; }
      .part { fill: #10161d; stroke: #5d6f84; }
      .wire { stroke: #8ea0b5; }
      .head { fill: #8ea0b5; }
      .name, .text { fill: #e4ebf2; }
      .value { fill: #8cc0f5; }
      .grid { stroke: #33414f; }
    }"""

application = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and lines of text; ``unit`` names the instances that it stands for.

    Parameters
    ----------
    x, y, width, height : in pixels
    title, lines : text
    units : instances within the engine, or "control" beside it
    kind : class of the rectangle
    """

    x: int
    y: int
    width: int
    height: int
    title: str
    lines: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    kind: str = "unit"

    def svg(self) -> list[str]:
        """Return the elements of the box."""
        top = self.y + 22 if self.title else self.y + 4
        place = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}"'
        drawn = [f'<rect class="{self.kind}" {place} rx="4"/>']
        if self.title:
            drawn.append(_text(self.x + 10, top, self.title, "name"))
        return drawn + [
            _text(self.x + 10, top + 17 * (number + bool(self.title)), line, "text")
            for number, line in enumerate(self.lines)
        ]


@dataclass(frozen=True)
class Wire:
    """An arrow along corner points, with the probe points that it carries.

    Parameters
    ----------
    points : corners
    label : text beside it
    at : where the label starts
    probes : probe points that the label stands for
    """

    points: tuple[tuple[int, int], ...]
    label: str
    at: tuple[int, int]
    probes: tuple[str, ...] = ()
    kind: str = "wire"

    def svg(self) -> list[str]:
        """Return the line, its arrow head and its label."""
        path = " ".join(
            f"{'ML'[position > 0]}{x} {y}" for position, (x, y) in enumerate(self.points)
        )
        drawn = [f'<path class="{self.kind}" d="{path}" marker-end="url(#head)"/>']
        return [*drawn, _text(*self.at, self.label, "value")] if self.label else drawn


def _text(x: int, y: int, text: str, kind: str, anchor: str = "start") -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{x}" y="{y}"{placed}>{escaped}</text>'


def _document(width: int, height: int, title: str, elements: list[str]) -> str:
    marker = (
        '<marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto" '
        'markerUnits="userSpaceOnUse"><path class="head" d="M0 0 L9 4 L0 8 z"/></marker>'
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"  <title>{title}</title>",
        f"  <style>\n{STYLE}\n  </style>",
        f"  <defs>{marker}</defs>",
        f'  <rect class="page" width="{width}" height="{height}" rx="8"/>',
        *(f"  {element}" for element in elements),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


MICROCODE = ("array_microcode", "embedding_microcode", "scan_microcode", "layer_microcode")


def datapath_boxes(schedule: Schedule) -> list[Box]:
    """Return every unit, where it is drawn."""
    mac, scan = schedule.lanes.mac, schedule.lanes.scan
    return [
        Box(
            150, 24, 480, 66, "sequencer and microcode",
            ("takes a token when outputs have room, then starts every unit in its cycle",),
            ("sequencer", *MICROCODE),
        ),
        Box(790, 24, 210, 66, "control", ("registers, state access",), ("control",)),
        Box(150, 150, 170, 62, "embedding", ("row of the token",), ("embedding",)),
        Box(
            150, 290, 170, 96, "norm",
            ("residual memory", "sum of squares, 1/sqrt", "RMSNorm"), ("norm",),
        ),
        Box(440, 150, 230, 356, "projection", (), ("projection",)),
        Box(456, 184, 198, 76, "", ("", "vector buffers", "norm, u, gated"), kind="part"),
        Box(456, 272, 198, 110, "", (
            "", "MAC array", f"{mac} lanes, output-stationary", "weights: one word a cycle",
            "double-buffered drain",
        ), kind="part"),
        Box(456, 394, 198, 96, "", (
            "", "shift requantizer", "one row a cycle,", "one shift a row",
        ), kind="part"),
        Box(790, 150, 210, 62, "convolution", ("causal, K taps, windows",), ("convolution",)),
        Box(
            790, 266, 210, 62, "activation", ("one SiLU for both branches",), ("activation",),
        ),
        Box(
            790, 390, 210, 134, "scan",
            (
                "dt_proj, softplus: delta", f"{scan} lanes: decay, update",
                "state memory: state", "read-out: scan_output", "gate",
            ),
            ("scan",),
        ),
        Box(440, 560, 230, 62, "outputs", ("arg-max, stream buffers",), ("outputs",)),
    ]  # fmt: skip


def datapath_wires() -> list[Wire]:
    """Return every connection of the datapath."""
    return [
        Wire(((24, 57), (150, 57)), "tokens", (24, 50)),
        Wire(((1110, 57), (1000, 57)), "AXI4-Lite", (1040, 50)),
        Wire(((235, 90), (235, 150)), "token", (242, 125)),
        Wire(((555, 90), (555, 150)), "start, operands", (562, 125), kind="wire start"),
        Wire(((790, 57), (630, 57)), "hold, reset", (668, 50)),
        Wire(((235, 212), (235, 290)), "load", (242, 256)),
        Wire(((320, 312), (440, 312)), "norm", (338, 305), ("norm",)),
        Wire(((440, 362), (320, 362)), "add: residual", (338, 355), ("residual",)),
        Wire(((670, 181), (790, 181)), "x", (722, 174), ("x",)),
        Wire(((895, 212), (895, 266)), "convolution", (902, 243), ("convolution",)),
        Wire(((670, 283), (790, 283)), "z", (722, 276)),
        Wire(((790, 312), (670, 312)), "u", (722, 305), ("u",)),
        Wire(((860, 328), (860, 390)), "scan_u", (812, 364), ("scan_u",)),
        Wire(((930, 328), (930, 390)), "gate", (937, 364), ("gate",)),
        Wire(
            ((670, 424), (790, 424)), "dt, B, C: projected", (674, 417), ("projected",)
        ),
        Wire(((790, 490), (670, 490)), "gated", (712, 483), ("gated",)),
        Wire(((555, 506), (555, 560)), "logits", (562, 538), ("logits",)),
        Wire(((670, 582), (790, 582)), "results: token", (798, 586), ("token",)),
        Wire(((670, 608), (790, 608)), "logits, if asked for", (798, 612)),
    ]  # fmt: skip


INSIDE_SCAN = ("delta", "state", "scan_output")
"""Probe points that the text of the scan's box names."""


def check_units(boxes: list[Box], wires: list[Wire]) -> None:
    """Raise InputError unless the drawing shows exactly the units and probes of a design."""
    program = random_program(find_preset("micro"), find_scheme("w4a5-se"))
    lanes = default_lanes(program.shape)
    files = emit(Accelerator(program=program, lanes=lanes, plan=MemoryPlan("mem")), "top")
    drawn = {unit for box in boxes for unit in box.units}
    modules = {
        name.removesuffix(".v").removeprefix("top_").removeprefix("engine_")
        for name in files
        if name not in ("top.v", "top_engine.v")
    }
    missing = sorted(
        module
        for module in modules
        if not any(module == unit or module.startswith(f"{unit}_") for unit in drawn)
    )
    if missing or not drawn <= modules:
        raise InputError(
            f"the drawing lacks {missing} and shows {sorted(drawn - modules)} too much; change it"
        )
    shown = {probe for wire in wires for probe in wire.probes} | set(INSIDE_SCAN)
    if shown != set(probe_widths(program, lanes)):
        raise InputError(f"the drawing shows the probes {sorted(shown)}; the engine has others")


def datapath(schedule: Schedule) -> str:
    """Return the picture of the datapath."""
    boxes, wires = datapath_boxes(schedule), datapath_wires()
    check_units(boxes, wires)
    shapes: list[Box | Wire] = [*boxes, *wires]
    elements = [element for shape in shapes for element in shape.svg()]
    return _document(1134, 646, "Units of a generated engine and the values between them", elements)


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
            _text(x, top - 14, f"{cycle:,}", "text", "middle"),
        ]
    for number, row in enumerate(rows):
        y = top + number * (height + 10)
        elements.append(_text(12, y + 22, row, "name"))
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
                elements.append(_text(x + width // 2, y + 22, label, "bar", "middle"))
    title = f"Cycles of the first block of a {PRESET} token"
    return _document(left + round(last * scale) + 30, bottom + 12, title, elements)


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
