"""The picture of a generated engine's units, checked against the Verilog of several networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from docs.drawing import Box, Wire, document
from golden.errors import InputError
from golden.presets import find_preset
from golden.program import Program
from golden.random_program import random_program
from golden.scheme import find_scheme
from hw.lanes import default_lanes
from hw.parameter_memory import MemoryPlan
from hw.probes import probe_widths
from hw.schedule import Schedule
from hw.top import Accelerator
from hw.verilog import emit

__all__ = ["datapath"]

MICROCODE = ("array_microcode", "embedding_microcode", "scan_microcode", "layer_microcode")


def datapath_boxes(schedule: Schedule) -> list[Box]:
    """Return every unit, where it is drawn; dashed are those that not every network has."""
    mac, scan = schedule.lanes.mac, schedule.lanes.scan
    return [
        Box(
            150, 24, 480, 66, "sequencer and microcode",
            ("takes a token when outputs have room, then starts every unit in its cycle",),
            ("sequencer", *MICROCODE),
        ),
        Box(1090, 24, 210, 66, "control", ("registers, state access",), ("control",)),
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
        Box(1090, 150, 210, 62, "convolution", ("causal, K taps, windows",), ("convolution",)),
        Box(
            1090, 266, 210, 62, "activation", ("one SiLU for all branches",), ("activation",),
        ),
        Box(
            1090, 390, 210, 134, "scan",
            (
                "dt_proj, softplus: delta", f"{scan} lanes: decay, update",
                "state memory: state", "read-out: scan_output", "gate",
            ),
            ("scan",),
        ),
        Box(945, 460, 115, 62, "gated norm", ("Mamba-2",), ("gated_norm",), kind="optional"),
        Box(825, 460, 95, 62, "rotation", ("schemes -h",), ("rotation",), kind="optional"),
        Box(700, 460, 90, 62, "widths", ("hybrids",), ("widths",), kind="optional"),
        Box(
            440, 572, 230, 62, "gate", ("of an MLP: SiLU times up",), ("gate",), kind="optional",
        ),
        Box(150, 444, 170, 62, "outputs", ("arg-max, stream buffers",), ("outputs",)),
    ]  # fmt: skip


def datapath_wires() -> list[Wire]:
    """Return every connection of the datapath."""
    return [
        Wire(((24, 57), (150, 57)), "tokens", (24, 50)),
        Wire(((1410, 57), (1300, 57)), "AXI4-Lite", (1340, 50)),
        Wire(((235, 90), (235, 150)), "token", (242, 125)),
        Wire(((555, 90), (555, 150)), "start, operands", (562, 125), kind="wire start"),
        Wire(((1090, 57), (630, 57)), "hold, reset", (828, 50)),
        Wire(((235, 212), (235, 290)), "load", (242, 256)),
        Wire(((320, 312), (440, 312)), "norm", (338, 305), ("norm",)),
        Wire(((440, 362), (320, 362)), "add: residual", (338, 355), ("residual",)),
        Wire(((670, 181), (1090, 181)), "x", (872, 174), ("x",)),
        Wire(((1195, 212), (1195, 266)), "convolution", (1202, 243), ("convolution",)),
        Wire(((670, 283), (1090, 283)), "z", (872, 276)),
        Wire(((1090, 312), (670, 312)), "u", (872, 305), ("u",)),
        Wire(
            ((1160, 328), (1160, 390)), "scan_u; Mamba-2: B, C", (1014, 364), ("scan_u",)
        ),
        Wire(((1230, 328), (1230, 390)), "gate", (1237, 364), ("gate",)),
        Wire(
            ((670, 424), (1090, 424)), "dt, B, C: projected; Mamba-2: dt", (780, 417),
            ("projected", "dt"),
        ),
        Wire(((1090, 490), (1060, 490)), "gated", (1052, 449), ("gated",)),
        Wire(((945, 490), (920, 490)), "normed", (908, 453), ("normed",)),
        Wire(((825, 490), (790, 490)), "rotated", (786, 453), ("rotated",)),
        Wire(((700, 490), (670, 490)), "", (0, 0)),
        Wire(((590, 506), (590, 572)), "up", (597, 544), ("up",)),
        Wire(
            ((1300, 297), (1350, 297), (1350, 662), (555, 662), (555, 634)), "mlp_gate",
            (920, 655), ("mlp_gate",),
        ),
        Wire(((500, 572), (500, 506)), "mlp_gated", (430, 544), ("mlp_gated",)),
        Wire(((440, 475), (320, 475)), "logits", (362, 468), ("logits",)),
        Wire(((150, 462), (24, 462)), "results: token", (24, 455), ("token",)),
        Wire(((150, 490), (24, 490)), "logits, if asked for", (24, 483)),
    ]  # fmt: skip


INSIDE_SCAN = ("delta", "decay", "state", "scan_output")
"""Probe points that the text of the scan's box names."""


def checked_programs() -> Iterator[Program]:
    """Make small networks that together have every unit and every probe point."""
    micro = find_preset("micro")
    yield random_program(micro, find_scheme("w4a5-se"))
    yield random_program(find_preset("micro-mamba2"), find_scheme("w8a8-h"))
    yield random_program(replace(micro, mlp=8), find_scheme("w8a8"), widths=(6,))


def _modules(program: Program) -> set[str]:
    """Return the instances in the Verilog of a network's engine, and "control" beside it."""
    accelerator = Accelerator(
        program=program, lanes=default_lanes(program.shape), plan=MemoryPlan("mem")
    )
    return {
        name.removesuffix(".v").removeprefix("top_").removeprefix("engine_")
        for name in emit(accelerator, "top")
        if name not in ("top.v", "top_engine.v")
    }


def check_units(boxes: list[Box], wires: list[Wire]) -> None:
    """Raise InputError unless the drawing shows exactly the units and probes of the networks.

    A unit that one of them lacks must be drawn dashed, and no other.
    """
    drawn = {unit for box in boxes for unit in box.units}
    dashed = {unit for box in boxes for unit in box.units if box.kind == "optional"}
    shown = {probe for wire in wires for probe in wire.probes} | set(INSIDE_SCAN)
    common, all_units, probes = set(drawn), set[str](), set[str]()
    for program in checked_programs():
        modules = _modules(program)
        missing = sorted(
            module
            for module in modules
            if not any(module == unit or module.startswith(f"{unit}_") for unit in drawn)
        )
        if missing:
            raise InputError(f"the drawing lacks {missing}; add them")
        common &= modules
        all_units |= modules & drawn
        probes |= set(probe_widths(program, default_lanes(program.shape)))
    if drawn != all_units or drawn - common != dashed:
        raise InputError(
            f"the drawing shows {sorted(drawn - all_units)} too much, and dashed should be "
            f"{sorted(drawn - common)}, not {sorted(dashed)}; change it"
        )
    if shown != probes:
        raise InputError(
            f"the drawing lacks the probes {sorted(probes - shown)} and shows "
            f"{sorted(shown - probes)} too much; change it"
        )


def datapath(schedule: Schedule) -> str:
    """Return the picture of the datapath."""
    boxes, wires = datapath_boxes(schedule), datapath_wires()
    check_units(boxes, wires)
    shapes: list[Box | Wire] = [*boxes, *wires]
    elements = [element for shape in shapes for element in shape.svg()]
    return document(1434, 686, "Units of a generated engine and the values between them", elements)
