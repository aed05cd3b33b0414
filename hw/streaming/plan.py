"""The static plan of the streaming organisation: lanes, beats, and the cycle of every value.

A *beat* is the time that the slowest unit needs for one block of one token. In every beat one
block enters the pipe: block 0 of a new token every L beats, block l of the token that entered
``q l`` beats earlier in between. Cycle 0 of a token is the first cycle of its block 0's beat.
Everything below is counted from there and holds for every token, however the input stalls,
because a missing token leaves its beats empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from golden.configuration import NetworkShape
from golden.errors import InputError
from hw.latencies import ROTATION_LAYER
from hw.streaming.matrix_stage import StageTiming

Cycles = npt.NDArray[np.int64]


class BeatTooShortError(InputError):
    """A value would be overwritten before it is used; a longer beat helps."""


FRONT_START = 1
"""A start is registered, so none comes in a token's cycle 0."""
BURST_LATENCY = 1
"""A vector ring's read to its value."""


@dataclass(frozen=True, kw_only=True)
class StreamingLatencies:
    """Cycles through the units, read from the components; see :class:`hw.schedule.Latencies`.

    Parameters
    ----------
    convolution : row of in_proj to SiLU's input
    activation, scan_code : SiLU's input to stored u or gate, and to the stored scan input
    scan, scan_delta, scan_output, scan_state : start to first gated value and to the probes
    dt_offset, b_offset, c_offset, scan_u_offset, gate_offset : start to the first samples
    residual, pool, norm : element added to its probe, to the mean, pass to first norm
    rotation : last gated value to the first rotated one; 0 if the scheme does not rotate
    hidden_activation : hidden row to the head's input
    """

    convolution: int
    activation: int
    scan_code: int
    scan: int
    scan_delta: int
    scan_output: int
    scan_state: int
    dt_offset: int
    b_offset: int
    c_offset: int
    scan_u_offset: int
    gate_offset: int
    residual: int
    pool: int
    norm: int
    rotation: int
    hidden_activation: int


@dataclass(frozen=True, kw_only=True)
class StreamingLanes:
    """Lanes of every product's array, and of the scan."""

    front: int
    x: int
    z: int
    projected: int
    out: int
    hidden: int
    head: int
    scan: int

    @property
    def mac(self) -> int:
        """Return the lanes of all arrays."""
        arrays = (self.front, self.x, self.z, self.projected, self.out, self.hidden, self.head)
        return sum(arrays)


@dataclass(frozen=True, kw_only=True)
class StreamingPlan:
    """When everything happens; cycles are counted from a token's cycle 0.

    Parameters
    ----------
    shape, lanes, beat : what it holds for
    hop : q, beats from a block of a token to its next block
    origin : cycle of a block's beat in which its in_proj starts
    load : cycle in which the embedded token is first read from its buffer
    starts : start of z, projected, scan, out, add relative to that of x
    tags : cycle relative to ``starts`` of x from which a unit needs its block's tag
    slots : vectors that the rings hold, and ``residual``: tokens under way
    probes : cycle of every value of one token on every probe point, in order of appearance
    frame_probes : the same of the frame's values, from its last token's cycle 0
    stages : the arrays' timing by name
    """

    shape: NetworkShape
    lanes: StreamingLanes
    beat: int
    hop: int
    origin: int
    load: int
    starts: dict[str, int]
    tags: dict[str, int]
    slots: dict[str, int]
    probes: dict[str, Cycles]
    frame_probes: dict[str, Cycles]
    stages: dict[str, StageTiming]

    @property
    def interval(self) -> int:
        """Return the cycles from a token to the next while input is there: ``L beat``."""
        return self.shape.n_layer * self.beat

    @property
    def frame_interval(self) -> int:
        """Return the cycles from a frame to the next while input is there: ``T L beat``."""
        assert self.shape.frame is not None
        return self.shape.frame.tokens * self.interval

    @property
    def latency(self) -> int:
        """Return the cycles from a frame's first token to its last output."""
        return self.frame_interval - self.interval + int(self.frame_probes["logits"][-1])

    @property
    def frames_under_way(self) -> int:
        """Return how many frames are between first token and last output at full speed."""
        return self.latency // self.frame_interval + 1

    @property
    def products(self) -> dict[str, int]:
        """Return the useful multiplications a frame of every array."""
        assert self.shape.frame is not None
        tokens, layers = self.shape.frame.tokens, self.shape.n_layer
        runs = {"front": tokens, "hidden": 1, "head": 1}
        return {
            name: stage.rows * stage.columns * runs.get(name, tokens * layers)
            for name, stage in self.stages.items()
        }

    @property
    def utilisation(self) -> dict[str, float]:
        """Return the useful share of lane-cycles of every array, of all, and of the scan."""
        found = {
            name: count / (self.stages[name].lanes * self.frame_interval)
            for name, count in self.products.items()
        }
        found["arrays"] = sum(self.products.values()) / (self.lanes.mac * self.frame_interval)
        scanned = self.shape.d_inner * self.shape.d_state // self.lanes.scan
        found["scan"] = scanned / self.beat
        return found


