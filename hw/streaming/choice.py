"""Chooses lanes and beat of the streaming organisation: no more than keep up with the scan."""

from __future__ import annotations

from golden.configuration import NetworkShape, Scheme
from golden.errors import InputError
from hw.streaming.latencies import streaming_latencies
from hw.streaming.matrix_stage import StageTiming
from hw.streaming.plan import (
    BeatTooShortError,
    StreamingLanes,
    StreamingPlan,
    plan_streaming,
)

__all__ = ["choose_streaming"]


def fewest_lanes(name: str, rows: int, columns: int, cycles: int) -> int:
    """Return the fewest lanes that compute a product within ``cycles``.

    Raises
    ------
    InputError
        If no number of lanes does.
    """
    for lanes in range(1, rows + 1):
        if StageTiming(rows=rows, columns=columns, lanes=lanes).duration <= cycles:
            return lanes
    raise InputError(
        f"{name} of {rows} x {columns} cannot be computed every {cycles} cycles, one element a "
        f"cycle takes {max(rows, columns)}; give a longer beat"
    )


def shortest_beat(shape: NetworkShape, scan_lanes: int) -> int:
    """Return the fewest cycles a beat may have: one element a cycle everywhere."""
    assert shape.frame is not None
    assert shape.frame.hidden is not None
    layers, tokens = shape.n_layer, shape.frame.tokens
    return max(
        shape.d_inner * (shape.d_state // scan_lanes),
        shape.d_inner,
        shape.projected,
        2 * shape.d_model,  # a load and an add
        -(-max(shape.frame.features, shape.d_model) // layers),
        -(-max(shape.vocabulary, shape.frame.hidden, shape.d_model) // (layers * tokens)),
    )


def choose_streaming(
    shape: NetworkShape, scheme: Scheme, *, scan: int | None = None, beat: int | None = None
) -> StreamingPlan:
    """Return the plan with the fewest lanes that keep up with the beat.

    Parameters
    ----------
    scan : lanes of the scan, a divisor of d_state; without it d_state
    beat : cycles a block; without it the fewest possible

    Raises
    ------
    InputError
        If the network has no frames, the scan lanes do not divide, or the beat is too short.
    """
    if shape.frame is None:
        raise InputError(
            "the streaming organisation needs a frame network, whose inputs are known ahead; "
            "use the shared organisation for a language model"
        )
    if shape.average is not None or shape.frame.patch is not None or shape.frame.hidden is None:
        raise InputError(
            "the streaming organisation has selective scans, tokens that are rows, and heads with "
            "a hidden layer; the network has another mixer, patches, or another head"
        )
    scan = shape.d_state if scan is None else scan
    if scan < 1 or shape.d_state % scan:
        raise InputError(
            f"scan lanes = {scan} does not divide d_state = {shape.d_state}; choose a divisor"
        )
    least = shortest_beat(shape, scan)
    if beat is not None and beat < least:
        raise InputError(
            f"a beat of {beat} cycles is too short, the scan and the one-element-a-cycle streams "
            f"need {least}; give at least that or more scan lanes"
        )
    late = streaming_latencies(shape, scheme, scan)
    candidate = least if beat is None else beat
    while True:
        try:
            return plan_streaming(shape, _lanes(shape, scan, candidate), candidate, late)
        except BeatTooShortError:
            # In a tiny network the scan's pipe is longer than a block.
            if beat is not None:
                raise
            candidate += 1


def _lanes(shape: NetworkShape, scan: int, beat: int) -> StreamingLanes:
    """Return the fewest lanes of every array."""
    assert shape.frame is not None
    frame, d, e = shape.frame, shape.d_model, shape.d_inner
    hidden_rows = frame.hidden
    assert hidden_rows is not None
    token, whole = shape.n_layer * beat, frame.tokens * shape.n_layer * beat
    return StreamingLanes(
        front=fewest_lanes("the feature embedding", d, frame.features, token),
        x=fewest_lanes("in_proj", e, d, beat),
        z=fewest_lanes("in_proj", e, d, beat),
        projected=fewest_lanes("x_proj", shape.projected, e, beat),
        out=fewest_lanes("out_proj", d, e, beat),
        hidden=fewest_lanes("the hidden layer", hidden_rows, d, whole),
        head=fewest_lanes("the head", shape.vocabulary, hidden_rows, whole),
        scan=scan,
    )
