"""The scan's output: sum over the state with skip, requantized, times the gate."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.fixed_point import bits_for
from golden.program import Program
from hw.multiplier import registered_product
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields
from hw.pipeline import (
    ChannelCounter,
    PlannedRequantizer,
    delayed,
    index_bits,
    magnitude_bits,
    pipelined_sum,
    sum_latency,
)
from hw.shift_plan import ShiftPlan
from hw.vector_ring import VectorRing

__all__ = ["ScanReadout"]


class ScanReadout(wiring.Component):
    """Sum the products ``C h`` of every channel, add the skip, and gate.

    ``y = requantize(sum_n C[n] h[e, n] + skip[e] u[e], shifts.scan_output[e])``,
    ``gated = requantize(y gate[e], shifts.gated[e])``. Equal to the end of
    :func:`golden.operations.scan.scan_step` and the gate of the golden executor.

    Latency: from ``start``, see ``product_offset``, ``u_offset``, ``gate_offset``,
    ``output_latency`` and ``latency``. Throughput: one channel every ``steps`` cycles; a next
    ``start`` may follow ``E steps`` cycles after a start.

    Parameters
    ----------
    program : Program
        Skips and shifts of every layer.
    scan_lanes : int
        Products a cycle, S; a channel takes ``T = N / S`` cycles.
    plan : MemoryPlan
        Where ``scan_readout_constants`` lives (skip, output shift, gated shift), a word a
        (layer, e).
    slots : int
        Vectors of gates that the buffer holds: with more than one, gates arrive in the order of
        their channels and may run ahead.

    Members
    -------
    start : In(1)
        Pulse that begins a layer.
    layer : In(index_bits(L))
        Layer, stable from ``start`` to the next.
    products : In(ArrayLayout(signed(state_bits + activation_bits), scan_lanes))
        Products of channel e and step t, in cycle ``product_offset + e T + t``.
    u : In(signed(scan_input_bits))
        Scan input of channel e, in cycle ``u_offset + e T``.
    gate_valid, gate_index, gate_value : In
        Write port of the gate buffer; channel e is read in cycle ``gate_offset + e T`` and must
        have been written in an earlier one.
    scan_output_valid, scan_output_value : Out
        y of channel e, in cycle ``output_latency + e T``.
    gated_valid, gated_index, gated_value : Out
        Result of channel e, in cycle ``latency + e T``.
    """

    def __init__(
        self, *, program: Program, scan_lanes: int, plan: MemoryPlan, slots: int = 1
    ) -> None:
        shape, scheme = program.shape, program.scheme
        self._program, self._lanes, self._slots = program, scan_lanes, slots
        self._arithmetic = plan.arithmetic
        self._steps = shape.d_state // scan_lanes
        skips = np.stack([layer.skip for layer in program.scan_layers])
        products = (shape.d_state << (scheme.activation_bits - 1)) << (scheme.state_bits - 1)
        skipped = int(np.abs(skips).max()) << (scheme.scan_input_bits - 1)
        self._accumulator_bits = magnitude_bits(products + skipped)
        self._output_plan = ShiftPlan.covering(layer.scan_output for layer in program.scan_shifts)
        self._output = PlannedRequantizer(
            plan=self._output_plan,
            input_width=self._accumulator_bits,
            output_width=scheme.scan_output_bits,
        )
        self._gated_plan = ShiftPlan.covering(layer.gated for layer in program.scan_shifts)
        self._gated = PlannedRequantizer(
            plan=self._gated_plan,
            input_width=scheme.scan_output_bits + scheme.gate_bits,
            output_width=program.gated_bits,
        )
        self._build_constants(plan)
        product = signed(scheme.state_bits + scheme.activation_bits)
        super().__init__(
            {
                "start": In(1),
                "layer": In(index_bits(shape.n_layer)),
                "products": In(data.ArrayLayout(product, scan_lanes)),
                "u": In(signed(scheme.scan_input_bits)),
                "gate_valid": In(1),
                "gate_index": In(index_bits(shape.d_inner)),
                "gate_value": In(signed(scheme.gate_bits)),
                "scan_output_valid": Out(1),
                "scan_output_value": Out(signed(scheme.scan_output_bits)),
                "gated_valid": Out(1),
                "gated_index": Out(index_bits(shape.d_inner)),
                "gated_value": Out(signed(program.gated_bits)),
            }
        )

    def _build_constants(self, plan: MemoryPlan) -> None:
        """Pack skip, output shift and gated shift of every (layer, e)."""
        program = self._program
        skips = np.concatenate([layer.skip for layer in program.scan_layers])
        self._skip_bits = bits_for(skips)
        words = []
        for layer, shifts in zip(program.scan_layers, program.scan_shifts, strict=True):
            outputs = self._output_plan.stored(shifts.scan_output)
            gateds = self._gated_plan.stored(shifts.gated)
            for skip, output, gated in zip(layer.skip, outputs, gateds, strict=True):
                amounts = output | gated << self._output_plan.bits
                words.append(pack_fields([skip], self._skip_bits) | amounts << self._skip_bits)
        self._constants = ParameterMemory(
            name="scan_readout_constants",
            width=self._skip_bits + self._output_plan.bits + self._gated_plan.bits,
            words=words,
            plan=plan,
        )

    @property
    def _constants_offset(self) -> int:
        """Cycles from ``start`` to channel 0's constants if their counter starts with ``start``."""
        return ChannelCounter.latency + self._constants.latency

    @property
    def product_offset(self) -> int:
        """Cycles from ``start`` to the first products, at least so that the constants are there."""
        return max(0, self._constants_offset + 1 - sum_latency(self._lanes))

    @property
    def _sum_offset(self) -> int:
        """Cycles from ``start`` to the first sum of products."""
        return self.product_offset + sum_latency(self._lanes)

    @property
    def u_offset(self) -> int:
        """Cycles from ``start`` to ``u`` of channel 0: its product joins the first sum."""
        return self._sum_offset - 1

    @property
    def gate_offset(self) -> int:
        """Cycles from ``start`` to the read of channel 0's gate, when its sum is complete.

        Buffer and register behind it take the two cycles of the requantizer.
        """
        return self._sum_offset + self._steps + self._output.latency - 2

    @property
    def output_latency(self) -> int:
        """Cycles from ``start`` to ``scan_output`` of channel 0."""
        return self._sum_offset + self._steps + self._output.latency

    @property
    def latency(self) -> int:
        """Cycles from ``start`` to ``gated`` of channel 0."""
        return self.output_latency + 1 + self._gated.latency

    def elaborate(self, _platform: object) -> Module:
        """Build the accumulator, the gate buffer, and the product between the requantizers."""
        m = Module()
        m.submodules.output = output = self._output
        m.submodules.gated = gated = self._gated
        accumulator, complete, amounts = self._accumulate(m)
        output_shift = amounts[: self._output_plan.bits]
        gated_shift = amounts[self._output_plan.bits :]
        gate = self._gate(m, delayed(m, complete, self._output.latency - 2, name="read_gate"))
        product = registered_product(m, output.o, gate, self._arithmetic, name="product")
        output_valid = delayed(m, complete, output.latency, name="output_valid")
        m.d.comb += [
            output.i.eq(accumulator),
            output.shift.eq(output_shift),
            self.scan_output_value.eq(output.o),
            self.scan_output_valid.eq(output_valid),
            gated.i.eq(product),
            gated.shift.eq(delayed(m, gated_shift, output.latency + 1, name="gated_shift")),
            self.gated_value.eq(gated.o),
            self.gated_valid.eq(delayed(m, output_valid, 1 + gated.latency, name="gated_valid")),
            self.gated_index.eq(self._index(m, self.gated_valid, "gated_channel")),
        ]
        return m

    def _accumulate(self, m: Module) -> tuple[Signal, Value, Value]:
        """Return the accumulator, whether it is complete, and its channel's two shifts."""
        shape = self._program.shape
        m.submodules.counter = counter = ChannelCounter(
            layers=shape.n_layer, channels=shape.d_inner, steps=self._steps
        )
        m.submodules.constants = constants = self._constants
        lag = self.u_offset - self._constants_offset
        m.d.comb += [
            counter.start.eq(delayed(m, self.start, lag, name="late_start")),
            counter.layer.eq(delayed(m, self.layer, lag, name="late_layer")),
            constants.address.eq(counter.channel_address),
        ]
        skip = constants.data[: self._skip_bits].as_signed()
        skipped = registered_product(m, skip, self.u, self._arithmetic, name="skipped")
        first = delayed(m, counter.first, constants.latency + 1, name="first")
        last = delayed(m, counter.last, constants.latency + 2, name="last")
        products = [self.products[lane] for lane in range(self._lanes)]
        total = pipelined_sum(m, products, name="products")
        accumulator = Signal(signed(self._accumulator_bits), reset_less=True)
        m.d.sync += accumulator.eq(Mux(first, skipped, accumulator) + total)
        # Two cycles behind the memory: its last word of the channel meets the complete sum.
        return accumulator, last, delayed(m, constants.data[self._skip_bits :], 2, name="amounts")

    def _gate(self, m: Module, read: Value) -> Signal:
        """Return the registered gate of the next channel, two cycles after ``read``."""
        scheme, channels = self._program.scheme, self._program.shape.d_inner
        m.submodules.gates = gates = VectorRing(
            depth=channels, width=scheme.gate_bits, slots=self._slots
        )
        gate = Signal(signed(scheme.gate_bits), reset_less=True)
        m.d.comb += [
            gates.valid.eq(self.gate_valid),
            gates.index.eq(self.gate_index),
            gates.value.eq(self.gate_value),
            gates.read.eq(read),
        ]
        m.d.sync += gate.eq(gates.read_value)
        return gate

    def _index(self, m: Module, event: Value, name: str) -> Signal:
        """Return the channel that ``event`` announces; every block has all channels in order."""
        channels = self._program.shape.d_inner
        index = Signal(index_bits(channels), name=name)
        with m.If(event):
            m.d.sync += index.eq(Mux(index == channels - 1, 0, index + 1))
        return index
