"""A Verilog wrapper that writes every probe's values and cycles to a file, at simulator speed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

WRAPPER = "cosimulation"
_DECLARATION = re.compile(
    r"^\s*(input|output)\s+(?:wire |reg )?(\[\d+:0\])?\s*(\w+);", re.MULTILINE
)


@dataclass(frozen=True)
class Port:
    """A port of a generated module.

    Parameters
    ----------
    direction : "input" or "output"
    width : Verilog range with brackets, empty for one bit
    name : identifier
    """

    direction: str
    width: str
    name: str


def module_ports(path: Path) -> list[Port]:
    """Return the ports of the module in a generated file, in the order of declaration."""
    return [
        Port(direction, width, name)
        for direction, width, name in _DECLARATION.findall(path.read_text())
    ]


def probe_names(engine: Path) -> list[str]:
    """Return the probe points of a generated engine, in order.

    Nothing outside reads them, so they are wires of the module and not ports.
    """
    return re.findall(r"^\s*wire probe_(\w+)_valid;", engine.read_text(), re.MULTILINE)


def wrapper_verilog(design: Path) -> str:
    """Return a module that instantiates the design in folder ``design`` and records its probes.

    Each line of the record is ``NUMBER CYCLE HEX``: 0 marks the cycle in which a token is taken,
    probe i of :func:`probe_names` is number i + 1, and the number behind the last probe's marks the
    cycle before a projected row's cycle 0. The file is named by the plusarg ``record``.
    """
    top = json.loads((design / "manifest.json").read_text())["top"]
    ports = module_ports(design / "rtl" / f"{top}.v")
    engine = design / "rtl" / f"{top}_engine.v"
    probes, rows = probe_names(engine), ""
    if re.search(r"^\s*wire row_accepted;", engine.read_text(), re.MULTILINE):
        mark = f'$fwrite(record, "{len(probes) + 1} %0d 0\\n", cycle);'
        rows = f"            if (dut.engine.row_accepted) {mark}"
    names = ", ".join(port.name for port in ports)
    declarations = "\n".join(f"    {p.direction} wire {p.width} {p.name};" for p in ports)
    connections = ",\n".join(f"        .{p.name}({p.name})" for p in ports)
    writes = "\n".join(
        f"            if (dut.engine.probe_{name}_valid)\n"
        f'                $fwrite(record, "{number} %0d %h\\n", cycle, '
        f"dut.engine.probe_{name}_value);"
        for number, name in enumerate(probes, start=1)
    )
    return f"""\
// Wraps {top}: the same ports, and a record of every probe point.
module {WRAPPER} ({names});
{declarations}
    {top} dut (
{connections}
    );
    integer record;
    integer cycle;
    reg [8*1024-1:0] path;
    initial begin
        cycle = 0;
        if (!$value$plusargs("record=%s", path)) $fatal(1, "give +record=FILE");
        record = $fopen(path, "w");
    end
    always @(posedge clk) begin
        cycle <= cycle + 1;
        if (!rst) begin
            if (dut.engine.accepted) $fwrite(record, "0 %0d 0\\n", cycle);
{writes}
{rows}
        end
    end
    final $fclose(record);
endmodule
"""
