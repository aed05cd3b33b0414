"""Constants of the scan's lanes: decay rates and the shifts of argument and update."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.fixed_point import bits_for
from golden.program import Program
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields
from hw.pipeline import index_bits, select_constant
from hw.shift_plan import ShiftPlan

__all__ = ["LaneConstants"]


class LaneConstants(wiring.Component):
    """Hand the lanes their decay rates and shifts; with heads the shifts of the update alone.

    Latency: ``2`` cycles from an address to its constants, ``1`` from the layer to the
    argument's shift. Throughput: one word of each memory a cycle.

    Parameters
    ----------
    program : Program
        Decay rates and shifts of every layer.
    scan_lanes : int
        Rates a word, S.
    plan : MemoryPlan
        Where ``scan_decay_rates``, a word a (layer, e, t), and ``scan_update_shifts``, a word a
        (layer, e), live.

    Members
    -------
    layer : In(index_bits(L))
        Layer; this and the next three not with heads.
    argument_shift : Out(unsigned(argument_plan.bits))
        Its stored shift of the exponent's argument.
    step_address : In(index_bits(L E T))
        Word of rates.
    rates : Out(ArrayLayout(unsigned(rate_bits), scan_lanes))
        Rates of the S states at that address.
    channel_address : In(index_bits(L E))
        Channel.
    update_shift : Out(unsigned(update_plan.bits))
        Its stored shift of the update.

    Attributes
    ----------
    argument_plan, update_plan : ShiftPlan
        How the shifts are stored.
    rate_bits : int | None
        Width of the widest rate; None with heads.
    """

    latency = ParameterMemory.latency

    def __init__(self, *, program: Program, scan_lanes: int, plan: MemoryPlan) -> None:
        layers = program.scan_layers
        shifts = self._shifts = program.scan_shifts
        self.argument_plan = ShiftPlan.covering(layer.argument for layer in shifts)
        self.update_plan = ShiftPlan.covering(layer.update for layer in shifts)
        self._update_shifts = ParameterMemory(
            name="scan_update_shifts",
            width=self.update_plan.bits,
            words=[amount for layer in shifts for amount in self.update_plan.stored(layer.update)],
            plan=plan,
        )
        members: dict[str, In | Out] = {
            "channel_address": In(index_bits(len(layers) * program.shape.d_inner)),
            "update_shift": Out(unsigned(self.update_plan.bits)),
        }
        self.rate_bits: int | None = None
        self._rates: ParameterMemory | None = None
        if program.shape.heads is None:
            rates = np.stack([layer.decay_rate for layer in layers]).reshape(-1, scan_lanes)
            bits = self.rate_bits = bits_for(rates, signed=False)
            self._rates = ParameterMemory(
                name="scan_decay_rates",
                width=scan_lanes * bits,
                words=[pack_fields(word.tolist(), bits) for word in rates],
                plan=plan,
            )
            members |= {
                "layer": In(index_bits(len(layers))),
                "argument_shift": Out(unsigned(self.argument_plan.bits)),
                "step_address": In(index_bits(len(rates))),
                "rates": Out(data.ArrayLayout(unsigned(bits), scan_lanes)),
            }
        super().__init__(members)

    def elaborate(self, _platform: object) -> Module:
        """Build the memories and the register of the layer's shift."""
        m = Module()
        m.submodules.update_shifts = update_shifts = self._update_shifts
        m.d.comb += [
            update_shifts.address.eq(self.channel_address),
            self.update_shift.eq(update_shifts.data),
        ]
        if (rates := self._rates) is not None:
            m.submodules.decay_rates = rates
            amounts = [self.argument_plan.stored(layer.argument)[0] for layer in self._shifts]
            shift = Signal(self.argument_plan.bits)
            m.d.sync += shift.eq(select_constant(self.layer, amounts, len(shift)))
            m.d.comb += [
                self.argument_shift.eq(shift),
                rates.address.eq(self.step_address),
                self.rates.eq(rates.data),
            ]
        return m
