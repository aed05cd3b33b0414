"""Depthwise convolutions: taps and requantizer of all, and the causal one with its windows."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.fixed_point import Integers, bits_for
from golden.layer import Linear
from golden.operations.linear import accumulator_bound
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from golden.scheme import Scheme
from hw.contexts import check_contexts, interleaved
from hw.multiplier import PIPELINED_PRODUCT, pipelined_product
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields
from hw.pipeline import (
    PlannedRequantizer,
    delayed,
    index_bits,
    magnitude_bits,
    pipelined_sum,
    select_constant,
    sum_latency,
)
from hw.shift_plan import ShiftPlan
from hw.vector_buffer import NO_COLLISION

__all__ = ["CausalConvolution", "DepthwiseConvolution", "split_fields"]

_ADDRESS_CYCLE = 2  # index and layer's base in registers, then their sum
_OPERAND_CYCLE = _ADDRESS_CYCLE + ParameterMemory.latency
"""From here on the operands have one more cycle to the multipliers, elsewhere on the device."""
_WRITE_CYCLE = _OPERAND_CYCLE + 1


class DepthwiseConvolution(wiring.Component):
    """What depthwise convolutions share: taps, bias and shift of every channel, and their sum.

    Parameters
    ----------
    convolutions : taps and bias of every layer, (e, K)
    shifts : bits dropped of every layer, (e,)
    scheme : widths
    plan : where the weights live, and what multiplies
    members : the ports

    Raises
    ------
    ValueError
        If a layer has no bias: its taps would be added without one.
    """

    def __init__(
        self,
        *,
        convolutions: Sequence[Linear],
        shifts: Sequence[Integers],
        scheme: Scheme,
        plan: MemoryPlan,
        members: dict[str, In | Out],
    ) -> None:
        self._bits, self._weight_bits = scheme.activation_bits, scheme.convolution_weight_bits
        self._arithmetic = plan.arithmetic
        taps = convolutions[0].weight.shape[1]
        self._sum_latency = sum_latency(taps + 1)
        shift_plan = ShiftPlan.covering(shifts)
        self._bias_bits, words = _pack_parameters(
            convolutions, shifts, self._weight_bits, shift_plan
        )
        self._parameters = ParameterMemory(
            name="convolution",
            width=taps * self._weight_bits + self._bias_bits + shift_plan.bits,
            words=words,
            plan=plan,
        )
        bound = max(accumulator_bound(own.weight, self._bits, own.bias) for own in convolutions)
        self._requantizer = PlannedRequantizer(
            plan=shift_plan,
            input_width=max(2, magnitude_bits(bound)),
            output_width=ACTIVATION_INPUT_BITS,
        )
        super().__init__(members)

    @property
    def latency(self) -> int:
        """Cycles from an input, or a sweep's start, to its result."""
        return _OPERAND_CYCLE + PIPELINED_PRODUCT + self._sum_latency + self._requantizer.latency

    def _mix(self, m: Module, address: Signal, inputs: list[Value]) -> None:
        """Multiply, add and requantize with the parameters at the address.

        The inputs, oldest first, come in step with the parameters.
        """
        m.submodules.parameters = parameters = self._parameters
        m.submodules.requantizer = requantizer = self._requantizer
        taps_end = len(inputs) * self._weight_bits
        shift_start = taps_end + self._bias_bits
        bias = parameters.data[taps_end:shift_start].as_signed()
        shift = parameters.data[shift_start:]
        terms: list[Value] = []
        weights = split_fields(parameters.data[:taps_end], self._weight_bits)
        for tap, (weight, x) in enumerate(zip(weights, inputs, strict=True)):
            terms.append(pipelined_product(m, weight, x, self._arithmetic, name=f"product_{tap}"))
        terms.append(delayed(m, bias, PIPELINED_PRODUCT, name="bias"))
        shift = delayed(m, shift, PIPELINED_PRODUCT + self._sum_latency, name="shift")
        m.d.comb += [
            parameters.address.eq(address),
            requantizer.i.eq(pipelined_sum(m, terms, name="sum")),
            requantizer.shift.eq(shift),
            self.mixed_value.eq(requantizer.o),
        ]


