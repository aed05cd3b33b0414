"""How the scan's input u may be stored, in real arithmetic: the storages of the source texts.

Each is a function of layer and activated value (b, t, e), the output of SiLU, that returns what
the scan reads. ``x_proj`` always reads the program's own activation (dual path, demand Q7): an
integer accumulator cannot mix two scales.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from golden.fixed_point import integer_range
from golden.program import Program

__all__ = [
    "DualScaleInput", "ScanInput", "ThreeSegmentInput", "UniformInput", "float_input",
    "stored_input", "three_segment_levels",
]  # fmt: skip

Array = npt.NDArray[Any]

ScanInput = Callable[[int, Array], Array]
"""``stored(layer, activated)`` returns the scan's input; it leaves ``activated`` alone."""


def checked_steps(steps: Array, name: str) -> Array:
    """Return ``steps`` as float64.

    Raises
    ------
    InputError
        If a scale is zero, negative, NaN or infinite.
    """
    steps = np.asarray(steps, np.float64)
    broken = ~(np.isfinite(steps) & (steps > 0))
    if broken.any():
        raise InputError(
            f"{name} holds the scale {steps[broken].reshape(-1)[0]}, scales are positive and "
            "finite; calibrate on text that reaches every channel"
        )
    return steps


def float_input(layer: int, activated: Array) -> Array:
    """Return the value itself: mode 1 of the source texts, the upper bound."""
    del layer
    return activated


@dataclass(frozen=True)
class UniformInput:
    """One scale a channel: ``steps`` (layers, e) or (layers, 1), two's complement of ``bits``."""

    steps: Array
    bits: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", checked_steps(self.steps, "the uniform storage"))

    def __call__(self, layer: int, activated: Array) -> Array:
        """Round half to even and saturate."""
        low, high = integer_range(self.bits)
        step = self.steps[layer]
        rounded: Array = np.clip(np.rint(activated / step), low, high) * step
        return rounded


@dataclass(frozen=True)
class DualScaleInput:
    """A code and a flag that selects one of two scales (Q6), the ratio any real from 1 on.

    Parameters
    ----------
    steps : fine step s1, (layers, e) or (layers, 1)
    ratio : coarse step over fine step; hardware shifts, so there it is a power of two
    code_limit : largest magnitude of a code: 7 for a5, 15 for a6, 127 for the texts' INT8 codes
    margin : the flag is set where the fine code exceeds ``margin code_limit``
    """

    steps: Array
    ratio: float
    code_limit: int = 7
    margin: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", checked_steps(self.steps, "the dual scale"))
        if not (np.isfinite(self.ratio) and self.ratio >= 1.0):
            raise InputError(f"ratio = {self.ratio} is not a finite number of at least 1; raise it")
        if not 0.0 < self.margin <= 1.0:
            raise InputError(f"margin = {self.margin} is outside (0, 1]; choose one inside")
        if self.code_limit < 1:
            raise InputError(f"code limit = {self.code_limit} is below 1; a code needs a magnitude")

    def flag(self, layer: int, activated: Array) -> Array:
        """Return where the coarse scale is used."""
        fine = np.abs(np.rint(activated / self.steps[layer]))
        flag: Array = fine > self.margin * self.code_limit
        return flag

    def __call__(self, layer: int, activated: Array) -> Array:
        """Encode and decode."""
        scale = self.steps[layer] * np.where(self.flag(layer, activated), self.ratio, 1.0)
        code = np.clip(np.rint(activated / scale), -self.code_limit, self.code_limit)
        decoded: Array = code * scale
        return decoded


def three_segment_levels() -> Array:
    """Return the 256 magnitudes of the published three-segment storage, in units of s.

    64 levels of s/4 up to 15.75, 128 of s from 16 to 143, 64 of 4 s from 143 on: 147 to 395 beyond
    143 itself, which the last segment's first level repeats.
    """
    return np.concatenate(
        [np.arange(64) / 4.0, np.arange(16.0, 144.0), 143.0 + 4.0 * np.arange(64)]
    )


@dataclass(frozen=True)
class ThreeSegmentInput:
    """The published three-segment storage: a sign and one of 256 magnitudes (Q8).

    ``steps`` (layers, e) or (layers, 1) is s, the step of the INT8 storage it replaces.
    """

    steps: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", checked_steps(self.steps, "the three segments"))

    def __call__(self, layer: int, activated: Array) -> Array:
        """Round the magnitude to the nearest level of its segment, ties to even codes."""
        step = self.steps[layer]
        magnitude = np.abs(activated) / step
        fine = np.rint(magnitude * 4.0) / 4.0
        middle = np.rint(magnitude)
        far = 143.0 + 4.0 * np.clip(np.rint((magnitude - 143.0) / 4.0), 0.0, 63.0)
        level = np.where(fine <= 15.75, fine, np.where(middle <= 143.0, middle, far))
        stored: Array = np.copysign(level * step, activated)
        return stored


def stored_input(program: Program) -> ScanInput:
    """Return the storage of the program itself: one scale a channel, or its dual scale."""
    steps = np.ldexp(1.0, -np.stack([layer.formats.scan_u for layer in program.layers]))
    dual = program.scheme.dual_scale
    if dual is None:
        return UniformInput(steps, program.scheme.scan_input_bits)
    return DualScaleInput(steps, float(1 << dual.ratio_log2), dual.code_limit)
