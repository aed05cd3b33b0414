"""The step size of the scan: dt_proj, softplus and their requantizers."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.fixed_point import Integers, bits_for
from golden.operations.linear import accumulator_bound
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from hw.activation import ACTIVATION_OUTPUT_BITS, EvenActivation
from hw.multiplier import PIPELINED_PRODUCT, pipelined_product
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields
from hw.pipeline import (
    ChannelCounter,
    PlannedRequantizer,
    delayed,
    index_bits,
    magnitude_bits,
    pipelined_sum,
    select_constant,
    sum_latency,
)
from hw.shift_plan import ShiftPlan

__all__ = ["DeltaUnit"]


class DeltaUnit(wiring.Component):
    """Compute ``delta`` of every channel of one layer, a channel every ``steps`` cycles.

    ``raw = requantize(sum_r weight[e, r] dt[r] + bias[e], shifts.dt[e])``,
    ``delta = requantize(softplus(raw), shifts.delta)``, unsigned. Equal to the first half of the
    golden executor's ``_mix``. In step ``t`` of a channel the products of
    ``r = t products .. (t + 1) products - 1`` are formed.

    Latency: ``5 + ceil(log2(products)) + steps + requantizer + softplus + requantizer`` cycles
    from ``start`` to channel 0. Throughput: one channel every ``steps`` cycles.

    Parameters
    ----------
    program : Program
        Weights, biases, shifts and the softplus table of every layer.
    steps : int
        Cycles a channel, T; there are ``products = ceil(R / T)`` multipliers.
    plan : MemoryPlan
        Where weights and constants live: ``scan_dt_weights``, a word a (layer, e, t);
        ``scan_dt_constants`` (bias, shift), a word a (layer, e); ``scan_softplus``.

    Members
    -------
    start : In(1)
        Pulse that begins a layer.
    layer : In(index_bits(L))
        Layer, stable from ``start`` to the next.
    dt_step : Out(index_bits(steps))
        Step whose operands are needed at ``dt`` one cycle later.
    dt : In(ArrayLayout(signed(activation_bits), products))
        Operands ``dt[r]``; what stands beyond R is multiplied by zero.
    valid : Out(1)
        Whether ``delta`` is a channel's result.
    delta : Out(unsigned(delta_bits))
        Step size.
    """

    def __init__(self, *, program: Program, steps: int, plan: MemoryPlan) -> None:
        self._program, self._steps, self._arithmetic = program, steps, plan.arithmetic
        shape, scheme = program.shape, program.scheme
        self._layers = shape.n_layer
        self.products = -(-shape.dt_rank // steps)
        projections = [layer.dt_proj for layer in program.scan_layers]
        self._accumulator_bits = magnitude_bits(
            max(
                accumulator_bound(linear.weight, scheme.activation_bits, linear.bias)
                for linear in projections
            )
        )
        weights = np.stack([linear.weight for linear in projections])
        biases = np.stack([np.asarray(linear.bias) for linear in projections])
        self._build_requantizers()
        self._build_memories(weights, biases, plan)
        self._softplus = EvenActivation(
            table=program.tables.softplus, subtract=False, plan=plan, name="scan_softplus"
        )
        operands = data.ArrayLayout(signed(scheme.activation_bits), self.products)
        super().__init__(
            {
                "start": In(1),
                "layer": In(index_bits(self._layers)),
                "dt_step": Out(index_bits(steps)),
                "dt": In(operands),
                "valid": Out(1),
                "delta": Out(unsigned(scheme.delta_bits)),
            }
        )

    def _build_requantizers(self) -> None:
        shifts = self._program.scan_shifts
        self._raw_plan = ShiftPlan.covering(layer.dt for layer in shifts)
        self._raw = PlannedRequantizer(
            plan=self._raw_plan,
            input_width=self._accumulator_bits,
            output_width=ACTIVATION_INPUT_BITS,
        )
        self._delta_plan = ShiftPlan.covering(layer.delta for layer in shifts)
        self._delta = PlannedRequantizer(
            plan=self._delta_plan,
            input_width=ACTIVATION_OUTPUT_BITS,
            output_width=self._program.scheme.delta_bits,
            output_signed=False,
        )

    def _build_memories(self, weights: Integers, biases: Integers, plan: MemoryPlan) -> None:
        """Pack weights (L, e, r), padded with zeros to whole words, and constants (L, e)."""
        rank = weights.shape[-1]
        padding = self._steps * self.products - rank
        padded = np.pad(weights, ((0, 0), (0, 0), (0, padding)))
        self._weight_bits = bits_for(padded)
        self._weights = ParameterMemory(
            name="scan_dt_weights",
            width=self.products * self._weight_bits,
            words=[
                pack_fields(word.tolist(), self._weight_bits)
                for word in padded.reshape(-1, self.products)
            ],
            plan=plan,
        )
        self._bias_bits = bits_for(biases)
        amounts = [self._raw_plan.stored(layer.dt) for layer in self._program.scan_shifts]
        self._constants = ParameterMemory(
            name="scan_dt_constants",
            width=self._bias_bits + self._raw_plan.bits,
            words=[
                pack_fields([bias], self._bias_bits) | amount << self._bias_bits
                for bias, amount in zip(
                    biases.ravel().tolist(), np.ravel(amounts).tolist(), strict=True
                )
            ],
            plan=plan,
        )

    @property
    def dt_offset(self) -> int:
        """Cycles from ``start`` to the cycle in which ``dt_step`` shows step 0 of channel 0."""
        return ChannelCounter.latency + self._weights.latency - 1

    @property
    def _sum_offset(self) -> int:
        """Cycles from ``start`` to the first sum of products: operands, product, adder tree."""
        return self.dt_offset + 1 + PIPELINED_PRODUCT + sum_latency(self.products)

    @property
    def latency(self) -> int:
        """Cycles from ``start`` to ``delta`` of channel 0."""
        pipe = self._raw.latency + self._softplus.latency + self._delta.latency
        return self._sum_offset + self._steps + pipe

    def elaborate(self, _platform: object) -> Module:
        """Build projection, softplus and the two requantizers, each behind the one before."""
        m = Module()
        m.submodules.raw = raw = self._raw
        m.submodules.softplus = softplus = self._softplus
        m.submodules.narrow = delta = self._delta
        accumulator, shift = self._project(m)
        delta_shift = Signal(delta.shift.shape())
        layer_shifts = [
            self._delta_plan.stored(layer.delta)[0] for layer in self._program.scan_shifts
        ]
        # In step with softplus's results: channel 0's comes this long after its start.
        wait = self.latency - delta.latency - 1
        layer = delayed(m, self.layer, wait, name="result_layer")
        m.d.sync += delta_shift.eq(select_constant(layer, layer_shifts, len(delta_shift)))
        m.d.comb += [
            raw.i.eq(accumulator),
            raw.shift.eq(shift),
            softplus.i.eq(raw.o),
            delta.i.eq(softplus.o),
            delta.shift.eq(delta_shift),
            self.delta.eq(delta.o),
        ]
        return m

    def _project(self, m: Module) -> tuple[Signal, Value]:
        """Return the accumulator and, in the cycle in which it is complete, its shift."""
        shape = self._program.shape
        size = {"layers": self._layers, "channels": shape.d_inner, "steps": self._steps}
        m.submodules.weight_counter = weight_counter = ChannelCounter(**size)
        m.submodules.constant_counter = constant_counter = ChannelCounter(**size)
        m.submodules.weights = weights = self._weights
        m.submodules.constants = constants = self._constants
        # The bias meets the first sum of products.
        lag = self._sum_offset - ChannelCounter.latency - constants.latency
        m.d.comb += [
            weight_counter.start.eq(self.start),
            weight_counter.layer.eq(self.layer),
            weights.address.eq(weight_counter.step_address),
            constant_counter.start.eq(delayed(m, self.start, lag, name="late_start")),
            constant_counter.layer.eq(delayed(m, self.layer, lag, name="late_layer")),
            constants.address.eq(constant_counter.channel_address),
            self.dt_step.eq(delayed(m, weight_counter.step, weights.latency - 1, name="dt_step")),
        ]
        first = delayed(m, constant_counter.first, constants.latency, name="first")
        last = delayed(m, constant_counter.last, constants.latency + 1, name="last")
        bias = constants.data[: self._bias_bits].as_signed()
        accumulator = Signal(signed(self._accumulator_bits), reset_less=True)
        products = self._products(m)
        m.d.sync += accumulator.eq(Mux(first, bias, accumulator) + products)
        after = self._raw.latency + self._softplus.latency + self._delta.latency
        m.d.comb += self.valid.eq(delayed(m, last, after, name="valid"))
        return accumulator, delayed(m, constants.data[self._bias_bits :], 1, name="raw_shift")

    def _products(self, m: Module) -> Value:
        """Return the sum of one step's products, whose factors are registers."""
        products = []
        for lane in range(self.products):
            start = lane * self._weight_bits
            weight = self._weights.data[start : start + self._weight_bits].as_signed()
            products.append(
                pipelined_product(
                    m, self.dt[lane], weight, self._arithmetic, name=f"product_{lane}"
                )
            )
        return pipelined_sum(m, products, name="products")
