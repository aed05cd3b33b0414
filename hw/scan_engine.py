"""The scan engine: everything between x_proj and out_proj, on a static schedule."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.program import Program
from hw.contexts import check_contexts, interleaved
from hw.delta_unit import DeltaUnit
from hw.lane_constants import LaneConstants
from hw.multiplier import WIDE_PRODUCT
from hw.parameter_memory import MemoryPlan
from hw.pipeline import ChannelCounter, delayed, index_bits
from hw.scan_drive import ScanDrive
from hw.scan_lane import ScanLane
from hw.scan_operands import ScanOperands
from hw.scan_readout import ScanReadout
from hw.scan_state import ScanState
from hw.scan_timing import ScanTiming

__all__ = ["ScanEngine"]


class ScanEngine(ScanTiming, wiring.Component):
    """Run dt_proj, softplus, the selective scan, its read-out and the gate for one token.

    Equal to the golden executor's ``_mix`` followed by the product with the gate, for the layer
    given with ``start``. All E channels follow each other without a bubble, each for
    ``T = N / S`` cycles, in which the S lanes advance N states.

    Latency: ``latency`` cycles from ``start`` to channel 0. Throughput: one channel every ``T``
    cycles; ``T = N / S``. A next ``start`` may follow ``duration`` cycles after a start, or with
    more than one slot ``E T`` cycles after it: then two blocks are under way at once.

    Cycles are counted from the one in which ``start`` is high, cycle 0. An input is *sampled* in
    a cycle s: a write whose valid is high in cycle w is seen if ``w < s`` and not otherwise.

    ==========================  =========================================================
    sampled                     in cycle
    ==========================  =========================================================
    dt, element r               ``projected_offset_dt + r // M + e T``, every channel e
    B, element n                ``projected_offset_bc + n // S + e T``, every channel e
    C, element n                ``projected_offset_c + n // S + e T``, every channel e
    scan_u, element e           ``scan_u_offset + e T``, once
    gate, element e             ``gate_offset + e T``, once
    ==========================  =========================================================

    ``M = ceil(R / T)`` multipliers form dt_proj. The constants of a channel live in one memory
    for each unit that reads them, since each needs them at another time: an address counter is
    smaller than a delay line of constants.

    Parameters
    ----------
    program : Program
        Network whose layers are scanned.
    scan_lanes : int
        Lanes S, a divisor of d_state.
    slots : int
        Vectors that the buffers of scan_u and gate hold; with more than one their elements
        arrive in order and may run ahead, and dt, B and C are copied when sampled first.
    contexts : int
        Streams C with states of their own.
    plan : MemoryPlan
        Where the parameter memories live: ``scan_dt_weights``, ``scan_dt_constants``,
        ``scan_softplus``, ``scan_decay_rates``, ``scan_update_shifts``,
        ``scan_readout_constants``.

    Members
    -------
    start : In(1)
        Pulse that begins a layer.
    layer : In(index_bits(L))
        Layer, sampled with ``start``.
    context : In(index_bits(C))
        Context, sampled with ``start``.
    fresh : In(1)
        Sampled with ``start``: the old state reads as zero.
    projected_valid, projected_index, projected_value : In
        Write of dt, B, C, in the order of x_proj's rows; signed(activation_bits).
    scan_u_valid, scan_u_index, scan_u_value : In
        Write of the scan input, as stored: unsigned(scan_storage_bits).
    gate_valid, gate_index, gate_value : In
        Write of the gate; signed(gate_bits).
    gated_valid, gated_index, gated_value : Out
        Result of channel e, in cycle ``latency + e T``; signed(gated_bits).
    delta_valid, delta_value : Out
        Probe: step size of channel e, in cycle ``delta_latency + e T``.
    scan_output_valid, scan_output_value : Out
        Probe: y of channel e, in cycle ``scan_output_latency + e T``.
    state_valid, state_value : Out
        Probe: new states ``n = t S + j`` of channel e, lane j = 0 lowest, in cycle
        ``state_latency + e T + t``.
    access_address : In(index_bits(L E T))
        State word ``(layer E + e) T + t`` to save or restore; only while ``busy`` is low.
    access_context : In(index_bits(C))
        Context of that word.
    access_write, access_write_data : In
        Store a word; seen by reads whose address comes two cycles later or more.
    access_read_data : Out
        Word at the address that was shown ``access_latency`` cycles ago.
    busy : Out(1)
        High from the cycle of ``start`` until the last result came out, the states before it.

    Raises
    ------
    ValueError
        If ``scan_lanes`` does not divide d_state.
    """

    def __init__(
        self,
        *,
        program: Program,
        scan_lanes: int,
        plan: MemoryPlan,
        slots: int = 1,
        contexts: int = 1,
    ) -> None:
        shape, scheme = program.shape, program.scheme
        if scan_lanes < 1 or shape.d_state % scan_lanes:
            divisors = [n for n in range(1, shape.d_state + 1) if shape.d_state % n == 0]
            raise ValueError(
                f"scan_lanes {scan_lanes} does not divide d_state {shape.d_state}; "
                f"choose one of {divisors}"
            )
        self._program, self._lane_count = program, scan_lanes
        self._steps, self._channels = shape.d_state // scan_lanes, shape.d_inner
        self._words = shape.n_layer * shape.d_inner * self._steps
        constants = LaneConstants(program=program, scan_lanes=scan_lanes, plan=plan)
        self._constants = constants
        self._lanes = [
            ScanLane(
                program=program,
                rate_bits=constants.rate_bits,
                argument_plan=constants.argument_plan,
                update_plan=constants.update_plan,
                arithmetic=plan.arithmetic,
            )
            for _ in range(scan_lanes)
        ]
        self._build_selection(plan, copies=slots > 1)
        self._readout = ScanReadout(program=program, scan_lanes=scan_lanes, plan=plan, slots=slots)
        self._drive = ScanDrive(
            scheme=scheme, channels=shape.d_inner, arithmetic=plan.arithmetic, slots=slots
        )
        self._contexts = check_contexts(contexts)
        self._state = ScanState(words=self._words * contexts, width=scan_lanes * scheme.state_bits)
        super().__init__(self._ports())

    def _build_selection(self, plan: MemoryPlan, *, copies: bool) -> None:
        """Make the units that say how B, C and the step size come about."""
        shape = self._program.shape
        self._delta = DeltaUnit(program=self._program, steps=self._steps, plan=plan)
        self._operands = ScanOperands(
            shape=shape,
            bits=self._program.scheme.activation_bits,
            products=self._delta.products,
            scan_lanes=self._lane_count,
            copies=copies,
        )

    def _ports(self) -> dict[str, In | Out]:
        shape, scheme = self._program.shape, self._program.scheme
        channel, word = index_bits(shape.d_inner), self._lane_count * scheme.state_bits
        return {
            "start": In(1),
            "layer": In(index_bits(shape.n_layer)),
            "context": In(index_bits(self._contexts)),
            "fresh": In(1),
            "projected_valid": In(1),
            "projected_index": In(index_bits(shape.projected)),
            "projected_value": In(signed(scheme.activation_bits)),
            "scan_u_valid": In(1),
            "scan_u_index": In(channel),
            "scan_u_value": In(unsigned(scheme.scan_storage_bits)),
            "gate_valid": In(1),
            "gate_index": In(channel),
            "gate_value": In(signed(scheme.gate_bits)),
            "gated_valid": Out(1),
            "gated_index": Out(channel),
            "gated_value": Out(signed(self._program.gated_bits)),
            "delta_valid": Out(1),
            "delta_value": Out(unsigned(scheme.delta_bits)),
            "scan_output_valid": Out(1),
            "scan_output_value": Out(signed(scheme.scan_output_bits)),
            "state_valid": Out(1),
            "state_value": Out(unsigned(word)),
            "access_address": In(index_bits(self._words)),
            "access_context": In(index_bits(self._contexts)),
            "access_write": In(1),
            "access_write_data": In(unsigned(word)),
            "access_read_data": Out(unsigned(word)),
            "busy": Out(1),
        }

    def elaborate(self, _platform: object) -> Module:
        """Connect step size, lanes, state memory and read-out."""
        m = Module()
        m.submodules.readout = readout = self._readout
        layers, starts, fresh = self._control(m)
        m.d.comb += [
            readout.start.eq(starts[self._readout_offset]),
            readout.layer.eq(layers[self._readout_offset]),
        ]
        for port in ("gate_valid", "gate_index", "gate_value"):
            m.d.comb += getattr(readout, port).eq(getattr(self, port))
        for port in ("scan_output_valid", "scan_output_value"):
            m.d.comb += getattr(self, port).eq(getattr(readout, port))
        for port in ("gated_valid", "gated_index", "gated_value"):
            m.d.comb += getattr(self, port).eq(getattr(readout, port))
        update = self._counter(m, "update_counter", starts, self.projected_offset_bc, layers)
        write = self._counter(m, "write_counter", starts, self.projected_offset_c, layers)
        inputs = self._counter(m, "scan_u_counter", starts, self.scan_u_offset, layers)
        delta = self._select(m, starts, layers, inputs, update, write)
        self._feed(m, inputs, delta)
        self._discretize(m, update)
        self._remember(m, update, write, fresh)
        return m

    def _select(
        self,
        m: Module,
        starts: list[Value],
        layers: list[Value],
        inputs: ChannelCounter,
        update: ChannelCounter,
        write: ChannelCounter,
    ) -> Value:
        """Form step sizes and their decays, choose B and C; return the step size beside u."""
        del inputs
        m.submodules.step_size = delta = self._delta
        m.submodules.operands = operands = self._operands
        m.d.comb += [
            operands.valid.eq(self.projected_valid),
            operands.index.eq(self.projected_index),
            operands.value.eq(self.projected_value),
            delta.start.eq(starts[1]),
            delta.layer.eq(layers[1]),
            operands.dt_begin.eq(starts[self.projected_offset_dt - 1]),
            operands.b_begin.eq(starts[self.projected_offset_bc - 1]),
            operands.c_begin.eq(starts[self.projected_offset_c - 1]),
            operands.dt_step.eq(delta.dt_step),
            delta.dt.eq(operands.dt),
            self.delta_valid.eq(delta.valid),
            self.delta_value.eq(delta.delta),
            operands.b_step.eq(update.step),
            operands.c_step.eq(write.step),
        ]
        held = self._hold_delta(m)
        constants = self._constants
        rate_counter = self._counter(
            m, "rate_counter", starts, self._lane_offset - constants.latency, layers
        )
        m.d.comb += [
            # Its register and the product's, then the shift meets the product.
            constants.layer.eq(layers[self._lane_offset + 1]),
            constants.step_address.eq(rate_counter.step_address),
        ]
        for index, lane in enumerate(self._lanes):
            m.d.comb += [
                lane.delta.eq(held),
                lane.rate.eq(constants.rates[index]),
                lane.argument_shift.eq(constants.argument_shift),
                lane.b.eq(operands.b[index]),
                lane.c.eq(operands.c[index]),
            ]
        wait = self.scan_u_offset + self._drive.u_latency - self._lane_offset
        return delayed(m, held, wait, name="late_delta")

    def _control(self, m: Module) -> tuple[list[Value], list[Value], Value]:
        """Return layer and ``start`` of 0, 1, 2, ... cycles ago, and whether to read zeros.

        The layer stands from a start to the next, and so do all its delayed copies.
        """
        layer = Signal.like(self.layer, name="current_layer")
        fresh = Signal()
        # Blocks under way, more than one only if starts overlap, and whether there are any: from
        # the cycle after a start, which is early enough for the lanes' first read of a state.
        running = Signal(range(4))
        active = Signal()
        last_channel = self._program.shape.d_inner - 1
        with m.If(self.start):
            m.d.sync += [layer.eq(self.layer), fresh.eq(self.fresh)]
        finished = self.gated_valid & (self.gated_index == last_channel)
        m.d.sync += [
            running.eq(running + self.start - finished),
            active.eq(self.start | (active & ~(finished & (running == 1)))),
        ]
        m.d.comb += [self.busy.eq(self.start | active), self._state.busy.eq(active)]
        starts: list[Value] = [self.start]
        layers: list[Value] = [self.layer, layer]
        # With few lanes the read-out's constants are fetched before the last counter starts.
        for cycle in range(1, max(self._readout_offset, self.projected_offset_c) + 1):
            starts.append(delayed(m, starts[-1], 1, name=f"start_{cycle}"))
            layers.append(delayed(m, layers[-1], 1, name=f"layer_{cycle + 1}"))
        # A state's word is in the memory's register one cycle after its address.
        late_fresh = delayed(m, fresh, self._state_read_cycle, name="fresh")
        # The mask ends with the token: saving the state must not read zeros.
        return layers, starts, late_fresh & active

    def _counter(
        self, m: Module, name: str, starts: list[Value], first: int, layers: list[Value]
    ) -> ChannelCounter:
        """Return a counter that shows step 0 of channel 0 in cycle ``first``."""
        shape = self._program.shape
        counter = ChannelCounter(layers=shape.n_layer, channels=shape.d_inner, steps=self._steps)
        m.submodules[name] = counter
        m.d.comb += [
            counter.start.eq(starts[first - counter.latency]),
            counter.layer.eq(layers[first - counter.latency]),
        ]
        return counter

    def _hold_delta(self, m: Module) -> Signal:
        """Return the step size of a channel during its T cycles."""
        held = Signal.like(self.delta_value, name="held_delta", reset_less=True)
        with m.If(self.delta_valid):
            m.d.sync += held.eq(self.delta_value)
        return held

    def _feed(self, m: Module, inputs: ChannelCounter, delta: Value) -> None:
        """Feed ``delta u`` to the lanes and u to the read-out."""
        m.submodules.input_drive = drive = self._drive
        u_cycle = self.scan_u_offset + drive.u_latency
        wait = self._readout_offset + self._readout.u_offset - u_cycle
        m.d.comb += [
            drive.valid.eq(self.scan_u_valid),
            drive.index.eq(self.scan_u_index),
            drive.value.eq(self.scan_u_value),
            # One read a channel: its buffer entry may be rewritten while the channel goes on.
            drive.read.eq(inputs.first),
            drive.delta.eq(delta),
            self._readout.u.eq(delayed(m, drive.u, wait, name="late_u")),
        ]
        for lane in self._lanes:
            m.d.comb += lane.drive.eq(drive.drive)

    def _discretize(self, m: Module, update: ChannelCounter) -> None:
        """Feed shifts to the lanes, and their products onwards."""
        m.submodules.constants = constants = self._constants
        # The shift meets the product of B, whose step this counter shows a cycle ahead.
        wait = self._operand_latency + WIDE_PRODUCT - constants.latency
        late_channel = delayed(m, update.channel_address, wait, name="update_channel")
        m.d.comb += constants.channel_address.eq(late_channel)
        for index, lane in enumerate(self._lanes):
            m.submodules[f"lane_{index}"] = lane
            m.d.comb += [
                lane.update_shift.eq(constants.update_shift),
                self._readout.products[index].eq(lane.product),
            ]

    def _remember(
        self, m: Module, update: ChannelCounter, write: ChannelCounter, fresh: Value
    ) -> None:
        """Connect the state memory with the lanes and the access port."""
        m.submodules.state = state = self._state
        read_lag = self._state_read_cycle - self.projected_offset_bc
        write_lag = self.state_latency - self.projected_offset_c
        write_valid = delayed(m, write.valid, write_lag, name="write_valid")
        read_address = delayed(m, update.step_address, read_lag, name="read_address")
        write_address = delayed(m, write.step_address, write_lag, name="write_address")
        # Like the layer, a context stands from its block's first address to the next block's.
        context = Signal.like(self.context, name="current_context")
        with m.If(self.start):
            m.d.sync += context.eq(self.context)
        reading = delayed(m, context, self._state_read_cycle - 1, name="read_context")
        write_after = self.state_latency - self._state_read_cycle
        writing = delayed(m, reading, write_after, name="write_context")
        m.d.comb += [
            self.state_valid.eq(write_valid),
            self.state_value.eq(Cat(*[unit.new for unit in self._lanes])),
            state.fresh.eq(fresh),
            state.read_address.eq(interleaved(read_address, reading, self._contexts)),
            state.write_valid.eq(write_valid),
            state.write_address.eq(interleaved(write_address, writing, self._contexts)),
            state.write_data.eq(self.state_value),
            state.access_address.eq(
                interleaved(self.access_address, self.access_context, self._contexts)
            ),
            state.access_write.eq(self.access_write),
            state.access_write_data.eq(self.access_write_data),
            self.access_read_data.eq(state.read_data),
        ]
        for index, unit in enumerate(self._lanes):
            old = state.read_data.word_select(index, self._program.scheme.state_bits)
            m.d.comb += unit.old.eq(old.as_signed())
