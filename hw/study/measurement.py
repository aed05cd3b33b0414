"""Gates and delay of small components on a standard-cell library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component

from golden import command
from golden.builtin import load_builtin
from golden.scheme import DualScale, find_scheme
from hw.dual_scale import DualScaleDecoder
from hw.report import flow
from hw.report.targets import Target
from hw.study.dual_scale import Packer, Unpacker, encoder, scan_lane
from hw.study.selection import SELECTORS
from hw.verilog import emit

SCHEME = "w4a5-se"
ENCODER_INPUT_BITS, ENCODER_LARGEST_SHIFT = 29, 31
"""SiLU's unrounded result, which the encoder reads, and any shift of its 5-bit port."""


@dataclass(frozen=True)
class Gates:
    """One measured component.

    Parameters
    ----------
    nand2_equivalents : area in the library's smallest NAND2
    delay_ps : longest path without wires, 0 if there is no logic
    memories : memory cells, which are not in the area
    """

    nand2_equivalents: float
    delay_ps: float
    memories: int


def gates(component: Component, name: str, target: Target, folder: Path) -> Gates:
    """Synthesize a component in ``folder`` and return its gates."""
    design = folder / name
    for file, text in emit(component, name).items():
        command.atomic_write(design / "rtl" / file, text.encode())
    library = (target.library or Path(target.kind)).name.split(".")[0]
    measures = flow.synthesize(design, name, target, design / library).measures
    return Gates(measures["nand2_equivalents"], measures["delay_ps"], measures["memories"])


def dual_scale_parts(preset: str) -> dict[str, Component]:
    """Return the components of the dual-scale format and, to compare with, a lane of the scan."""
    scheme = find_scheme(SCHEME)
    dual_scale = scheme.dual_scale or DualScale()
    return {
        "dequantizing MUX": DualScaleDecoder(dual_scale=dual_scale),
        "pack (flag, clamp, choice)": Packer(dual_scale=dual_scale),
        "unpack": Unpacker(dual_scale=dual_scale),
        "encoder with both roundings": encoder(
            dual_scale, ENCODER_INPUT_BITS, ENCODER_LARGEST_SHIFT
        ),
        "scan lane": scan_lane(load_builtin(preset, scheme)),
    }


def selectors() -> dict[str, Component]:
    """Return the ways to find a channel's scale, by name."""
    return {kind.name: kind() for kind in SELECTORS}


def identifier(name: str) -> str:
    """Return a Verilog identifier for a part's name."""
    return "unit_" + "".join(c if c.isalnum() else "_" for c in name)


def measure(parts: dict[str, Component], target: Target, folder: Path) -> dict[str, Any]:
    """Return the gates of every part on one library, by name."""
    return {
        name: vars(gates(part, identifier(name), target, folder)) for name, part in parts.items()
    }
