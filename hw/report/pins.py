"""A wrapper for designs with more ports than a package has pins."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE_PINS = 205
"""User pins of the LFE5U-85F in the package CABGA381."""
INSTANCE = "design"
_PORT = re.compile(
    r"^\s*(input|output)\s+(?:wire\s+|reg\s+)?(?:\[(\d+):0\]\s*)?(\w+)\s*;", re.MULTILINE
)

Ports = list[tuple[str, str, int]]


def read_ports(folder: Path, top: str) -> Ports:
    """Return (direction, name, bits) of the ports of the generated module ``top``."""
    text = (folder / "rtl" / f"{top}.v").read_text()
    return [(d, name, int(high or 0) + 1) for d, high, name in _PORT.findall(text)]


def pins(ports: Ports) -> int:
    """Return the pins that the ports would take."""
    return sum(bits for _, _, bits in ports)


def wrapper(top: str, ports: Ports) -> str:
    """Return Verilog of ``top_pins``: inputs from a shift register, outputs into one parity bit.

    Every port starts or ends at a register, so that the clock found is the design's; nothing of
    the design can be optimized away, since every output bit reaches the pin.
    """
    inputs = [
        (name, bits) for d, name, bits in ports if d == "input" and name not in ("clk", "rst")
    ]
    outputs = [(name, bits) for d, name, bits in ports if d == "output"]
    taken, given = sum(b for _, b in inputs), sum(b for _, b in outputs)
    lines, position = ["        .clk(clk), .rst(rst)"], 0
    for name, bits in inputs:
        lines.append(f"        .{name}(driven[{position + bits - 1}:{position}])")
        position += bits
    position = 0
    for name, bits in outputs:
        lines.append(f"        .{name}(seen[{position + bits - 1}:{position}])")
        position += bits
    connections = ",\n".join(lines)
    return f"""\
module {top}_pins (input wire clk, input wire rst, input wire serial, output reg parity);
    reg [{taken - 1}:0] driven;
    wire [{given - 1}:0] seen;
    reg [{given - 1}:0] captured;
    always @(posedge clk) begin
        driven <= {{driven[{taken - 2}:0], serial}};
        captured <= seen;
        parity <= ^captured;
    end
    {top} {INSTANCE} (
{connections}
    );
endmodule
"""
