"""The requantizer formats of the designs that come with the project."""

from __future__ import annotations

import warnings
from typing import Any
from unittest import mock

from amaranth.hdl import UnusedElaboratable

from golden.builtin import RANDOM_PRESETS, TRAINED_SCHEMES, load_builtin
from golden.scheme import SCHEMES
from hw.lanes import default_lanes
from hw.parameter_memory import MemoryPlan
from hw.requantizer import ShiftRequantizer
from hw.top import Accelerator

PRESETS = ("micro", "bytelm")

Format = tuple[int, int, int, bool]
"""input_width, output_width, max_shift, output_signed"""


def formats_in_use() -> list[Format]:
    """Return every format of a requantizer in a built-in design, in order."""
    seen: set[Format] = set()
    original = ShiftRequantizer.__init__

    def record(self: ShiftRequantizer, *, output_signed: bool = True, **widths: Any) -> None:
        seen.add(
            (*(widths[n] for n in ("input_width", "output_width", "max_shift")), output_signed)
        )
        original(self, output_signed=output_signed, **widths)

    with warnings.catch_warnings(), mock.patch.object(ShiftRequantizer, "__init__", record):
        warnings.simplefilter("ignore", UnusedElaboratable)
        for preset in PRESETS:
            for scheme in SCHEMES if preset in RANDOM_PRESETS else TRAINED_SCHEMES:
                program = load_builtin(preset, SCHEMES[scheme])
                lanes = default_lanes(program.shape)
                Accelerator(program=program, lanes=lanes, plan=MemoryPlan("mem"))
    return sorted(seen)
