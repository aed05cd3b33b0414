"""The report of a program's stages: each stage's loss alone, with what it was measured on."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Console

from golden.artifact import to_bytes
from golden.command import digest
from golden.program import Program
from model.post_training import Quantization
from model.quantization_report import stage_losses
from model.text_windows import WINDOW, cut_windows

__all__ = ["REPORT_BYTES", "stage_report"]

REPORT_BYTES = 4 * WINDOW
"""Held-out text on which the stages are measured one by one."""


def stage_report(done: Quantization, program: Program, held_out: Any) -> dict[str, Any]:
    """Return the JSON report of every stage alone, on the first held-out bytes.

    Parameters
    ----------
    done : the quantization
    program : what its draft builds
    held_out : tokens (length,)
    """
    pieces = cut_windows(held_out[:REPORT_BYTES], WINDOW)
    with Console(stderr=True).status("measuring") as status:
        losses = stage_losses(
            done.draft, done.parameters, pieces, lambda stage: status.update(f"measuring {stage}")
        )
    return {
        "scheme": program.scheme.name,
        "artifact_sha256": digest(to_bytes(program)),
        "tokens": sum(piece.size for piece in pieces),
        "stages": [dataclasses.asdict(loss) for loss in losses],
        **{name: value for name, value in done.provenance.items() if name != "source"},
    }
