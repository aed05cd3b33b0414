"""Chooses lanes and beat of the streaming organisation: no more than keep up with the scan."""

from __future__ import annotations

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.scheme import Scheme
from hw.streaming.block_plan import BeatTooShortError
from hw.streaming.latencies import streaming_latencies
from hw.streaming.matrix_stage import StageTiming
from hw.streaming.plan import StreamingLanes, StreamingPlan, plan_streaming, stage_sizes

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
    layers, tokens = shape.n_layer, shape.frame.tokens
    sizes = {name: max(rows, columns) for name, (rows, columns, _) in stage_sizes(shape).items()}
    frame = max(sizes.get("hidden", 0), sizes["head"], shape.d_model)
    return max(
        shape.d_inner * (shape.d_state // scan_lanes),
        *(sizes[name] for name in ("x", "projected", "out")),
        2 * shape.d_model,  # a load and an add
        -(-sizes["front"] // layers),
        -(-frame // (layers * tokens)),
        2,  # what the sequencer needs
    )


def input_beat(shape: NetworkShape) -> int:
    """Return the longest beat with which a frame takes no longer than its features, at least 1.

    With patches the input is long, and blocks that keep up with it need few lanes. Among the beats
    down to half of the longest one is preferred that divides the frame into whole intervals.
    """
    assert shape.frame is not None
    cycles, layers = shape.frame.rows * shape.frame.features, shape.n_layer
    longest = cycles // (shape.frame.tokens * layers)
    whole = (b for b in range(longest, longest // 2, -1) if cycles % (layers * b) == 0)
    return next(whole, max(1, longest))


def choose_streaming(
    shape: NetworkShape, scheme: Scheme, *, scan: int | None = None, beat: int | None = None
) -> StreamingPlan:
    """Return the plan with the fewest lanes that keep up with the beat.

    Parameters
    ----------
    scan : lanes of the scan, a divisor of d_state; without it d_state
    beat : cycles a block; without it the fewest possible, or with patches as many as the input
        takes

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
    if beat is None:
        candidate = least if shape.frame.patch is None else max(least, input_beat(shape))
    else:
        candidate = beat
    while True:
        try:
            return plan_streaming(shape, _lanes(shape, scan, candidate), candidate, late)
        except BeatTooShortError:
            # In a tiny network the scan's pipe is longer than a block.
            if beat is not None:
                raise
            candidate += 1


_TITLES = {
    "rows": "the projection of rows",
    "front": "the feature embedding",
    "x": "in_proj",
    "z": "in_proj",
    "projected": "x_proj",
    "out": "out_proj",
    "hidden": "the hidden layer",
    "head": "the head",
}


def _lanes(shape: NetworkShape, scan: int, beat: int) -> StreamingLanes:
    """Return the fewest lanes of every array."""
    assert shape.frame is not None
    frame, token = shape.frame, shape.n_layer * beat
    whole = frame.tokens * token
    # Nothing is gained by projecting a row faster than its features come.
    row = max(frame.features, whole // frame.rows)
    cycles = {"rows": row, "front": token, "hidden": whole, "head": whole}
    return StreamingLanes(
        scan=scan,
        **{
            name: fewest_lanes(_TITLES[name], rows, columns, cycles.get(name, beat))
            for name, (rows, columns, _) in stage_sizes(shape).items()
        },
    )
