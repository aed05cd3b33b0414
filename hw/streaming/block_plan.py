"""When the units work on one block, in cycles from the start of its in_proj."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from golden.configuration import NetworkShape
from golden.errors import InputError
from hw.latencies import ROTATION_LAYER
from hw.streaming.matrix_stage import StageTiming

__all__ = [
    "BURST_LATENCY", "AverageLatencies", "BeatTooShortError", "BlockPlan", "Cycles",
    "StreamingLatencies", "hold", "last_reads", "place_block",
]  # fmt: skip

Cycles = npt.NDArray[np.int64]

BURST_LATENCY = 1
"""A vector ring's read to its value."""


class BeatTooShortError(InputError):
    """A value would be overwritten before it is used; a longer beat helps."""


@dataclass(frozen=True, kw_only=True)
class AverageLatencies:
    """Cycles through the unit of a moving average, from the argument of its sigmoid.

    Parameters
    ----------
    decay, state, gated : to lambda, the new average and the gated value
    u_offset, gate_offset : to the reads of scan input and gate
    recurrence : from the read of an average to the first read that sees its update
    """

    decay: int
    state: int
    gated: int
    u_offset: int
    gate_offset: int
    recurrence: int


@dataclass(frozen=True, kw_only=True)
class StreamingLatencies:
    """Cycles through the units, read from the components; see :class:`hw.schedule.Latencies`.

    Parameters
    ----------
    convolution : row of in_proj, or the sweep's start of a centred one, to SiLU's input
    activation, scan_code : SiLU's input to stored u or gate, and to the stored scan input
    scan, scan_delta, scan_output, scan_state : start to first gated value and to the probes
    dt_offset, b_offset, c_offset, scan_u_offset, gate_offset : start to the first samples
    residual, pool, norm : element added to its probe, to the mean, pass to first norm
    rotation : last gated value to the first rotated one; 0 if the scheme does not rotate
    hidden_activation : hidden row to the head's input
    average : through the unit of a moving average; those of the scan do not count then
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
    average: AverageLatencies | None = None


@dataclass
class BlockPlan:
    """The cycles of one block relative to the start of its in_proj.

    Parameters
    ----------
    starts : start pulses by unit
    tags : from when a unit needs its block's tag
    waits : longest time from an element's write to its last read, by ring
    probes : cycle of every value, by probe point
    """

    starts: dict[str, int] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    probes: dict[str, Cycles] = field(default_factory=dict)


def hold(block: BlockPlan, name: str, written: Cycles, read: Cycles) -> None:
    """Note the longest time from an element's write to its last read."""
    block.waits[name] = max(block.waits.get(name, 0), int((read - written).max()))


def last_reads(stage: StageTiming, start: int) -> Cycles:
    """Return the cycle in which the stage reads each element for the last time."""
    last_group = (stage.groups - 1) * stage.group_cycles
    return start + 1 + last_group + np.arange(stage.columns)


def place_block(
    shape: NetworkShape,
    stages: dict[str, StageTiming],
    late: StreamingLatencies,
    steps: int,
    interval: int,
) -> BlockPlan:
    """Place one block's work as early as its inputs allow, z as late as its gate allows.

    Parameters
    ----------
    steps : cycles a channel of the scan
    interval : cycles from a token to the next of its frame

    Raises
    ------
    BeatTooShortError
        If a value would be overwritten before it is used.
    """
    block = BlockPlan()
    e = np.arange(shape.d_inner)
    block.probes["x"] = stages["x"].row_cycles
    mixed = _place_convolution(shape, block, late, interval)
    u = block.probes["u"] = mixed + late.activation
    block.probes["scan_u"] = mixed + late.scan_code
    start = block.starts["projected"] = int((u - e).max())
    hold(block, "u", u, last_reads(stages["projected"], start))
    block.probes["projected"] = start + stages["projected"].row_cycles
    if late.average is None:
        gated = _place_scan(shape, block, late, stages, steps)
    else:
        gated = _place_average(block, late.average, late.activation, stages, interval)
    block.tags["u"] = int(mixed[0])
    _place_output(shape, block, stages, late, gated)
    return block


