"""Step size and decay of every head: what Mamba-2 computes once a head and not once a state."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.fixed_point import bits_for
from golden.piecewise import ACTIVATION_INPUT_BITS, EXPONENT_BITS
from golden.program import Program
from hw.activation import ACTIVATION_OUTPUT_BITS, EvenActivation
from hw.clamp import clamped
from hw.exponent import DecayUnit
from hw.multiplier import PIPELINED_PRODUCT, pipelined_product
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields
from hw.pipeline import PlannedRequantizer, delayed, index_bits, select_constant
from hw.shift_plan import ShiftPlan
from hw.vector_buffer import VectorBuffer

__all__ = ["HeadSteps"]

_ADDRESS_CYCLES = 2  # index and layer's base in registers, then their sum
_BIAS_CYCLE = _ADDRESS_CYCLES + ParameterMemory.latency


class HeadSteps(wiring.Component):
    """Turn in_proj's dt rows into step sizes and decays, and keep those of one layer.

    ``delta = clamp(requantize(softplus(saturate(dt + bias)), shift), low, high)`` and
    ``decay = 2**-requantize(delta rate, argument)``. Equal to the golden executor's ``_heads``.
    Heads may come in any order with any gaps.

    Latency: from dt to the probes ``delta_latency`` and ``decay_latency``; a head can be read from
    the cycle after its decay on, and takes ``read_latency`` cycles from ``read_head``. Throughput:
    one head a cycle.

    Parameters
    ----------
    program : Program
        Biases, limits, rates, shifts and tables of every layer, which must have heads.
    plan : MemoryPlan
        Where the constants (``scan_head_constants``: bias, rate, a word a (layer, h)) and the
        table of softplus (``scan_softplus``) live, and what multiplies.

    Members
    -------
    layer : In(index_bits(L))
        Layer, stable from a layer's first dt until its last decay.
    dt_valid, dt_index, dt_value : In(1), In(index_bits(H)), In(signed(18))
        Row of a head.
    delta_valid, delta_value : Out
        Probe: step size of a head.
    decay_valid, decay_value : Out
        Probe: its decay.
    read_head : In(index_bits(H))
        Head to read.
    delta : Out(unsigned(delta_bits))
        Its step size.
    decay : Out(unsigned(decay_bits + 1))
        Its decay.
    """

    read_latency = VectorBuffer.latency

    def __init__(self, *, program: Program, plan: MemoryPlan) -> None:
        shape, scheme = program.shape, program.scheme
        self._program, self._arithmetic = program, plan.arithmetic
        self._heads = shape.step_sizes
        shifts = program.scan_shifts
        self._softplus = EvenActivation(
            table=program.tables.softplus, subtract=False, plan=plan, name="scan_softplus"
        )
        self._delta_plan = ShiftPlan.covering(layer.delta for layer in shifts)
        self._delta = PlannedRequantizer(
            plan=self._delta_plan,
            input_width=ACTIVATION_OUTPUT_BITS,
            output_width=scheme.delta_bits,
            output_signed=False,
        )
        selections = [layer.head_selection for layer in program.scan_layers]
        self._bias_bits = max(bits_for(own.dt_bias) for own in selections)
        rates = [layer.decay_rate.ravel() for layer in program.scan_layers]
        self._rate_bits = max(bits_for(own, signed=False) for own in rates)
        self._constants = ParameterMemory(
            name="scan_head_constants",
            width=self._bias_bits + self._rate_bits,
            words=[
                pack_fields([bias], self._bias_bits) | int(rate) << self._bias_bits
                for own, row in zip(selections, rates, strict=True)
                for bias, rate in zip(own.dt_bias, row, strict=True)
            ],
            plan=plan,
        )
        self._argument_plan = ShiftPlan.covering(layer.argument for layer in shifts)
        self._argument = PlannedRequantizer(
            plan=self._argument_plan,
            input_width=scheme.delta_bits + self._rate_bits,
            output_width=EXPONENT_BITS,
            input_signed=False,
            output_signed=False,
        )
        self._decay = DecayUnit(
            table=program.tables.exponent,
            decay_bits=scheme.decay_bits,
            arithmetic=plan.arithmetic,
        )
        head, decay = index_bits(self._heads), unsigned(scheme.decay_bits + 1)
        super().__init__(
            {
                "layer": In(index_bits(shape.n_layer)),
                "dt_valid": In(1),
                "dt_index": In(head),
                "dt_value": In(signed(ACTIVATION_INPUT_BITS)),
                "delta_valid": Out(1),
                "delta_value": Out(unsigned(scheme.delta_bits)),
                "decay_valid": Out(1),
                "decay_value": Out(decay),
                "read_head": In(head),
                "delta": Out(unsigned(scheme.delta_bits)),
                "decay": Out(decay),
            }
        )

    @property
    def delta_latency(self) -> int:
        """Cycles from dt to its step size: bias, sum, softplus, requantizer, limits."""
        return _BIAS_CYCLE + 1 + self._softplus.latency + self._delta.latency + 1

    @property
    def decay_latency(self) -> int:
        """Cycles from dt to its decay: product with the rate, requantizer, decay unit."""
        pipe = PIPELINED_PRODUCT + self._argument.latency + self._decay.latency
        return self.delta_latency + pipe

    def elaborate(self, _platform: object) -> Module:
        """Build the pipe from dt to the decay, and the buffer behind it."""
        m = Module()
        m.submodules.argument = argument = self._argument
        m.submodules.decay_unit = decay = self._decay
        self._address(m)
        delta = self._step_size(m)
        wait = self.delta_latency - _BIAS_CYCLE
        rate = delayed(m, self._constants.data[self._bias_bits :], wait, name="rate")
        product = pipelined_product(m, delta, rate, self._arithmetic, name="argument_product")
        m.d.comb += [
            argument.i.eq(product),
            argument.shift.eq(self._of_layer(self._argument_plan, "argument")),
            decay.i.eq(argument.o),
            self.delta_value.eq(delta),
            self.delta_valid.eq(delayed(m, self.dt_valid, self.delta_latency, name="delta_valid")),
            self.decay_value.eq(decay.o),
        ]
        after = self.decay_latency - self.delta_latency
        m.d.comb += self.decay_valid.eq(delayed(m, self.delta_valid, after, name="decay_valid"))
        late_delta = delayed(m, delta, after, name="late_delta")
        m.submodules.heads = heads = VectorBuffer(
            depth=self._heads, width=len(self.delta) + len(self.decay)
        )
        m.d.comb += [
            heads.valid.eq(self.decay_valid),
            heads.index.eq(delayed(m, self.dt_index, self.decay_latency, name="index")),
            heads.value.eq(Cat(late_delta, self.decay_value)),
            heads.read_index.eq(self.read_head),
            self.delta.eq(heads.read_value[: len(self.delta)]),
            self.decay.eq(heads.read_value[len(self.delta) :]),
        ]
        return m

    def _of_layer(self, plan: ShiftPlan, name: str) -> Value:
        """Return the stored shift of the current layer."""
        amounts = [plan.stored(getattr(layer, name))[0] for layer in self._program.scan_shifts]
        return select_constant(self.layer, amounts, plan.bits)

    def _address(self, m: Module) -> None:
        """Address the constants of the head that comes in."""
        m.submodules.constants = constants = self._constants
        bases = [layer * self._heads for layer in range(self._program.shape.n_layer)]
        base = Signal(len(constants.address), reset_less=True)
        address = Signal(len(constants.address), reset_less=True)
        index = delayed(m, self.dt_index, 1, name="address_index")
        m.d.sync += [
            base.eq(select_constant(self.layer, bases, len(base))),
            address.eq(base + index),
        ]
        m.d.comb += constants.address.eq(address)

    def _step_size(self, m: Module) -> Signal:
        """Return the clamped step size, ``delta_latency`` cycles behind its dt."""
        m.submodules.softplus = softplus = self._softplus
        m.submodules.narrow = narrow = self._delta
        bias = self._constants.data[: self._bias_bits].as_signed()
        dt = delayed(m, self.dt_value, _BIAS_CYCLE, name="dt")
        total = Signal(signed(ACTIVATION_INPUT_BITS + 1))
        raw = Signal(signed(ACTIVATION_INPUT_BITS), reset_less=True)
        m.d.comb += total.eq(dt + bias)
        m.d.sync += raw.eq(clamped(total, ACTIVATION_INPUT_BITS))
        selections = [layer.head_selection for layer in self._program.scan_layers]
        low, high = (
            select_constant(self.layer, [getattr(own, name) for own in selections], len(self.delta))
            for name in ("delta_low", "delta_high")
        )
        delta = Signal.like(self.delta_value, name="clamped_delta", reset_less=True)
        m.d.comb += [
            softplus.i.eq(raw),
            narrow.i.eq(softplus.o),
            narrow.shift.eq(self._of_layer(self._delta_plan, "delta")),
        ]
        m.d.sync += delta.eq(Mux(narrow.o < low, low, Mux(narrow.o > high, high, narrow.o)))
        return delta