@dataclass
class _Block:
    """The cycles of one block relative to the start of its in_proj."""

    starts: dict[str, int] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    probes: dict[str, Cycles] = field(default_factory=dict)


def _hold(block: _Block, name: str, written: Cycles, read: Cycles) -> None:
    """Note the longest time from an element's write to its last read."""
    block.waits[name] = max(block.waits.get(name, 0), int((read - written).max()))


def _last_reads(stage: StageTiming, start: int) -> Cycles:
    """Return the cycle in which the stage reads each element for the last time."""
    last_group = (stage.groups - 1) * stage.group_cycles
    return start + 1 + last_group + np.arange(stage.columns)


def _place_block(
    shape: NetworkShape, stages: dict[str, StageTiming], late: StreamingLatencies, steps: int
) -> _Block:
    """Place one block's work as early as its inputs allow, z as late as its gate allows."""
    block = _Block()
    e = np.arange(shape.d_inner)
    x = block.probes["x"] = stages["x"].row_cycles
    mixed = block.probes["convolution"] = x + late.convolution
    u = block.probes["u"] = mixed + late.activation
    scan_u = block.probes["scan_u"] = mixed + late.scan_code
    start = block.starts["projected"] = int((u - e).max())
    _hold(block, "u", u, _last_reads(stages["projected"], start))
    projected = block.probes["projected"] = start + stages["projected"].row_cycles
    scan = block.starts["scan"] = _place_scan(shape, projected, scan_u - e * steps, late)
    _hold(block, "scan", scan_u, scan + late.scan_u_offset + e * steps)
    gate_read = scan + late.gate_offset + e * steps
    gate = stages["z"].row_cycles + late.activation
    block.starts["z"] = max(0, int((gate_read - 1 - gate).min()))
    gate = block.probes["gate"] = block.starts["z"] + gate
    _hold(block, "scan", gate, gate_read)
    block.probes["delta"] = scan + late.scan_delta + e * steps
    block.probes["state"] = scan + late.scan_state + np.arange(shape.d_inner * steps)
    block.probes["scan_output"] = scan + late.scan_output + e * steps
    gated = block.probes["gated"] = scan + late.scan + e * steps
    if late.rotation:
        gated = block.probes["rotated"] = gated[-1] + late.rotation + e
        block.tags["rotation"] = int(gated[0]) - ROTATION_LAYER
    start = block.starts["out"] = int((gated - e).max())
    _hold(block, "gated", gated, _last_reads(stages["out"], start))
    out = start + stages["out"].row_cycles
    d = np.arange(shape.d_model)
    add = block.starts["add"] = int((out - d).max()) + 1
    _hold(block, "add", out, add + d)
    block.probes["residual"] = add + BURST_LATENCY + d + late.residual
    block.tags |= {
        "convolution": int(x[0]),
        "u": int(mixed[0]),
        "gate": int(gate[0]) - late.activation,
        "added": add + BURST_LATENCY,
    }
    return block


