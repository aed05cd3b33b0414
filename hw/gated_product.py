"""The gate of an MLP: SiLU's results wait in a buffer for the rows they multiply."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.program import Program
from hw.multiplier import registered_product
from hw.parameter_memory import MemoryPlan, ParameterMemory
from hw.pipeline import PlannedRequantizer, delayed, index_bits
from hw.shift_plan import ShiftPlan
from hw.vector_buffer import VectorBuffer

__all__ = ["GatedProduct"]


class GatedProduct(wiring.Component):
    """``gated = requantize(up[h] gate[h], shifts.gated[h])`` of one MLP after the other.

    Equal to the product in :class:`golden.reference.ReferenceBlocks`. All gates of an MLP are
    written, then all of its ``up``, both in the order of their channels and with any gaps; gate h
    is written in an earlier cycle than up h comes in. The MLPs follow each other in the order of
    their blocks, from the first one again after the last.

    Latency: ``3 + requantizer.latency`` cycles from up to gated: buffer (2), product, requantizer.
    Throughput: one element a cycle.

    Parameters
    ----------
    program : Program
        Source of sizes, widths and shifts; it has MLPs.
    plan : MemoryPlan
        Where ``mlp_gated_shifts`` lives, a word a (layer, h).

    Members
    -------
    gate_valid, gate_index, gate_value : In(1), In(range(H)), In(signed(gate_bits))
        Write port of the gates.
    up_valid, up_index, up_value : In(1), In(range(H)), In(signed(scan_output_bits))
        What the gate multiplies.
    gated_valid, gated_index, gated_value : Out(1), Out(range(H)), Out(signed(width))
        Result, ``projection_input_bits`` wide.
    """

    def __init__(self, *, program: Program, plan: MemoryPlan) -> None:
        scheme, self._hidden = program.scheme, program.shape.mlp or 0
        self._arithmetic = plan.arithmetic
        shifts = np.concatenate([shifts.gated for shifts in program.mlp_shifts])
        shift_plan = ShiftPlan.covering([shifts])
        self._shifts = ParameterMemory(
            name="mlp_gated_shifts",
            width=shift_plan.bits,
            words=shift_plan.stored(shifts),
            plan=plan,
        )
        self._last_address = len(shifts) - 1
        self._gate_bits = scheme.gate_bits
        self._requantizer = PlannedRequantizer(
            plan=shift_plan,
            input_width=scheme.scan_output_bits + scheme.gate_bits,
            output_width=scheme.projection_input_bits,
        )
        index = index_bits(self._hidden)
        super().__init__(
            {
                "gate_valid": In(1),
                "gate_index": In(index),
                "gate_value": In(signed(scheme.gate_bits)),
                "up_valid": In(1),
                "up_index": In(index),
                "up_value": In(signed(scheme.scan_output_bits)),
                "gated_valid": Out(1),
                "gated_index": Out(index),
                "gated_value": Out(signed(scheme.projection_input_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from an element of up to its product."""
        return VectorBuffer.latency + 1 + self._requantizer.latency

    def elaborate(self, platform: object) -> Module:
        """Build buffer, product, and the shifts whose address only ever counts."""
        del platform
        m = Module()
        m.submodules.gates = gates = VectorBuffer(depth=self._hidden, width=self._gate_bits)
        m.submodules.shifts = shifts = self._shifts
        m.submodules.requantizer = requantizer = self._requantizer
        up = delayed(m, self.up_value, gates.latency, name="up")
        gate = gates.read_value.as_signed()
        product = registered_product(m, up, gate, self._arithmetic, name="product")
        # The counter shows an element's address one cycle after it came.
        address = Signal.like(shifts.address, name="next_address")
        with m.If(self.up_valid):
            m.d.sync += [
                shifts.address.eq(address),
                address.eq(Mux(address == self._last_address, 0, address + 1)),
            ]
        m.d.comb += [
            gates.valid.eq(self.gate_valid),
            gates.index.eq(self.gate_index),
            gates.value.eq(self.gate_value),
            gates.read_index.eq(self.up_index),
            requantizer.i.eq(product),
            requantizer.shift.eq(shifts.data),
            self.gated_valid.eq(delayed(m, self.up_valid, self.latency, name="gated_valid")),
            self.gated_index.eq(delayed(m, self.up_index, self.latency, name="gated_index")),
            self.gated_value.eq(requantizer.o),
        ]
        return m