def _place_convolution(
    shape: NetworkShape, block: BlockPlan, late: StreamingLatencies, interval: int
) -> Cycles:
    """Place the convolution, if there is one; return the cycles of SiLU's inputs.

    A centred one sweeps over the channels when the last token that it looks ahead to is there, and
    before the one after that overwrites the oldest.
    """
    x, e = block.probes["x"], np.arange(shape.d_inner)
    if not shape.convolved:
        return x
    block.tags["convolution"] = int(x[0])
    if shape.average is None:
        mixed = block.probes["convolution"] = x + late.convolution
        return mixed
    first, last = int((x - e).min()), int((x - e).max())
    if last + CENTRED_READ >= first + interval:
        raise BeatTooShortError(
            f"x is overwritten {last + CENTRED_READ - first - interval + 1} cycles before the "
            f"convolution reads it, with {interval} cycles a token; give a longer beat"
        )
    start = block.starts["mix"] = last + shape.d_conv // 2 * interval
    mixed = block.probes["convolution"] = start + late.convolution + e
    return mixed


CENTRED_READ = 2
"""A centred convolution's start to the address of channel 0."""


def _place_gate(
    block: BlockPlan, stages: dict[str, StageTiming], activation: int, read: Cycles
) -> None:
    """Start z so that every gate is there in the cycle before its read."""
    gate = stages["z"].row_cycles + activation
    block.starts["z"] = max(0, int((read - 1 - gate).min()))
    gate = block.probes["gate"] = block.starts["z"] + gate
    hold(block, "scan", gate, read)
    block.tags["gate"] = int(gate[0]) - activation


def _place_scan(
    shape: NetworkShape,
    block: BlockPlan,
    late: StreamingLatencies,
    stages: dict[str, StageTiming],
    steps: int,
) -> Cycles:
    """Place a selective scan and its gates; return the cycles of the gated values."""
    e, scan_u = np.arange(shape.d_inner), block.probes["scan_u"]
    earliest = _earliest_scan(shape, block.probes["projected"], scan_u - e * steps, late)
    scan = block.starts["scan"] = earliest
    hold(block, "scan", scan_u, scan + late.scan_u_offset + e * steps)
    _place_gate(block, stages, late.activation, scan + late.gate_offset + e * steps)
    block.probes["delta"] = scan + late.scan_delta + e * steps
    block.probes["state"] = scan + late.scan_state + np.arange(shape.d_inner * steps)
    block.probes["scan_output"] = scan + late.scan_output + e * steps
    gated = block.probes["gated"] = scan + late.scan + e * steps
    return gated


def _earliest_scan(
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


def _place_average(
    block: BlockPlan,
    late: AverageLatencies,
    activation: int,
    stages: dict[str, StageTiming],
    interval: int,
) -> Cycles:
    """Place a moving average, which takes every row as it comes; return the gated cycles."""
    if interval < late.recurrence:
        raise BeatTooShortError(
            f"an average is read again after {interval} cycles, its update takes "
            f"{late.recurrence}; give a longer beat"
        )
    argument = block.probes["projected"]
    block.tags["average"] = int(argument[0])
    hold(block, "scan", block.probes["scan_u"], argument + late.u_offset)
    if "z" in stages:
        _place_gate(block, stages, activation, argument + late.gate_offset)
    block.probes["decay"] = argument + late.decay
    block.probes["state"] = argument + late.state
    gated = block.probes["gated"] = argument + late.gated
    return gated


def _place_output(
    shape: NetworkShape,
    block: BlockPlan,
    stages: dict[str, StageTiming],
    late: StreamingLatencies,
    gated: Cycles,
) -> None:
    """Place the rotation, if there is one, out_proj and the addition to the residual."""
    if late.rotation:
        block.tags["rotation"] = int(gated.max()) + late.rotation - ROTATION_LAYER
        gated = block.probes["rotated"] = gated[-1] + late.rotation + np.arange(shape.d_inner)
    start = block.starts["out"] = int((gated - np.arange(shape.d_inner)).max())
    hold(block, "gated", gated, last_reads(stages["out"], start))
    out = start + stages["out"].row_cycles
    d = np.arange(shape.d_model)
    add = block.starts["add"] = int((out - d).max()) + 1
    hold(block, "add", out, add + d)
    block.probes["residual"] = add + BURST_LATENCY + d + late.residual
    block.tags["added"] = add + BURST_LATENCY