def _place_scan(
    shape: NetworkShape, projected: Cycles, scan_u: Cycles, late: StreamingLatencies
) -> int:
    """Return the earliest start of a scan; its operands are copied one cycle before use."""
    r, n = shape.dt_rank, shape.d_state
    return max(
        0,
        int(projected[:r].max()) + 2 - late.dt_offset,
        int(projected[r : r + n].max()) + 2 - late.b_offset,
        int(projected[r + n :].max()) + 2 - late.c_offset,
        int(scan_u.max()) + 1 - late.scan_u_offset,
    )


def _check_copies(shape: NetworkShape, block: _Block, beat: int, late: StreamingLatencies) -> None:
    """Raise if the next block's rows of x_proj come before this block's were copied."""
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
    block = _place_block(shape, stages, late, shape.d_state // lanes.scan)
    _check_copies(shape, block, beat, late)
    last_add = block.starts["add"] + BURST_LATENCY + shape.d_model - 1
    hop, wait = _hop(shape.n_layer, beat, last_add + late.norm, shape.d_model)
    embedded = FRONT_START + stages["front"].row_cycles
    load = int((embedded - d).max()) + 1
    _hold(block, "load", embedded, load + d)
    last_load = load + BURST_LATENCY + shape.d_model - 1
    origin = last_load + late.norm + wait - shape.d_model
    block.probes["norm"] = last_load + late.norm + d - origin
    for name in ("x", "z"):
        read = _last_reads(stages[name], block.starts.get(name, 0))
        # The norm of a new token comes D cycles nearer to the one before it.
        _hold(block, name, d - wait - shape.d_model, read)
    end = origin + (shape.n_layer - 1) * hop * beat + last_add + late.residual
    token = shape.n_layer * beat
    slots = {name: held // beat + 1 for name, held in block.waits.items()}
    slots["scan"] = max(2, slots["scan"])  # with more than one, its operands are copied
    slots["load"] = block.waits["load"] // token + 1
    slots["residual"] = (end - load) // token + 1
    probes = _token_probes(shape, block, origin, hop * beat, load + BURST_LATENCY, late)
    pooled = probes["residual"][-shape.d_model :] - late.residual + late.pool
    frame_probes = _frame_probes(shape, stages, pooled, late)
    for name, source in (("hidden", "final_norm"), ("head", "hidden")):
        start = int(frame_probes[source][0 if name == "hidden" else -1])
        held = int((_last_reads(stages[name], start) - frame_probes[source]).max())
        slots[name] = held // (shape.frame.tokens * token) + 1
    return StreamingPlan(
        shape=shape,
        lanes=lanes,
        beat=beat,
        hop=hop,
        origin=origin,
        load=load,
        starts=block.starts,
        tags=block.tags,
        slots=slots,
        probes=probes,
        frame_probes=frame_probes,
        stages=stages,
    )


def _stages(shape: NetworkShape, lanes: StreamingLanes) -> dict[str, StageTiming]:
    """Return the arrays by name."""
    assert shape.frame is not None
    d, e, frame, hidden = shape.d_model, shape.d_inner, shape.frame, shape.frame.hidden
    assert hidden is not None
    sizes = {
        "front": (d, frame.features, lanes.front, True),
        "x": (e, d, lanes.x, False),
        "z": (e, d, lanes.z, False),
        "projected": (shape.projected, e, lanes.projected, False),
        "out": (d, e, lanes.out, False),
        "hidden": (hidden, d, lanes.hidden, True),
        "head": (shape.vocabulary, hidden, lanes.head, True),
    }
    return {
        name: StageTiming(
            rows=rows,
            columns=columns,
            lanes=count,
            biased=biased,
        )
        for name, (rows, columns, count, biased) in sizes.items()
    }


def _token_probes(
    shape: NetworkShape,
    block: _Block,
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


def _frame_probes(
    shape: NetworkShape,
    stages: dict[str, StageTiming],
    pooled: Cycles,
    late: StreamingLatencies,
) -> dict[str, Cycles]:
    """Return the cycles of a frame's values from its last token's cycle 0."""
    norm = pooled[-1] - late.pool + late.norm + np.arange(shape.d_model)
    hidden = norm[0] + stages["hidden"].row_cycles + late.hidden_activation
    logits = hidden[-1] + stages["head"].row_cycles
    return {"pooled": pooled, "final_norm": norm, "hidden": hidden, "logits": logits}
