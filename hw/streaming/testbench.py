"""The stand-alone test bench of a frame network, which any Verilog simulator runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from golden.command import atomic_write
from golden.fixed_point import Integers
from golden.program import Program
from golden.vectors import Trace, trace
from hw.contexts import context_bits
from hw.register_map import Register
from hw.streaming.expectation import expected_outputs, expected_values
from hw.streaming.plan import StreamingPlan
from hw.testbench import WATCHDOG_MARGIN, hex_lines, stream_beats, write_bench
from hw.top import whole_bytes

__all__ = ["write_streaming_testbench"]


@dataclass(frozen=True, kw_only=True)
class ProbeCheck:
    """One checker of the bench.

    Parameters
    ----------
    name : of the probe point, and of its vector files
    width : bits a value
    signed : how a value is printed
    passes, count : passes a run, and values a pass
    runs : tokens, frames or projected rows
    unit : "token", "frame" or "row", for the report
    event : signal of the engine in the cycle before a token's or row's cycle 0
    every : events a run
    """

    name: str
    width: int
    signed: bool
    passes: int
    count: int
    runs: int
    unit: str
    event: str
    every: int


def _kept_features(size: int) -> int:
    """Return how many features of the frame that is cut short are sent; within a row mostly."""
    return max(1, 2 * size // 3)


def _played(
    program: Program, golden: Trace, *, reset_at_last: bool
) -> tuple[Trace, tuple[Integers, Integers, Integers]]:
    """Return the trace of what the bench plays, and its stream of features, TLAST and TID.

    The golden frames follow their first one cut short, whose rest the engine fills with zeros.
    """
    frame = program.shape.frame
    assert frame is not None
    size = frame.rows * frame.features
    kept = _kept_features(size)
    first = golden.tokens[: frame.rows].copy().reshape(-1)
    first[kept:] = 0
    features = np.concatenate([first.reshape(frame.rows, -1), golden.tokens])
    stream = np.concatenate([first[:kept], golden.tokens.reshape(-1)])
    last = np.zeros_like(stream)
    last[kept - 1 :: size] = 1
    context = np.concatenate([golden.context[: frame.rows], golden.context])
    played = trace(program, features, context=context, reset_at_last=reset_at_last)
    return played, (stream, last, np.repeat(context, frame.features)[size - kept :])


def _checks(
    program: Program,
    plan: StreamingPlan,
    widths: dict[str, tuple[int, bool]],
    frames: int,
) -> list[ProbeCheck]:
    """Return a checker for every probe point."""
    frame = program.shape.frame
    assert frame is not None
    kinds = (
        (plan.probes, frames * frame.tokens, "token", "accepted", 1),
        (plan.frame_probes, frames, "frame", "accepted", frame.tokens),
        (plan.row_probes, frames * frame.rows, "row", "row_accepted", 1),
    )
    found = []
    for name, (width, signed) in widths.items():
        probes, runs, unit, event, every = next(kind for kind in kinds if name in kind[0])
        passes = 1
        if unit == "token" and name != "final_norm":
            passes = program.shape.n_layer + (name == "residual")
        found.append(
            ProbeCheck(
                name=name,
                width=width,
                signed=signed,
                passes=passes,
                count=len(probes[name]) // passes,
                runs=runs,
                unit=unit,
                event=event,
                every=every,
            )
        )
    return found


def write_streaming_testbench(
    folder: Path,
    *,
    top: str,
    program: Program,
    plan: StreamingPlan,
    widths: dict[str, tuple[int, bool]],
    trace: Trace,
    reset_at_last: bool = True,
    contexts: int = 1,
    address_width: int = 0,
) -> None:
    """Write ``tb/tb.v``, ``tb/run.sh`` and ``tb/vectors/*.hex`` into a generated directory.

    Deterministic: the same arguments write the same bytes.

    Parameters
    ----------
    folder : generated directory, with ``rtl/*.v`` and ``mem/*.hex``
    top : name of the top module
    program, plan : the design
    widths : width and signedness of every probe point
    trace : golden vectors with states
    reset_at_last : their policy; the bench writes CONTROL if it is not the one after a reset
    contexts : C of the design
    address_width : bits of the AXI4-Lite addresses; 0 without
    """
    assert program.shape.frame is not None
    bench, scheme, id_width = folder / "tb", program.scheme, context_bits(contexts)
    played, features = _played(program, trace, reset_at_last=reset_at_last)
    frames = len(played.probes["logits"])
    feature_width, output_width = whole_bytes(scheme.feature_bits), whole_bytes(scheme.logit_bits)
    files = {
        "stream_features.hex": stream_beats(*features, feature_width, id_width),
        "stream_outputs.hex": stream_beats(*expected_outputs(played), output_width, id_width),
    }
    checks = _checks(program, plan, widths, frames)
    for check in checks:
        values = expected_values(check.name, program, plan, played)
        offsets = (plan.probes | plan.frame_probes | plan.row_probes)[check.name]
        files[f"probe_{check.name}.hex"] = hex_lines(values, check.width)
        files[f"probe_{check.name}.cycles.hex"] = hex_lines(np.asarray(offsets), 32)
    for name, content in files.items():
        atomic_write(bench / "vectors" / name, content)
    write_bench(
        bench,
        "tb_streaming.v.j2",
        top=top,
        frames=frames,
        sent=len(features[0]),
        outputs=program.shape.vocabulary,
        features=program.shape.frame.features,
        interval=plan.interval,
        frame_interval=plan.frame_interval,
        patience=4 * (plan.frame_interval + plan.latency) + WATCHDOG_MARGIN,
        feature_width=feature_width,
        address_width=address_width,
        output_width=output_width,
        id_width=id_width,
        configures=not reset_at_last,
        control_address=int(Register.CONTROL),
        checks=checks,
        values=sum(check.runs * check.passes * check.count for check in checks),
    )
