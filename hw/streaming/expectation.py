"""What every probe of the streaming engine must show, and when."""

from __future__ import annotations

import numpy as np

from golden.fixed_point import Integers
from golden.program import Program
from golden.vectors import Trace
from hw.expectation import pack_lanes
from hw.streaming.plan import StreamingPlan

__all__ = ["expected_events", "expected_outputs", "expected_values", "output_beats"]

_FRAME_SOURCES = {"final_norm": "norm"}
"""Probes whose golden name is another."""


def _token_values(name: str, program: Program, plan: StreamingPlan, trace: Trace) -> np.ndarray:
    """Return the values of a token's probe, one row a token, in hardware order."""
    frame, layers = program.shape.frame, range(program.shape.n_layer)
    assert frame is not None
    length = len(trace.probes["logits"]) * frame.tokens
    if name in _FRAME_SOURCES:
        return trace.probes[_FRAME_SOURCES[name]].reshape(length, -1)
    passes = [trace.probes[f"layer{index}.{name}"].reshape(length, -1) for index in layers]
    if name == "residual":
        passes.insert(0, trace.probes[name].reshape(length, -1))
    values = np.concatenate(passes, axis=1)
    if name == "state" and program.shape.average is None:
        return pack_lanes(values, plan.lanes.scan, program.scheme.state_bits)
    return values


def expected_values(name: str, program: Program, plan: StreamingPlan, trace: Trace) -> np.ndarray:
    """Return the values of probe ``name``, one row a token, frame or projected row."""
    if name in plan.probes:
        return _token_values(name, program, plan, trace)
    values = trace.probes[_FRAME_SOURCES.get(name, name)]
    return values.reshape(len(values), -1)


def expected_outputs(trace: Trace) -> tuple[Integers, Integers, Integers]:
    """Return value, TLAST and TID of the output stream, each (frames, V)."""
    values = trace.probes["logits"]
    last = np.zeros_like(values)
    last[:, -1] = 1
    context = trace.context[trace.last != 0]
    return values, last, np.repeat(context[:, None], values.shape[1], axis=1)


def output_beats(trace: Trace) -> list[tuple[int, int, int]]:
    """Return the (value, TLAST, TID) of the output stream in order."""
    return list(zip(*(column.ravel().tolist() for column in expected_outputs(trace)), strict=True))


def expected_events(
    name: str,
    program: Program,
    plan: StreamingPlan,
    trace: Trace,
    starts: Integers,
    row_starts: Integers,
) -> list[tuple[int, int]]:
    """Return (cycle, value) of everything that probe ``name`` shows, in order of the cycles.

    Parameters
    ----------
    trace : golden vectors of whole frames
    starts : cycle 0 of every token
    row_starts : cycle 0 of every projected row, none without patches
    """
    assert program.shape.frame is not None
    values, tokens = expected_values(name, program, plan, trace), program.shape.frame.tokens
    if name in plan.probes:
        offsets, first = plan.probes[name], starts
    elif name in plan.row_probes:
        offsets, first = plan.row_probes[name], row_starts
    else:
        offsets, first = plan.frame_probes[name], starts[tokens - 1 :: tokens]
    cycles = np.asarray(first)[:, None] + offsets
    return sorted(zip(cycles.ravel().tolist(), values.ravel().tolist(), strict=True))
