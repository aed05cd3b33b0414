"""What ``report.json`` says of a design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from hw.report.components import Cells, at_depth, totals, ultrascale_families
from hw.report.flow import DEVICE_NAME, Netlist, Routed
from hw.report.targets import ECP5, LIBERTY, XILINX
from hw.report.timing import share, signals
from hw.report.tools import NEXTPNR, YOSYS, package_version

VERSION = 1
COMPONENT_DEPTH = 2
"""Names of an instance path that make a component: ``engine.scan``."""


def lowest_median(clocks: Sequence[Routed]) -> Routed:
    """Return the routing whose clock is the median, the lower one of two."""
    ordered = sorted(clocks, key=lambda routed: routed.clock)
    return ordered[(len(ordered) - 1) // 2]


def timing(routes: Sequence[Routed]) -> dict[str, Any]:
    """Return the clock of every seed, the median, and the median seed's critical path."""
    typical = lowest_median(routes)
    return {
        "device": DEVICE_NAME,
        "target_mhz": typical.target_clock,
        "clock_mhz_by_seed": {str(routed.seed): round(routed.clock, 2) for routed in routes},
        "clock_mhz": round(median(routed.clock for routed in routes), 2),
        "critical_path": {
            "seed": typical.seed,
            "logic_ns": round(share(typical.path, "logic"), 3),
            "routing_ns": round(share(typical.path, "routing"), 3),
            "signals": signals(typical.path),
            "steps": [asdict(step) for step in typical.path],
        },
    }


def contents(
    *,
    design: dict[str, Any],
    netlist: Netlist,
    packed: dict[str, Cells] | None,
    routes: Sequence[Routed],
) -> dict[str, Any]:
    """Return the report: the design's own description first, then what the tools found.

    Parameters
    ----------
    design : preset, scheme, lanes, cycles: what is known without tools
    netlist : the synthesized design
    packed : cells of each instance as nextpnr counts them, of an ECP5 only
    routes : placements and routings, of an ECP5 only
    """
    instances = netlist.instances if packed is None else packed
    by_type = totals(instances)
    if netlist.target.kind == XILINX:
        instances = {path: ultrascale_families(cells) for path, cells in instances.items()}
    found: dict[str, Any] = {
        "version": VERSION,
        **design,
        "target": netlist.target.name,
        "tools": {YOSYS: package_version(YOSYS)},
        "inputs_sha256": netlist.identity,
        "cells": totals(instances),
        "cells_by_type": by_type,
        "components": at_depth(instances, COMPONENT_DEPTH),
        "instances": instances,
    }
    if netlist.target.kind == LIBERTY:
        found["standard_cells"] = netlist.measures
    if netlist.target.kind == ECP5:
        found["tools"][NEXTPNR] = package_version(NEXTPNR)
        found["ports"] = (
            "behind a shift register and a parity bit, in the component top"
            if netlist.wrapped
            else "on free pins"
        )
    if routes:
        found |= timing(routes)
        hertz = found["clock_mhz"] * 1e6
        for work in ("token", "frame"):
            if f"cycles_per_{work}" in design:
                found[f"{work}s_per_second"] = round(hertz / design[f"cycles_per_{work}"], 1)
    return found