class CausalConvolution(DepthwiseConvolution):
    """Mixes each channel's last K inputs and keeps the last K - 1 of them, for every layer.

    ``mixed = requantize(sum_k w[e, k] x[t - K + 1 + k] + bias[e], shift[e], 18)``, then the
    channel's window drops its oldest input and takes the newest: equal to the convolution of
    :class:`golden.executor.Executor`. Where ``fresh`` is set the old window reads as zero.

    Elements may come in any order with any gaps, each channel of a layer once a token; the same
    one again after ``hazard_depth`` cycles at the earliest.

    Latency: ``6 + ceil(log2(K + 1)) + requantizer.latency`` cycles: address (2), memories (2),
    products (2), sum, requantizer. Throughput: one element a cycle.

    A window can be read or written from outside in a cycle before which no element was valid for
    ``hazard_depth`` cycles. Elements see a write from the same cycle on, reads from the next. A
    window is packed as in the memory: ``K - 1`` inputs of ``activation_bits``, the oldest lowest;
    it is at address ``layer E + e`` of its context. Here E counts the convolved channels, with
    heads those of B and C behind those of x.

    Parameters
    ----------
    program : Program
        Source of sizes, widths, weights and shifts.
    plan : MemoryPlan
        Where the weights live.
    contexts : int
        Streams C with windows of their own.

    Members
    -------
    x_valid, x_index, x_value : In(1), In(range(E)), In(signed(activation_bits))
        Input of a channel.
    layer : In(index_bits(L))
        Layer of the element.
    context : In(index_bits(C))
        Context of the element.
    fresh : In(1)
        The element is the first of its sequence.
    mixed_valid, mixed_index, mixed_value : Out(1), Out(range(E)), Out(signed(18))
        Input of SiLU, 12 fraction bits, ``latency`` cycles after the element.
    access_address : In(index_bits(L E))
        Window to read or write.
    access_context : In(index_bits(C))
        Context of that window.
    access_write, access_write_data : In(1), In((K - 1) activation_bits)
        Write the window at the address of the same cycle.
    access_read_data : Out((K - 1) activation_bits)
        Window at the address of ``access_latency`` cycles ago.

    Raises
    ------
    ValueError
        If a layer has no bias: its taps would be added without one.
    """

    access_latency = 3

    def __init__(self, *, program: Program, plan: MemoryPlan, contexts: int = 1) -> None:
        shape, scheme = program.shape, program.scheme
        self._contexts = check_contexts(contexts)
        self._shape, self._channels = shape, shape.convolution_channels
        self._window_bits = (shape.d_conv - 1) * scheme.activation_bits
        activation = signed(scheme.activation_bits)
        super().__init__(
            convolutions=[layer.convolution for layer in program.scan_layers],
            shifts=[own.convolution for own in program.scan_shifts],
            scheme=scheme,
            plan=plan,
            members={
                "x_valid": In(1),
                "x_index": In(range(self._channels)),
                "x_value": In(activation),
                "layer": In(index_bits(shape.n_layer)),
                "context": In(index_bits(contexts)),
                "fresh": In(1),
                "mixed_valid": Out(1),
                "mixed_index": Out(range(self._channels)),
                "mixed_value": Out(signed(ACTIVATION_INPUT_BITS)),
                "access_address": In(index_bits(shape.n_layer * self._channels)),
                "access_context": In(index_bits(contexts)),
                "access_write": In(1),
                "access_write_data": In(self._window_bits),
                "access_read_data": Out(self._window_bits),
            },
        )

    @property
    def hazard_depth(self) -> int:
        """Least cycles between two inputs of the same channel of the same layer."""
        return _WRITE_CYCLE - _ADDRESS_CYCLE + 1

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        address, place = self._address(m)
        valid = delayed(m, self.x_valid, _OPERAND_CYCLE, name="valid")
        x = delayed(m, self.x_value, _OPERAND_CYCLE, name="x")
        window = self._windows(m, place, valid, x)
        self._mix(m, address, [*split_fields(window, self._bits), x])
        remaining = self.latency - _OPERAND_CYCLE
        m.d.comb += [
            self.mixed_valid.eq(delayed(m, valid, remaining, name="mixed_valid")),
            self.mixed_index.eq(delayed(m, self.x_index, self.latency, name="index")),
        ]
        return m

    def _address(self, m: Module) -> tuple[Signal, Value]:
        """Return the element's address two cycles later, or else the one from outside.

        Weights are at the first address, the window of the element's context at the second.
        """
        channels, layers = self._channels, self._shape.n_layer
        bases = [layer * channels for layer in range(layers)]
        address = Signal.like(self.access_address, reset_less=True)
        base = Signal.like(address, reset_less=True)
        m.d.sync += base.eq(select_constant(self.layer, bases, len(address)))
        index = delayed(m, self.x_index, 1, name="address_index")
        context = Signal.like(self.context, name="address_context", reset_less=True)
        late_context = delayed(m, self.context, 1, name="context")
        with m.If(delayed(m, self.x_valid, 1, name="address_valid")):
            m.d.sync += [address.eq(base + index), context.eq(late_context)]
        with m.Else():
            m.d.sync += [address.eq(self.access_address), context.eq(self.access_context)]
        return address, interleaved(address, context, self._contexts)

    def _windows(self, m: Module, place: Value, valid: Value, x: Value) -> Signal:
        """Return the element's old window beside its other operands; then write the new one."""
        depth = self._shape.n_layer * self._channels * self._contexts
        m.submodules.windows = memory = Memory(
            shape=self._window_bits, depth=depth, init=[], attrs=NO_COLLISION
        )
        read, write = memory.read_port(), memory.write_port()
        stored = Signal(self._window_bits, reset_less=True)
        window = Signal(self._window_bits)
        forget = delayed(m, self.fresh & self.x_valid, _OPERAND_CYCLE, name="forget")
        m.d.sync += stored.eq(read.data)
        m.d.comb += [
            read.addr.eq(place),
            self.access_read_data.eq(stored),
            window.eq(Mux(forget, 0, stored)),
        ]
        next_window = Signal(self._window_bits, reset_less=True)
        m.d.sync += next_window.eq(Cat(window, x)[self._bits :])
        next_valid = delayed(m, valid, 1, name="next_valid")
        outside_write = delayed(m, self.access_write, 1, name="outside_write")
        outside = interleaved(self.access_address, self.access_context, self._contexts)
        outside_address = delayed(m, outside, 1, name="outside_address")
        outside_data = delayed(m, self.access_write_data, 1, name="outside_data")
        written = delayed(m, place, _WRITE_CYCLE - _ADDRESS_CYCLE, name="written_address")
        m.d.comb += [
            write.en.eq(next_valid | outside_write),
            write.addr.eq(Mux(next_valid, written, outside_address)),
            write.data.eq(Mux(next_valid, next_window, outside_data)),
        ]
        return window


def split_fields(packed: Value, bits: int) -> list[Value]:
    """Return the signed fields of a packed value, the lowest first."""
    return [packed[start : start + bits].as_signed() for start in range(0, len(packed), bits)]


def _pack_parameters(
    convolutions: Sequence[Linear],
    shifts: Sequence[Integers],
    weight_bits: int,
    shift_plan: ShiftPlan,
) -> tuple[int, list[int]]:
    """Return the bias's width and one word for each layer and channel: taps, bias, shift."""
    biases = []
    for number, own in enumerate(convolutions):
        if own.bias is None:
            raise ValueError(f"layer {number}'s convolution has bias None, must have one; use 0")
        biases.append(own.bias)
    bias_bits = max(bits_for(bias) for bias in biases)
    taps_bits = convolutions[0].weight.shape[1] * weight_bits
    words = []
    for own, bias, amounts in zip(convolutions, biases, shifts, strict=True):
        stored = shift_plan.stored(amounts)
        for taps, offset, shift in zip(own.weight, bias, stored, strict=True):
            word = pack_fields(taps, weight_bits) | pack_fields([offset], bias_bits) << taps_bits
            words.append(word | shift << (taps_bits + bias_bits))
    return bias_bits, words
