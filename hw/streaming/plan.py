"""The static plan of the streaming organisation: lanes, beats, and the cycle of every value.

A *beat* is the time that the slowest unit needs for one block of one token. In every beat one
block enters the pipe: block 0 of a new token every L beats, block l of the token that entered
``q l`` beats earlier in between. Cycle 0 of a token is the first cycle of its block 0's beat.
Everything below is counted from there and holds for every token, however the input stalls,
because a missing token leaves its beats empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden.configuration import FrameShape, NetworkShape
from hw.streaming.block_plan import (
    BURST_LATENCY,
    BeatTooShortError,
    BlockPlan,
    Cycles,
    StreamingLatencies,
    hold,
    last_reads,
    place_block,
)
from hw.streaming.matrix_stage import StageTiming

FRONT_START = 1
"""A start is registered, so none comes in a token's cycle 0."""
ROW_START = -1
"""A row's start pulse announces its cycle 0, as ``accepted`` does a token's."""
WINDOWS = 3
"""Frames of projected rows that are kept: one read, one waiting, one being written."""


@dataclass(frozen=True, kw_only=True)
class StreamingLanes:
    """Lanes of every product's array, 0 for one that the network has not, and of the scan."""

    front: int
    x: int
    projected: int
    out: int
    head: int
    scan: int
    z: int = 0
    hidden: int = 0
    rows: int = 0

    @property
    def mac(self) -> int:
        """Return the lanes of all arrays."""
        block = self.x + self.z + self.projected + self.out
        return self.rows + self.front + block + self.hidden + self.head


@dataclass(frozen=True, kw_only=True)
class StreamingPlan:
    """When everything happens; cycles are counted from a token's cycle 0.

    Parameters
    ----------
    shape, lanes, beat : what it holds for
    hop : q, beats from a block of a token to its next block
    origin : cycle of a block's beat in which its in_proj starts
    load : cycle in which the embedded token is first read from its buffer
    pace : tokens' intervals from a frame to the next, at least T
    starts : start of z, projected, scan, out, add, and mix of a centred convolution, relative to
        that of x
    tags : cycle relative to ``starts`` of x from which a unit needs its block's tag
    slots : vectors that the rings hold, and ``residual``: tokens under way
    probes : cycle of every value of one token on every probe point, in order of appearance
    frame_probes : the same of the frame's values, from its last token's cycle 0
    row_probes : the same of a projected row's values, from the row's cycle 0
    stages : the arrays' timing by name
    """

    shape: NetworkShape
    lanes: StreamingLanes
    beat: int
    hop: int
    origin: int
    load: int
    pace: int
    starts: dict[str, int]
    tags: dict[str, int]
    slots: dict[str, int]
    probes: dict[str, Cycles]
    frame_probes: dict[str, Cycles]
    row_probes: dict[str, Cycles]
    stages: dict[str, StageTiming]

    @property
    def interval(self) -> int:
        """Return the cycles from a token to the next while input is there: ``L beat``."""
        return self.shape.n_layer * self.beat

    @property
    def frame_interval(self) -> int:
        """Return the cycles from a frame to the next while input is there: ``pace L beat``."""
        return self.pace * self.interval

    @property
    def latency(self) -> int:
        """Return the cycles from a frame's first token to its last output."""
        assert self.shape.frame is not None
        last_token = (self.shape.frame.tokens - 1) * self.interval
        return last_token + int(self.frame_probes["logits"][-1])

    @property
    def frames_under_way(self) -> int:
        """Return how many frames are between first token and last output at full speed."""
        return self.latency // self.frame_interval + 1

    @property
    def products(self) -> dict[str, int]:
        """Return the useful multiplications a frame of every array."""
        assert self.shape.frame is not None
        tokens, layers = self.shape.frame.tokens, self.shape.n_layer
        runs = {"rows": self.shape.frame.rows, "front": tokens, "hidden": 1, "head": 1}
        return {
            name: stage.rows * stage.columns * runs.get(name, tokens * layers)
            for name, stage in self.stages.items()
        }

    @property
    def utilisation(self) -> dict[str, float]:
        """Return the useful share of lane-cycles of every array, of all, and of the scan."""
        assert self.shape.frame is not None
        found = {
            name: count / (self.stages[name].lanes * self.frame_interval)
            for name, count in self.products.items()
        }
        found["arrays"] = sum(self.products.values()) / (self.lanes.mac * self.frame_interval)
        scanned = self.shape.d_inner * self.shape.d_state // self.lanes.scan
        blocks = self.shape.frame.tokens * self.shape.n_layer
        found["scan"] = scanned * blocks / self.frame_interval
        return found


