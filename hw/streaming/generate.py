"""Writes the directory of a frame network's design; see :mod:`hw.generate` for the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from golden import vectors
from golden.command import atomic_write
from golden.errors import InputError
from golden.program import Program
from hw.design_files import IMAGE_FOLDER, top_name, write_golden, write_sources
from hw.manifest import file_digests
from hw.multiplier import Multipliers
from hw.parameter_memory import MemoryPlan
from hw.primitives import Primitives
from hw.streaming.manifest import build_streaming_manifest
from hw.streaming.plan import StreamingPlan
from hw.streaming.testbench import write_streaming_testbench
from hw.streaming.top import StreamingAccelerator

__all__ = [
    "StreamingGenerated", "refuse_shared_options", "refuse_streaming_options",
    "write_streaming_design",
]  # fmt: skip


@dataclass(frozen=True)
class StreamingGenerated:
    """What :func:`write_streaming_design` wrote.

    Parameters
    ----------
    top : name of the top module
    program, plan : what it realises
    probe_widths : width and signedness of every probe point
    trace : the golden vectors of the directory
    contexts : C
    """

    top: str
    program: Program
    plan: StreamingPlan
    probe_widths: dict[str, tuple[int, bool]]
    trace: vectors.Trace
    contexts: int

    @property
    def summary(self) -> str:
        """Return one line for people."""
        plan = self.plan
        return (
            f"{self.top}, {plan.lanes.mac} MAC lanes in {len(plan.stages)} arrays, "
            f"{plan.lanes.scan} scan lanes, a block every {plan.beat} cycles, "
            f"{plan.frame_interval} cycles a frame, "
            f"array utilisation {100 * plan.utilisation['arrays']:.1f} %"
        )


def refuse_shared_options(
    mac_lanes: int | None, *, scheduled_contexts: int = 1, dense_trits: bool = False
) -> None:
    """Raise InputError for options that a frame network's organisation does not have.

    Contexts it may have, but its schedule has none.
    """
    if mac_lanes is not None:
        raise InputError(
            f"mac lanes = {mac_lanes}, but every array of a frame network gets the lanes that its "
            "beat needs; choose the beat instead"
        )
    if scheduled_contexts != 1:
        raise InputError(
            f"contexts = {scheduled_contexts}, but frames of all contexts follow each other in one "
            "pipe, so that its cycles do not depend on them; leave it out"
        )
    if dense_trits:
        raise InputError(
            "--dense-trits is for the array that a language model's matrices share; a frame "
            "network has small memories of its own for each, leave it out"
        )


def refuse_streaming_options(beat: int | None, *, persistent: bool = False) -> None:
    """Raise InputError for options that a language model's organisation does not have."""
    if beat is not None:
        raise InputError(f"beat = {beat}: a language model's schedule has none; leave it out")
    if persistent:
        raise InputError(
            "--persistent is for frame networks, the state of a language model always persists; "
            "leave it out"
        )


def write_streaming_design(
    program: Program,
    plan: StreamingPlan,
    stimulus: vectors.Stimulus,
    *,
    preset: str,
    folder: Path,
    multipliers: Multipliers = Multipliers.MIX,
    persistent: bool = False,
    contexts: int = 1,
    primitives: Primitives = Primitives.NONE,
) -> StreamingGenerated:
    """Fill ``folder`` with Verilog, memory images, golden vectors, test bench and manifest.

    Deterministic: the same arguments write the same bytes.

    Raises
    ------
    InputError
        If the program is not a frame network, or contexts have no state to keep apart; nothing is
        written then.
    """
    realisation = MemoryPlan(IMAGE_FOLDER, multipliers=multipliers, primitives=primitives)
    accelerator = StreamingAccelerator(
        program=program,
        plan=plan,
        realisation=realisation,
        persistent=persistent,
        contexts=contexts,
    )
    top = top_name(preset, program.scheme.name)
    trace = vectors.trace(
        program, stimulus.tokens, stimulus.last, stimulus.context,
        reset_at_last=stimulus.reset_at_last,
    )  # fmt: skip
    rtl = write_sources(folder, accelerator, top, realisation)
    cycles = {
        **plan.probes,
        **{f"frame.{name}": offsets for name, offsets in plan.frame_probes.items()},
        **{f"row.{name}": offsets for name, offsets in plan.row_probes.items()},
    }
    digest = write_golden(folder, program, trace, stimulus, cycles)
    widths = accelerator.engine.probe_widths
    write_streaming_testbench(
        folder,
        top=top,
        program=program,
        plan=plan,
        widths=widths,
        trace=trace,
        reset_at_last=stimulus.reset_at_last,
        contexts=contexts,
        address_width=accelerator.address_width,
    )
    manifest = build_streaming_manifest(
        preset=preset,
        top=top,
        artifact_digest=digest,
        program=program,
        plan=plan,
        realisation=realisation,
        rtl=rtl,
        files=file_digests(folder),
        persistent=persistent,
        contexts=contexts,
    )
    atomic_write(folder / "manifest.json", manifest.encode())
    return StreamingGenerated(top, program, plan, widths, trace, contexts)
