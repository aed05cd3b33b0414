"""The scan engine of Mamba-2: one step size and decay a head, B and C a group."""

from __future__ import annotations

from amaranth.hdl import Module, Value, signed, unsigned
from amaranth.lib.wiring import In, Out

from golden.piecewise import ACTIVATION_INPUT_BITS
from hw.head_operands import ChannelDivision, HeadOperands
from hw.head_steps import HeadSteps
from hw.parameter_memory import MemoryPlan
from hw.pipeline import ChannelCounter, delayed, index_bits
from hw.scan_engine import ScanEngine

__all__ = ["HeadScanEngine"]


class HeadScanEngine(ScanEngine):
    """Run a Mamba-2 block's scan, its read-out and the gate for one token.

    As :class:`hw.scan_engine.ScanEngine`, but for where the lanes' operands come from: step sizes
    and decays are made when dt's rows arrive (:class:`hw.head_steps.HeadSteps`, one exponential a
    head), and kept until the scan reads them, channel e those of head ``e // P``; B and C are
    written as elements of the convolution, channel e reads those of group ``e // (E / G)``. So the
    lanes have neither a rate nor a decay unit, and a start needs no lead for them.

    ==========================  =========================================================
    sampled                     in cycle
    ==========================  =========================================================
    head h                      ``head_offset + h P T`` and on
    B, element n of group g     ``projected_offset_bc + n // S + e T``, its channels e
    C, element n of group g     ``projected_offset_c + n // S + e T``, its channels e
    scan_u, element e           ``scan_u_offset + e T``, once
    gate, element e             ``gate_offset + e T``, once
    ==========================  =========================================================

    Members
    -------
    projected_valid, projected_value : In
        Write of the next element of B, then C, of all groups; signed(activation_bits).
    dt_layer : In(index_bits(L))
        Layer of the dt rows that come in.
    dt_valid, dt_index, dt_value : In
        Write of dt of a head; signed(18).
    delta_valid, delta_value : Out
        Probe: step size of a head, ``steps.delta_latency`` cycles behind its dt.
    decay_valid, decay_value : Out
        Probe: its decay, ``steps.decay_latency`` cycles behind its dt.
    """

    def _build_selection(self, plan: MemoryPlan, *, copies: bool) -> None:
        if copies:
            raise ValueError("heads belong to the shared organisation, which has one slot")
        self.steps = HeadSteps(program=self._program, plan=plan)
        self._head_operands = HeadOperands(
            shape=self._program.shape,
            bits=self._program.scheme.activation_bits,
            scan_lanes=self._lane_count,
        )

    def _ports(self) -> dict[str, In | Out]:
        shape, scheme = self._program.shape, self._program.scheme
        ports = super()._ports()
        del ports["projected_index"]
        return ports | {
            "dt_layer": In(index_bits(shape.n_layer)),
            "dt_valid": In(1),
            "dt_index": In(index_bits(shape.step_sizes)),
            "dt_value": In(signed(ACTIVATION_INPUT_BITS)),
            "decay_valid": Out(1),
            "decay_value": Out(unsigned(scheme.decay_bits + 1)),
        }

    @property
    def multipliers(self) -> int:
        """Multipliers of dt_proj: none, in_proj has dt's rows."""
        return 0

    @property
    def _operand_latency(self) -> int:
        return self._head_operands.latency

    @property
    def _lane_offset(self) -> int:
        """Cycle of channel 0 at the lanes: its input is fetched in the cycle after ``start``."""
        return 1 + self._drive.latency - self._lanes[0].drive_offset

    @property
    def head_offset(self) -> int:
        """Cycle in which step size and decay of channel 0 are first read."""
        return self.scan_u_offset + self._drive.u_latency - self.steps.read_latency

    def _select(
        self,
        m: Module,
        starts: list[Value],
        layers: list[Value],
        inputs: ChannelCounter,
        update: ChannelCounter,
        write: ChannelCounter,
    ) -> Value:
        """Read the head and the groups of the channels on their way."""
        del layers
        shape, steps, operands = self._program.shape, self.steps, self._head_operands
        m.submodules.steps = steps
        m.submodules.operands = operands
        parts = {}
        for name, counter, offset, count in (
            ("head", inputs, self.scan_u_offset, shape.step_sizes),
            ("b_group", update, self.projected_offset_bc, shape.groups),
            ("c_group", write, self.projected_offset_c, shape.groups),
        ):
            division = ChannelDivision(parts=count, size=shape.d_inner // count)
            m.submodules[f"{name}_counter"] = division
            m.d.comb += [
                division.start.eq(starts[offset - 1]),
                division.advance.eq(counter.last),
            ]
            parts[name] = division.part
        m.d.comb += [
            steps.layer.eq(self.dt_layer),
            steps.dt_valid.eq(self.dt_valid),
            steps.dt_index.eq(self.dt_index),
            steps.dt_value.eq(self.dt_value),
            self.delta_valid.eq(steps.delta_valid),
            self.delta_value.eq(steps.delta_value),
            self.decay_valid.eq(steps.decay_valid),
            self.decay_value.eq(steps.decay_value),
            steps.read_head.eq(parts["head"]),
            operands.valid.eq(self.projected_valid),
            operands.value.eq(self.projected_value),
            operands.b_group.eq(parts["b_group"]),
            operands.c_group.eq(parts["c_group"]),
            operands.b_step.eq(update.step),
            operands.c_step.eq(write.step),
        ]
        read = self.scan_u_offset + steps.read_latency
        wait = self._lane_offset + self._lanes[0].old_offset - read
        decay = delayed(m, steps.decay, wait, name="lane_decay")
        for index, lane in enumerate(self._lanes):
            m.d.comb += [
                lane.decay.eq(decay),
                lane.b.eq(operands.b[index]),
                lane.c.eq(operands.c[index]),
            ]
        # Head and input are read in the same cycle and both take two.
        return delayed(
            m, steps.delta, self._drive.u_latency - steps.read_latency, name="late_delta"
        )
