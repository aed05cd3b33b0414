"""The static schedule of a token: every start of every unit, and every probe's cycles.

The engine decides nothing at run time: it waits for a token and for room at its outputs, then a
token's work unfolds in fixed cycles. This module computes them from the shape, the lanes and the
units' latencies; the same numbers fill the microcode and predict the cycle of every value on
every probe point. Cycle 0 is the first cycle after a token was taken.

Rule for every buffer between units: a value written in cycle w can be read from cycle w + 1 on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from golden.configuration import NetworkShape
from golden.errors import InputError
from hw.array_controller import LEAST_INTERVAL
from hw.event_table import EventTable
from hw.lanes import Lanes

Cycles = npt.NDArray[np.int64]

FIRST_EVENT = 2
"""The microcode compares one cycle ahead of a registered pulse, so nothing starts earlier."""


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Cycles through the units, read from the components themselves.

    Parameters
    ----------
    embedding : start to first element loaded into the residual
    residual_probe : residual write to its probe
    norm : last residual element to first normalised one
    norm_duration : last residual element to the earliest first one of the next pass
    convolution : in_proj row to SiLU input
    activation : SiLU input to stored u or gate
    scan_code : SiLU input to the stored scan input
    scan : start to first gated value
    scan_delta, scan_output, scan_state : start to first value on these probes
    dt_offset, bc_offset, scan_u_offset, gate_offset : start to the first sample of each input;
        with heads dt_offset is that of the first head's step size
    head_delta, head_decay : row of dt to its step size and decay on their probes; 0 without heads
    gated_norm : last gated value of a group to the first normalised one; 0 without heads
    scan_duration : start to the earliest next start
    rotation : last gated value to the first rotated one; 0 if the scheme does not rotate
    gated_product : an MLP's up to its gated value; 0 if there are no MLPs
    head_digits : cycles that an element of the head takes, a cycle a digit of its weights
    recurrence : read of a state to its next possible read
    logits : head row to logit
    token : last logit to the arg-max
    row : last element's address to the first requantized row of the group
    """

    embedding: int
    residual_probe: int
    norm: int
    norm_duration: int
    convolution: int
    activation: int
    scan_code: int
    scan: int
    scan_delta: int
    scan_output: int
    scan_state: int
    dt_offset: int
    bc_offset: int
    scan_u_offset: int
    gate_offset: int
    head_delta: int
    head_decay: int
    gated_norm: int
    scan_duration: int
    rotation: int
    gated_product: int
    head_digits: int
    recurrence: int
    logits: int
    token: int
    row: int


@dataclass(frozen=True, kw_only=True)
class ArrayInstruction:
    """One matrix-vector product on the array.

    Parameters
    ----------
    name : in_x, x_proj or with heads in_dt, in_z, out, of an MLP mlp_z, mlp_up, mlp_out, or head
    layer : block index, or the number of layers for the head
    start : cycle of the start pulse
    columns, rows : K and the rows computed
    digits : cycles an element takes
    groups, interval : G and the cycles a group takes
    """

    name: str
    layer: int
    start: int
    columns: int
    rows: int
    groups: int
    interval: int
    digits: int = 1

    @property
    def steps(self) -> int:
        """Return the cycles in which a group takes elements."""
        return self.columns * self.digits

    @property
    def end(self) -> int:
        """Return the earliest start of the next instruction."""
        return self.start + self.groups * self.interval

    @property
    def products(self) -> int:
        """Return the multiplications that the network needs of this instruction."""
        return self.rows * self.columns

    def row_cycles(self, lanes: int, row_latency: int) -> Cycles:
        """Return the cycle in which each row leaves the requantizer, (rows,)."""
        row = np.arange(self.rows)
        base = self.start + self.steps + row_latency
        return base + row // lanes * self.interval + row % lanes


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The cycles of one token.

    Parameters
    ----------
    array : instructions in order
    embedding_start, scan_starts : start pulses
    interval : cycles from one token to the next when inputs are known (prefill)
    latency : cycles from a token's cycle 0 to its arg-max being valid
    probes : cycle of every value of one token on every probe point, in order of appearance
    lanes : the lane counts it holds for
    """

    array: tuple[ArrayInstruction, ...]
    embedding_start: int
    scan_starts: tuple[int, ...]
    interval: int
    latency: int
    probes: dict[str, Cycles]
    lanes: Lanes

    @property
    def products(self) -> int:
        """Return the array's useful multiplications a token."""
        return sum(instruction.products for instruction in self.array)

    def utilisation(self, cycles_per_token: float) -> float:
        """Return the share of lane-cycles that multiply usefully, given the cycles of a token."""
        return self.products / (self.lanes.mac * cycles_per_token)