def _check_copies(
    shape: NetworkShape, block: BlockPlan, beat: int, late: StreamingLatencies
) -> None:
    """Raise if the next block's rows of x_proj come before this block's were copied."""
    if late.average is not None:
        return
    r, n = shape.dt_rank, shape.d_state
    rows, scan = block.probes["projected"] + beat, block.starts["scan"]
    for name, first, offset in (
        ("dt", 0, late.dt_offset),
        ("B", r, late.b_offset),
        ("C", r + n, late.c_offset),
    ):
        if rows[first] < scan + offset - 1:
            raise BeatTooShortError(
                f"{name} is overwritten {scan + offset - 1 - rows[first]} cycles before the scan "
                f"takes it, with a beat of {beat}; give a longer beat"
            )


def _hop(layers: int, beat: int, turnaround: int, d_model: int) -> tuple[int, int]:
    """Return q, and the cycles that a norm waits in its ring for the next block's beat.

    q leaves the remainder 1 by L, so that the blocks of all tokens take turns. The wait is at
    least D, since the passes of new tokens follow D cycles behind those of the adds.
    """
    hop = 1
    while hop * beat - turnaround < d_model:
        hop += layers
    return hop, hop * beat - turnaround


def plan_streaming(
    shape: NetworkShape, lanes: StreamingLanes, beat: int, late: StreamingLatencies
) -> StreamingPlan:
    """Return the plan.

    Raises
    ------
    BeatTooShortError
        If a value would be overwritten before it is used.
    """
    assert shape.frame is not None
    d = np.arange(shape.d_model)
    stages = _stages(shape, lanes)
    token = shape.n_layer * beat
    block = place_block(shape, stages, late, shape.d_state // lanes.scan, token)
    _check_copies(shape, block, beat, late)
    last_add = block.starts["add"] + BURST_LATENCY + shape.d_model - 1
    hop, wait = _hop(shape.n_layer, beat, last_add + late.norm, shape.d_model)
    embedded = FRONT_START + stages["front"].row_cycles
    load = int((embedded - d).max()) + 1
    hold(block, "load", embedded, load + d)
    last_load = load + BURST_LATENCY + shape.d_model - 1
    origin = last_load + late.norm + wait - shape.d_model
    block.probes["norm"] = last_load + late.norm + d - origin
    for name in ("x", "z") if shape.gated else ("x",):
        read = last_reads(stages[name], block.starts.get(name, 0))
        # The norm of a new token comes D cycles nearer to the one before it.
        hold(block, name, d - wait - shape.d_model, read)
    end = origin + (shape.n_layer - 1) * hop * beat + last_add + late.residual
    slots = {name: held // beat + 1 for name, held in block.waits.items()}
    slots["scan"] = max(2, slots["scan"])  # with more than one, its operands are copied
    slots["load"] = block.waits["load"] // token + 1
    slots["residual"] = (end - load) // token + 1
    probes = _token_probes(shape, block, origin, hop * beat, load + BURST_LATENCY, late)
    frame_probes = _frame_probes(shape, stages, probes["residual"], late)
    if shape.frame.hidden is None:
        probes["final_norm"] = _final_norm(shape, probes["residual"], late)
    pace = max(shape.frame.tokens, -(-row_cycles(shape.frame, stages) // token))
    slots |= _head_slots(shape, stages, probes | frame_probes, token, pace * token)
    return StreamingPlan(
        shape=shape,
        lanes=lanes,
        beat=beat,
        hop=hop,
        origin=origin,
        load=load,
        pace=pace,
        starts=block.starts,
        tags=block.tags,
        slots=slots,
        probes=probes,
        frame_probes=frame_probes,
        row_probes=_row_probes(stages),
        stages=stages,
    )


def stage_sizes(shape: NetworkShape) -> dict[str, tuple[int, int, bool]]:
    """Return rows, columns and whether there is a bias of every product that the network has."""
    assert shape.frame is not None
    d, e, frame = shape.d_model, shape.d_inner, shape.frame
    sizes = {}
    if frame.patch is not None:
        sizes["rows"] = (frame.patch.width, frame.features, True)
    sizes |= {"front": (d, frame.embedded, True), "x": (e, d, False)}
    if shape.gated:
        sizes["z"] = (e, d, False)
    sizes |= {
        "projected": (shape.projected, e, shape.average is not None),
        "out": (d, e, False),
    }
    if frame.hidden is not None:
        sizes["hidden"] = (frame.hidden, d, True)
    return sizes | {"head": (shape.vocabulary, shape.head_inputs, True)}


def _stages(shape: NetworkShape, lanes: StreamingLanes) -> dict[str, StageTiming]:
    """Return the arrays by name."""
    return {
        name: StageTiming(rows=rows, columns=columns, lanes=getattr(lanes, name), biased=biased)
        for name, (rows, columns, biased) in stage_sizes(shape).items()
    }


def row_cycles(frame: FrameShape, stages: dict[str, StageTiming]) -> int:
    """Return the cycles in which the rows of a frame are projected: input or array limits them."""
    if frame.patch is None:
        return 0
    return frame.rows * max(frame.features, stages["rows"].duration)


def _row_probes(stages: dict[str, StageTiming]) -> dict[str, Cycles]:
    """Return the cycles of a projected row's values from its cycle 0."""
    return {"rows": ROW_START + stages["rows"].row_cycles} if "rows" in stages else {}


def _head_slots(
    shape: NetworkShape,
    stages: dict[str, StageTiming],
    probes: dict[str, Cycles],
    interval: int,
    frame_interval: int,
) -> dict[str, int]:
    """Return how many vectors the rings of the frame's arrays hold."""
    assert shape.frame is not None
    norm = probes["final_norm"]
    if "hidden" in stages:
        writes = {
            "hidden": (norm, int(norm[0])),
            "head": (probes["hidden"], int(probes["hidden"][-1])),
        }
    else:
        # Tokens before the last one come whole intervals earlier.
        before = np.arange(1 - shape.frame.tokens, 1) * interval
        writes = {"head": ((before[:, None] + norm).ravel(), int(norm[0]))}
    return {
        name: int((last_reads(stages[name], start) - written).max()) // frame_interval + 1
        for name, (written, start) in writes.items()
    }


def _token_probes(
    shape: NetworkShape,
    block: BlockPlan,
    origin: int,
    hop: int,
    loaded: int,
    late: StreamingLatencies,
) -> dict[str, Cycles]:
    """Return the cycles of a token's values, block after block."""
    starts = [origin + index * hop for index in range(shape.n_layer)]
    probes = {
        name: np.concatenate([start + cycles for start in starts])
        for name, cycles in block.probes.items()
    }
    d = np.arange(shape.d_model)
    # The first norm follows the load, the others the block before them.
    behind = block.probes["residual"][-1] - late.residual + late.norm + d
    norms = [origin + block.probes["norm"], *(start + behind for start in starts[:-1])]
    probes["norm"] = np.concatenate(norms)
    probes["residual"] = np.concatenate([loaded + late.residual + d, probes["residual"]])
    return probes


def _final_norm(shape: NetworkShape, residual: Cycles, late: StreamingLatencies) -> Cycles:
    """Return the cycles of the norm behind the last block, from the residual's."""
    return residual[-1] - late.residual + late.norm + np.arange(shape.d_model)


def _frame_probes(
    shape: NetworkShape,
    stages: dict[str, StageTiming],
    residual: Cycles,
    late: StreamingLatencies,
) -> dict[str, Cycles]:
    """Return the cycles of a frame's values from its last token's cycle 0.

    Without a hidden layer the head starts with the first element of the last token's norm.
    """
    norm = _final_norm(shape, residual, late)
    if "hidden" not in stages:
        return {"logits": norm[0] + stages["head"].row_cycles}
    hidden = norm[0] + stages["hidden"].row_cycles + late.hidden_activation
    logits = hidden[-1] + stages["head"].row_cycles
    pooled = residual[-shape.d_model :] - late.residual + late.pool
    return {"pooled": pooled, "final_norm": norm, "hidden": hidden, "logits": logits}
