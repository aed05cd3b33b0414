"""The mixer of a moving average: from the rows of its projection to the gated values."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_OUTPUT_FRACTION
from golden.program import Program
from hw.activation import EvenActivation
from hw.contexts import check_contexts, context_inputs, interleaved
from hw.dual_scale import DualScaleDecoder
from hw.multiplier import PIPELINED_PRODUCT, pipelined_product, registered_product
from hw.parameter_memory import MemoryPlan, ParameterMemory
from hw.pipeline import PlannedRequantizer, delayed, index_bits, select_constant
from hw.requantizer import ShiftRequantizer
from hw.scan_state import ScanState
from hw.shift_plan import ShiftPlan
from hw.vector_ring import VectorRing

__all__ = ["AverageUnit"]

_READ = 2
"""A ring, and a register behind it."""


class AverageUnit(wiring.Component):
    """``s = lambda s + (1 - lambda) v`` with ``lambda = sigmoid(argument)``, then the gate.

    One multiplication a channel: ``v + lambda (s - v)``, rounded once; equal to
    :func:`golden.operations.moving_average.average_step`. Then ``gated = requantize(s gate)``, or
    ``requantize(s)`` in a network without gates. A block's channels come in their order, with any
    gaps. The scan's inputs and gates come in the same order and may run ahead.

    Latency, in cycles from an argument: ``decay_latency`` to lambda, ``state_latency`` to the new
    average, ``latency`` to the gated value. Throughput: one channel a cycle; the same channel of a
    layer again after ``hazard_depth`` cycles at the earliest.

    Parameters
    ----------
    program : a network with moving averages
    plan : where table and shifts live, and what multiplies
    slots : vectors that the buffers of scan inputs and gates hold
    contexts : C, streams with averages of their own

    Members
    -------
    layer, fresh : in, of the argument that comes in; ``fresh`` takes the old average as zero
    context : in, with several contexts only: that of the argument
    idle : in, no argument is under way: the access port owns the averages
    access_address : in, average ``layer E + e`` to save or restore
    access_context : in, with several contexts only: that of the average
    access_write, access_write_data : in, store it; seen by reads whose address comes two cycles
        later or more
    access_read_data : out, that at the address of ``access_latency`` cycles ago
    argument_valid, argument_index, argument_value : in, the sigmoid's argument
    scan_u_valid, scan_u_index, scan_u_value : in, stored scan input; read ``u_offset`` cycles
        after the channel's argument, so written in an earlier cycle than that
    gate_valid, gate_index, gate_value : in, gate; read ``gate_offset`` cycles after the argument
    decay_valid, decay_value : out, probe: lambda
    state_valid, state_value : out, probe: the new average
    gated_valid, gated_index, gated_value : out
    """

    def __init__(
        self, *, program: Program, plan: MemoryPlan, slots: int, contexts: int = 1
    ) -> None:
        shape, scheme, table = program.shape, program.scheme, program.tables.sigmoid
        assert table is not None  # guaranteed by golden.validation
        self._shape, self._scheme, self._slots = shape, scheme, slots
        self._arithmetic = plan.arithmetic
        self._sigmoid = EvenActivation(table=table, step=True, plan=plan, name="sigmoid")
        self._decay = ShiftRequantizer(
            input_width=ACTIVATION_OUTPUT_FRACTION + 2,
            output_width=scheme.decay_bits + 1,
            max_shift=ACTIVATION_OUTPUT_FRACTION - scheme.decay_bits,
            output_signed=False,
        )
        self._round = ShiftRequantizer(
            input_width=scheme.average_bits + scheme.decay_bits + 2,
            output_width=scheme.average_bits,
            max_shift=scheme.decay_bits,
        )
        shifts = [own.gated for own in program.average_shifts]
        gated_plan = ShiftPlan.covering(shifts)
        self._gated = PlannedRequantizer(
            plan=gated_plan,
            input_width=scheme.average_bits + (scheme.gate_bits if shape.gated else 0),
            output_width=scheme.gated_bits,
        )
        self._shifts = ParameterMemory(
            name="average_shifts",
            width=gated_plan.bits,
            words=[amount for own in shifts for amount in gated_plan.stored(own)],
            plan=plan,
        )
        self._contexts = check_contexts(contexts)
        words = shape.n_layer * shape.d_inner
        self._state = ScanState(words=words * contexts, width=scheme.average_bits)
        index = index_bits(shape.d_inner)
        super().__init__(
            {
                "layer": In(index_bits(shape.n_layer)),
                "fresh": In(1),
                "idle": In(1),
                **context_inputs(contexts, "context", "access_context"),
                "access_address": In(index_bits(words)),
                "access_write": In(1),
                "access_write_data": In(unsigned(scheme.average_bits)),
                "access_read_data": Out(unsigned(scheme.average_bits)),
                "argument_valid": In(1),
                "argument_index": In(index),
                "argument_value": In(signed(ACTIVATION_INPUT_BITS)),
                "scan_u_valid": In(1),
                "scan_u_index": In(index),
                "scan_u_value": In(unsigned(scheme.scan_storage_bits)),
                "gate_valid": In(1),
                "gate_index": In(index),
                "gate_value": In(signed(scheme.gate_bits)),
                "decay_valid": Out(1),
                "decay_value": Out(unsigned(scheme.decay_bits + 1)),
                "state_valid": Out(1),
                "state_value": Out(signed(scheme.average_bits)),
                "gated_valid": Out(1),
                "gated_index": Out(index),
                "gated_value": Out(signed(scheme.gated_bits)),
            }
        )

    @property
    def decay_latency(self) -> int:
        """Cycles from an argument to its lambda: the sigmoid and its rounding."""
        return self._sigmoid.latency + self._decay.latency

    @property
    def u_offset(self) -> int:
        """Cycles from an argument to the read of its scan input."""
        return self.decay_latency - 1 - _READ

    @property
    def state_latency(self) -> int:
        """Cycles from an argument to the new average: product, sum, rounding."""
        return self.decay_latency + PIPELINED_PRODUCT + 1 + self._round.latency

    @property
    def gate_offset(self) -> int:
        """Cycles from an argument to the read of its gate."""
        return self.state_latency - _READ

    @property
    def latency(self) -> int:
        """Cycles from an argument to the gated value."""
        return self.state_latency + self._shape.gated + self._gated.latency

    @property
    def access_latency(self) -> int:
        """Cycles from an access address to its word."""
        return self._state.latency

    @property
    def hazard_depth(self) -> int:
        """Cycles from the read of an average to the first read that sees its update."""
        written = self.state_latency + self._state.write_latency
        return written + 1 - (self.decay_latency - 1 - self._state.latency)

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.sigmoid = sigmoid = self._sigmoid
        m.submodules.decay = decay = self._decay
        m.submodules.round = rounded = self._round
        valid = self.argument_valid
        channel = self._address(m)
        v = self._input(m, delayed(m, valid, self.u_offset, name="read_u"))
        old = self._old(m, channel)
        # In the cycle before lambda is there; v + lambda (s - v) is then one product.
        difference = Signal(signed(self._scheme.average_bits + 1), reset_less=True)
        m.d.sync += difference.eq(old - v)
        product = pipelined_product(m, difference, decay.o, self._arithmetic, name="product")
        aligned = delayed(m, v, 1 + PIPELINED_PRODUCT, name="aligned")
        total = Signal(rounded.i.shape(), reset_less=True)
        m.d.sync += total.eq((aligned << self._scheme.decay_bits) + product)
        m.d.comb += [
            sigmoid.i.eq(self.argument_value),
            decay.i.eq(sigmoid.o),
            decay.shift.eq(ACTIVATION_OUTPUT_FRACTION - self._scheme.decay_bits),
            rounded.i.eq(total),
            rounded.shift.eq(self._scheme.decay_bits),
            self.decay_value.eq(decay.o),
            self.decay_valid.eq(delayed(m, valid, self.decay_latency, name="decay_valid")),
            self.state_value.eq(rounded.o),
            self.state_valid.eq(delayed(m, valid, self.state_latency, name="state_valid")),
            self.gated_valid.eq(delayed(m, valid, self.latency, name="gated_valid")),
            self.gated_index.eq(delayed(m, self.argument_index, self.latency, name="index")),
        ]
        self._gate(m, rounded.o, channel)
        return m

    def _input(self, m: Module, read: Value) -> Value:
        """Return the next scan input in the average's scale, two cycles after ``read``."""
        scheme = self._scheme
        m.submodules.inputs = inputs = VectorRing(
            depth=self._shape.d_inner, width=scheme.scan_storage_bits, slots=self._slots
        )
        m.d.comb += [
            inputs.valid.eq(self.scan_u_valid),
            inputs.index.eq(self.scan_u_index),
            inputs.value.eq(self.scan_u_value),
            inputs.read.eq(read),
        ]
        u: Value = inputs.read_value.as_signed()
        if scheme.dual_scale is not None:
            m.submodules.decoder = decoder = DualScaleDecoder(dual_scale=scheme.dual_scale)
            m.d.comb += decoder.i.eq(inputs.read_value)
            u = decoder.o
        v = Signal(signed(scheme.average_bits), name="v", reset_less=True)
        m.d.sync += v.eq(u << scheme.lift)
        return v

    def _address(self, m: Module) -> Signal:
        """Return the address of the argument's channel among all layers', two cycles later."""
        shape, address = self._shape, Signal(len(self.access_address), reset_less=True)
        bases = [layer * shape.d_inner for layer in range(shape.n_layer)]
        base = Signal.like(address, reset_less=True)
        m.d.sync += [
            base.eq(select_constant(self.layer, bases, len(address))),
            address.eq(base + delayed(m, self.argument_index, 1, name="address_index")),
        ]
        return address

    def _old(self, m: Module, channel: Signal) -> Value:
        """Return the average before the argument, in step with v; write the new one back."""
        m.submodules.state = state = self._state
        begin = self.decay_latency - 1 - state.latency
        place, access = self._places(m, channel)
        late = delayed(m, place, begin - 2, name="read_address")
        m.d.comb += [
            state.busy.eq(~self.idle),
            # The last argument's stands while there is none; saving must not read zeros then.
            state.fresh.eq(delayed(m, self.fresh & ~self.idle, begin + 1, name="fresh")),
            state.access_address.eq(access),
            state.access_write.eq(self.access_write),
            state.access_write_data.eq(self.access_write_data),
            self.access_read_data.eq(state.read_data),
            state.read_address.eq(late),
            state.write_valid.eq(self.state_valid),
            state.write_address.eq(
                delayed(m, late, self.state_latency - begin, name="write_address")
            ),
            state.write_data.eq(self.state_value),
        ]
        return state.read_data.as_signed()

    def _places(self, m: Module, channel: Signal) -> tuple[Value, Value]:
        """Return where the averages of the channel, and of the access address, are."""
        if self._contexts == 1:
            return channel, self.access_address
        context = delayed(m, self.context, 2, name="context")
        return (
            interleaved(channel, context, self._contexts),
            interleaved(self.access_address, self.access_context, self._contexts),
        )

    def _gate(self, m: Module, average: Value, channel: Signal) -> None:
        """Multiply the new average with its gate, if there is one, and requantize."""
        scheme, shape = self._scheme, self._shape
        m.submodules.gated = gated = self._gated
        m.submodules.shifts = shifts = self._shifts
        value: Value = average
        if shape.gated:
            m.submodules.gates = gates = VectorRing(
                depth=shape.d_inner, width=scheme.gate_bits, slots=self._slots
            )
            gate = Signal(signed(scheme.gate_bits), reset_less=True)
            m.d.comb += [
                gates.valid.eq(self.gate_valid),
                gates.index.eq(self.gate_index),
                gates.value.eq(self.gate_value),
                gates.read.eq(delayed(m, self.argument_valid, self.gate_offset, name="read_gate")),
            ]
            m.d.sync += gate.eq(gates.read_value)
            value = registered_product(m, average, gate, self._arithmetic, name="gating")
        wait = self.latency - gated.latency - ParameterMemory.latency
        m.d.comb += [
            shifts.address.eq(delayed(m, channel, wait - 2, name="shift_address")),
            gated.i.eq(value),
            gated.shift.eq(shifts.data),
            self.gated_value.eq(gated.o),
        ]
