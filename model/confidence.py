"""Whether a loss is one of knowledge or of confidence: losses at each network's best temperature.

A network that is too sure of itself needs more bits than what it knows asks for; dividing its
logits by a temperature above 1 shows how many (Guo et al. 2017, "On Calibration of Modern Neural
Networks"). Rounding noise can do a part of the same by chance, which then hides a part of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.artifact import file_digest, load_program
from model.accuracy_records import Identity, Sources
from model.accuracy_rows import ProgramRow
from model.float_simulation import FloatNetwork
from model.network_parameters import extract_parameters
from model.text_windows import (
    WINDOW,
    Advance,
    Array,
    Start,
    cut_windows,
    float_start,
    integer_start,
    negative_log2,
    stretches,
)

__all__ = ["TEMPERATURES", "ConfidenceRow", "tempered_bits"]

TEMPERATURES = tuple(round(0.8 + 0.02 * step, 2) for step in range(41))
"""Candidates, 0.8 to 1.6."""


def tempered_bits(
    start: Start,
    pieces: list[Array],
    temperatures: tuple[float, ...],
    advance: Advance | None = None,
) -> Array:
    """Return the mean bits a target costs at every temperature, (temperatures,).

    Parameters
    ----------
    pieces : targets, see :func:`model.text_windows.cut_windows`
    temperatures : what the logits are divided by
    """
    total = np.zeros(len(temperatures))
    for targets, logits in stretches(start, pieces, advance):
        total += [negative_log2(targets, logits / own).sum() for own in temperatures]
    bits: Array = total / sum(piece.size for piece in pieces)
    return bits


@dataclass(frozen=True)
class ConfidenceRow:
    """Held-out bits of the float network and of built-in programs, plain and tempered.

    Parameters
    ----------
    programs : what they are called behind the preset
    preset : the network
    """

    programs: tuple[str, ...]
    preset: str = "bytelm"

    @property
    def name(self) -> str:
        """Name of the record."""
        return f"{self.preset}-confidence"

    def identity(self, sources: Sources) -> Identity:
        """Return what is measured."""
        paths = {own: ProgramRow(preset=self.preset, program=own).artifact for own in self.programs}
        return {
            **sources.identity(self.preset, 0),
            "artifacts_sha256": {own: file_digest(path) for own, path in paths.items()},
            "temperatures": list(TEMPERATURES),
            "validation_tokens": len(sources.tokens.validation),
            "tokens": len(sources.tokens.held_out),
        }

    def measure(self, sources: Sources) -> dict[str, Any]:
        """Return plain and tempered bits by network; validation text chooses the temperature."""
        exact = FloatNetwork(extract_parameters(sources.network(self.preset, 0).model))
        starts = {"float": float_start(exact)}
        for own in self.programs:
            path = ProgramRow(preset=self.preset, program=own).artifact
            starts[own] = integer_start(load_program(path))
        text = sources.tokens
        validation, held_out = (
            cut_windows(own, WINDOW) for own in (text.validation, text.held_out)
        )
        networks = {}
        size = len(starts) * (len(text.validation) + len(text.held_out))
        with sources.bar(self.name, size) as advance:
            for name, start in starts.items():
                found = tempered_bits(start, validation, TEMPERATURES, advance)
                best = TEMPERATURES[int(found.argmin())]
                plain, tempered = tempered_bits(start, held_out, (1.0, best), advance)
                networks[name] = {"temperature": best, "bits": plain, "tempered_bits": tempered}
        return {"networks": networks}
