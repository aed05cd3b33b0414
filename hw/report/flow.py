"""Synthesis, place and route of any generated directory, as plain functions.

    netlist = synthesize(folder, top, parse_target("ecp5"), work)
    routed = route(netlist, seed=1, frequency=110.0)

``folder`` holds ``rtl/*.v`` and ``mem/*.hex`` as :mod:`hw.generate` writes them. Everything is
kept in ``work`` beside the digest of its inputs; a step with the same inputs is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden import command
from hw.manifest import file_digests
from hw.primitives import MULTIPLIER_MODULE
from hw.report import pins
from hw.report.components import Cells, by_instance, totals
from hw.report.liberty import cell_report
from hw.report.step import inputs_digest, kept
from hw.report.targets import ECP5, Target, library_text, synthesis_commands
from hw.report.timing import PathStep, critical_path
from hw.report.tools import (
    NEXTPNR,
    YOSYS,
    Listener,
    ignore,
    package_version,
    run_nextpnr,
    run_yosys,
)

DEVICE = ["--85k", "--package", "CABGA381", "--speed", "6"]
DEVICE_NAME = "LFE5U-85F, CABGA381, speed grade 6"
COUNTED = ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD", "TRELLIS_RAMW")
"""What nextpnr counts; a COMB is a look-up table with its half of a carry, 4 COMB and one RAMW
hold a distributed memory of 4 x 16 bits."""


@dataclass(frozen=True)
class Netlist:
    """A synthesized design.

    Parameters
    ----------
    path : Yosys' JSON netlist
    top : top module; a wrapper if the ports exceed the package's pins
    target : what it is made of
    instances : cells of each instance path, before packing
    measures : area and delay of a standard-cell library, else empty
    identity : digest of everything it was made from
    reused : whether it was there already
    """

    path: Path
    top: str
    target: Target
    instances: dict[str, Cells]
    measures: dict[str, Any]
    identity: str
    reused: bool

    @property
    def wrapped(self) -> bool:
        """Return whether ports stand behind a shift register, as they exceed the pins."""
        return self.top.endswith("_pins")

    @property
    def cells(self) -> Cells:
        """Return the cells of the whole design, before packing."""
        return totals(self.instances)


@dataclass(frozen=True)
class Routed:
    """One placement and routing.

    Parameters
    ----------
    seed : of the placer
    clock : highest clock, MHz
    target_clock : what the tool was asked for, MHz
    used : cells by nextpnr's types
    path : critical path from register to register
    reused : whether it was there already
    """

    seed: int
    clock: float
    target_clock: float
    used: Cells
    path: list[PathStep]
    reused: bool


def synthesize(
    folder: Path, top: str, target: Target, work: Path, *, listener: Listener = ignore
) -> Netlist:
    """Synthesize the generated directory ``folder`` into ``work``.

    Raises
    ------
    InputError
        If Yosys is missing or fails.
    """
    work = work.absolute()
    sources = {k: v for k, v in file_digests(folder).items() if k.startswith(("rtl/", "mem/"))}
    ports = pins.read_ports(folder, top)
    commands = ["read_verilog -defer rtl/*.v"]
    text, library = "", None
    if target.kind == ECP5 and pins.pins(ports) > pins.PACKAGE_PINS:
        text = pins.wrapper(top, ports)
        top = f"{top}_pins"
        command.atomic_write(work / "pins.v", text.encode())
        commands.append(f"read_verilog {work / 'pins.v'}")
    if target.library is not None:
        library = work / "library.lib"
        command.atomic_write(library, library_text(target.library).encode())
    if f"rtl/{MULTIPLIER_MODULE}.v" in sources:
        # The design names primitives: Yosys must know their ports when it builds the hierarchy.
        commands.insert(0, "read_verilog -lib +/ecp5/cells_bb.v")
    made = synthesis_commands(target, top, library)
    path = work / "netlist.json"
    identity = inputs_digest(
        {
            "sources": sources,
            "wrapper": text,
            # Without the folder: the result does not depend on where the work is done.
            "commands": synthesis_commands(target, top, Path("library.lib")),
            "target": target.digest,
            "yosys": package_version(YOSYS),
        }
    )

    def work_out() -> dict[str, Any]:
        log = run_yosys(
            [*commands, *made, f"write_json {path}"],
            folder=folder,
            log=work / "synthesis.log",
            listener=listener,
        )
        instances = _instances(path, top)
        measures: dict[str, Any] = {}
        if library is not None:
            measures = cell_report(instances, library.read_text(), log)
        return {"instances": instances, "measures": measures}

    found, reused = kept(work / "synthesis.json", identity, work_out, path)
    return Netlist(path, top, target, found["instances"], found["measures"], identity, reused)


def _instances(netlist: Path, top: str) -> dict[str, Cells]:
    """Count the cells of a flattened netlist; Yosys leaves one scope cell for every instance."""
    cells = json.loads(netlist.read_text())["modules"][top]["cells"]
    scopes = frozenset(name for name, cell in cells.items() if cell["type"] == "$scopeinfo")
    return by_instance(
        ((name, cell["type"]) for name, cell in cells.items() if name not in scopes), scopes
    )


def pack(netlist: Netlist, *, listener: Listener = ignore) -> dict[str, Cells]:
    """Return the cells of each instance as nextpnr counts them; they do not depend on a seed.

    Raises
    ------
    InputError
        If nextpnr is missing or fails.
    """
    work = netlist.path.parent
    identity = inputs_digest({"netlist": netlist.identity, "nextpnr": package_version(NEXTPNR)})

    def work_out() -> dict[str, Any]:
        packed = work / "packed.json"
        arguments = ["--json", netlist.path.name, "--pack-only", "--write", packed.name]
        arguments += ["--lpf-allow-unconstrained"]
        log = work / "packing.log"
        run_nextpnr([*DEVICE, *arguments], folder=work, log=log, listener=listener)
        source = json.loads(netlist.path.read_text())["modules"][netlist.top]["cells"]
        scopes = frozenset(name for name, cell in source.items() if cell["type"] == "$scopeinfo")
        # nextpnr writes one module and calls it "top".
        (module,) = json.loads(packed.read_text())["modules"].values()
        packed.unlink()
        return {"instances": by_instance(_counted(module["cells"]), scopes)}

    found, _ = kept(work / "packing.json", identity, work_out)
    return dict(found["instances"])


def _counted(cells: dict[str, Any]) -> Iterable[tuple[str, str]]:
    return ((name, cell["type"]) for name, cell in cells.items() if cell["type"] in COUNTED)


def route(netlist: Netlist, *, seed: int, frequency: float, listener: Listener = ignore) -> Routed:
    """Place and route an ECP5 netlist in the device of :data:`DEVICE_NAME`; pins are free.

    A clock below ``frequency`` is a finding, not a failure.

    Raises
    ------
    InputError
        If nextpnr is missing or fails, as when the design does not fit the device.
    """
    work = netlist.path.parent
    identity = inputs_digest(
        {
            "netlist": netlist.identity,
            "nextpnr": package_version(NEXTPNR),
            "device": DEVICE,
            "seed": seed,
            "frequency": frequency,
        }
    )

    def work_out() -> dict[str, Any]:
        report = work / f"nextpnr-{seed}.json"
        arguments = ["--json", netlist.path.name, "--report", report.name]
        arguments += ["--seed", str(seed), "--freq", str(frequency)]
        arguments += ["--lpf-allow-unconstrained", "--timing-allow-fail"]
        log = work / f"nextpnr-{seed}.log"
        run_nextpnr([*DEVICE, *arguments], folder=work, log=log, listener=listener)
        content = json.loads(report.read_text())
        report.unlink()
        clocks = [clock["achieved"] for clock in content["fmax"].values()]
        used = {name: item["used"] for name, item in content["utilization"].items()}
        return {
            "clock": min(clocks, default=0.0),
            "used": {name: count for name, count in sorted(used.items()) if count},
            "path": critical_path(content),
        }

    found, reused = kept(work / f"route-{seed}.json", identity, work_out)
    path = [PathStep(**step) for step in found["path"]]
    return Routed(seed, found["clock"], frequency, found["used"], path, reused)