@dataclass
class _Builder:
    """Places one token's work, unit by unit, as early as its inputs allow."""

    shape: NetworkShape
    lanes: Lanes
    latencies: Latencies
    array: list[ArrayInstruction] = field(default_factory=list)
    scans: list[int] = field(default_factory=list)
    probes: dict[str, list[Cycles]] = field(default_factory=dict)

    def probe(self, name: str, cycles: Cycles) -> Cycles:
        self.probes.setdefault(name, []).append(cycles)
        return cycles

    def instruct(
        self, name: str, layer: int, columns: int, rows: int, ready: Cycles, digits: int = 1
    ) -> Cycles:
        """Add an instruction whose element k is written in cycle ``ready[k]``; return row cycles.

        Elements are addressed from start + 1 on, one a cycle, so the start waits for the latest
        of them; rows drain one a cycle, so a group takes at least as long as its rows.
        """
        drained = min(self.lanes.mac, rows)
        steps = columns * digits
        interval = max(steps, drained, LEAST_INTERVAL)
        start = int(np.max(ready - np.arange(columns) * digits))
        if self.array:
            before = self.array[-1]
            start = max(start, before.end)
            tail = before.steps + (before.groups - 1) * before.interval
            last_rows = before.rows - (before.groups - 1) * self.lanes.mac
            start = max(start, before.start + tail + last_rows - steps)
        instruction = ArrayInstruction(
            name=name,
            layer=layer,
            start=max(start, FIRST_EVENT),
            columns=columns,
            rows=rows,
            groups=-(-rows // self.lanes.mac),
            interval=interval,
            digits=digits,
        )
        self.array.append(instruction)
        return instruction.row_cycles(self.lanes.mac, self.latencies.row)

    def layer(self, index: int, norm: Cycles) -> Cycles:
        """Place block ``index``; return the cycles in which its residual elements are added."""
        shape, late = self.shape, self.latencies
        d, e = shape.d_model, shape.d_inner
        x = self.instruct("in_x", index, d, shape.convolution_channels, norm)
        mixed = self.probe("convolution", self.probe("x", x) + late.convolution)
        u = self.probe("u", mixed + late.activation)
        scan_u = self.probe("scan_u", mixed[:e] + late.scan_code)
        heads = self.heads(index, norm) if shape.heads else None
        if heads is None:
            selected = self.instruct("x_proj", index, e, shape.projected, u)
            self.probe("projected", selected)
        else:
            selected = u[e:]
        # SiLU serves the convolution first: z comes behind the last of it.
        behind = int(mixed[-1]) + 1 - d - late.row + np.arange(d)
        z = self.instruct("in_z", index, d, e, np.maximum(norm, behind))
        gate = self.probe("gate", z + late.activation)
        gated = self.scan(selected, heads, scan_u, gate)
        if heads is not None:
            gated = self.probe("normed", self.normed(gated))
        if late.rotation:
            gated = self.probe("rotated", gated[-1] + late.rotation + np.arange(e))
        out = self.instruct("out", index, e, d, gated)
        self.probe("residual", out + late.residual_probe)
        return out

    def mlp(self, index: int, hidden: int, norm: Cycles) -> Cycles:
        """Place the MLP of block ``index``; return the cycles in which its output is added."""
        d, late = self.shape.d_model, self.latencies
        z = self.instruct("mlp_z", index, d, hidden, norm)
        gate = self.probe("mlp_gate", z + late.activation)
        # Both have the same rows, so that up follows z by as much as their instructions do.
        behind = self.array[-1].start + late.activation + 1 + np.arange(d)
        up = self.instruct("mlp_up", index, d, hidden, np.maximum(norm, behind))
        assert (up > gate).all()  # a gate is written before its up comes in
        self.probe("up", up)
        gated = self.probe("mlp_gated", up + late.gated_product)
        out = self.instruct("mlp_out", index, hidden, d, gated)
        self.probe("residual", out + late.residual_probe)
        return out

    def heads(self, index: int, norm: Cycles) -> Cycles:
        """Place the rows of dt; return the cycles in which a head's decay is written."""
        rows = self.instruct("in_dt", index, self.shape.d_model, self.shape.step_sizes, norm)
        self.probe("dt", rows)
        self.probe("delta", rows + self.latencies.head_delta)
        return self.probe("decay", rows + self.latencies.head_decay)

    def normed(self, gated: Cycles) -> Cycles:
        """Return the cycles of the gated norm's results, group by group."""
        groups = gated.reshape(self.shape.groups, -1)
        element = np.arange(groups.shape[1])
        return (groups[:, -1:] + self.latencies.gated_norm + element).ravel()

    def scan(self, selected: Cycles, heads: Cycles | None, scan_u: Cycles, gate: Cycles) -> Cycles:
        """Place a scan as early as all its samples allow; return the gated values' cycles.

        ``selected`` are the cycles of B and C and, without heads, of dt before them.
        """
        shape, late = self.shape, self.latencies
        steps = shape.d_state // self.lanes.scan
        channel = np.arange(shape.d_inner) * steps
        if heads is None:
            step = int(selected[: shape.dt_rank].max())
        else:
            step = int((heads - channel[:: shape.d_inner // shape.step_sizes]).max())
        start = max(
            FIRST_EVENT,
            step + 1 - late.dt_offset,
            int(selected.max()) + 1 - late.bc_offset,
            int((scan_u - channel).max()) + 1 - late.scan_u_offset,
            int((gate - channel).max()) + 1 - late.gate_offset,
        )
        if self.scans:
            start = max(start, self.scans[-1] + late.scan_duration)
        self.scans.append(start)
        if heads is None:
            self.probe("delta", start + late.scan_delta + channel)
        self.probe("scan_output", start + late.scan_output + channel)
        self.probe("state", start + late.scan_state + np.arange(shape.d_inner * steps))
        return self.probe("gated", start + late.scan + channel)

    def check_residual(self, last: int, first: int) -> None:
        """Raise if a block's output would meet the norm still reading the residual."""
        if first < last + self.latencies.norm_duration:
            raise InputError(
                f"the norm reads the residual until cycle {last + self.latencies.norm_duration}, "
                f"out_proj adds to it from {first}; use fewer mac lanes"
            )

    def check_overwrites(self, x: int, scan_start: int) -> None:
        """Raise if the next block's values could overwrite what the scan still reads."""
        end = scan_start + self.latencies.scan_duration
        if x + self.latencies.convolution < end:
            raise InputError(
                f"the scan reads its inputs until cycle {end}, the next block writes them from "
                f"{x + self.latencies.convolution}; use more scan lanes or fewer mac lanes"
            )


def build_schedule(shape: NetworkShape, lanes: Lanes, latencies: Latencies) -> Schedule:
    """Return the schedule of one token.

    Raises
    ------
    InputError
        If the lanes do not divide the shape, or a hazard remains; the message has the numbers.
    """
    lanes.check(shape)
    builder = _Builder(shape, lanes, latencies)
    element = np.arange(shape.d_model)
    embedding_start = FIRST_EVENT
    loaded = embedding_start + latencies.embedding + element
    builder.probe("residual", loaded + latencies.residual_probe)
    last = int(loaded[-1])
    for index in range(shape.n_layer):
        norm = builder.probe("norm", last + latencies.norm + element)
        first = len(builder.array)
        out = builder.layer(index, norm)
        builder.check_residual(last, int(out[0]))
        last = int(out[-1])
        first_x = builder.array[first].start + builder.array[first].columns + latencies.row
        if index:
            builder.check_overwrites(first_x, builder.scans[-2])
        if shape.mlp is not None:
            norm = builder.probe("norm", last + latencies.norm + element)
            out = builder.mlp(index, shape.mlp, norm)
            builder.check_residual(last, int(out[0]))
            last = int(out[-1])
    norm = builder.probe("norm", last + latencies.norm + element)
    head = builder.instruct(
        "head", shape.n_layer, shape.d_model, shape.vocabulary, norm, latencies.head_digits
    )
    logits = builder.probe("logits", head + latencies.logits)
    token = builder.probe("token", logits[-1:] + latencies.token)
    probes = {name: np.concatenate(parts) for name, parts in builder.probes.items()}
    interval = _interval(builder, last)
    _check_recurrence(interval, latencies)
    return Schedule(
        array=tuple(builder.array),
        embedding_start=embedding_start,
        scan_starts=tuple(builder.scans),
        interval=interval,
        latency=int(token[0]),
        probes=probes,
        lanes=lanes,
    )


def _interval(builder: _Builder, last_residual: int) -> int:
    """Return the fewest cycles between tokens: array, residual, microcode and output allow it."""
    first, head = builder.array[0], builder.array[-1]
    late = builder.latencies
    return max(
        # The array moves from the head straight to the next token's in_proj ...
        head.end - first.start,
        # ... whose rows must leave after the head's.
        head.start
        + (head.groups - 1) * head.interval
        + head.steps
        + (head.rows - (head.groups - 1) * builder.lanes.mac)
        - first.columns
        - first.start,
        # The next embedding must not touch the residual that the final norm still reads.
        last_residual + late.norm_duration - (FIRST_EVENT + late.embedding),
        # Every event of the token lies inside its count.
        head.start + EventTable.spacing + 1,
        builder.scans[-1] + late.scan_duration - builder.scans[0],
        # The next token's scan inputs must not overwrite those of the last scan.
        builder.scans[-1]
        + late.scan_duration
        - (first.start + first.columns + late.row + late.convolution),
    )


def _check_recurrence(interval: int, latencies: Latencies) -> None:
    """Raise if a state could be read before its last update was written (the scan hazard)."""
    if interval < latencies.recurrence:
        raise InputError(
            f"a state is read again after {interval} cycles, its update takes "
            f"{latencies.recurrence}; use fewer mac or scan lanes"
        )
