"""The depthwise convolution that looks as far ahead as back, over the tokens of a frame."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from hw.convolution import DepthwiseConvolution
from hw.parameter_memory import MemoryPlan
from hw.pipeline import delayed, index_bits, select_constant
from hw.vector_buffer import NO_COLLISION

__all__ = ["CentredConvolution"]

_ADDRESS, _BANK = 2, 2
"""Cycles from a start to channel 0's address, and from there to its inputs."""


class CentredConvolution(DepthwiseConvolution):
    """``mixed = requantize(sum_k w[e, k] x[t - K // 2 + k] + bias[e], shift[e], 18)``.

    x beyond either end of the frame counts as zero. Equal to
    :func:`golden.operations.linear.centred_convolution` and the requantization behind it. The
    inputs of K tokens are kept, one token a bank; tokens enter one after another without gaps
    inside a frame, so that the banks hold what a sweep needs.

    A sweep runs over the channels of a token, once x of the last token that it looks ahead to is
    there: element e is read ``READ + e`` cycles after ``start`` and must have been written in an
    earlier cycle; the bank of the oldest input must not be written up to then.

    Latency: ``latency + e`` cycles from ``start`` to channel e. Throughput: one element a cycle, a
    sweep every E cycles.

    Parameters
    ----------
    program : a network with moving averages and a convolution
    plan : where the weights live

    Members
    -------
    x_valid, x_index, x_value : in, input of a channel
    x_layer, x_turn : in, its layer, and its token's number modulo K
    start : in, begin a sweep
    layer, turn, position : in, of the token that is swept, sampled with ``start``
    mixed_valid, mixed_index, mixed_value : out, input of SiLU

    Raises
    ------
    ValueError
        If a layer has no bias.
    """

    def __init__(self, *, program: Program, plan: MemoryPlan) -> None:
        shape, scheme = program.shape, program.scheme
        assert shape.frame is not None  # the streaming plan refuses others
        self._shape, self._tokens = shape, shape.frame.tokens
        layers = [layer.convolution for layer in program.average_layers]
        shifts = [own.convolution for own in program.average_shifts]
        layer, turn = index_bits(shape.n_layer), index_bits(shape.d_conv)
        super().__init__(
            convolutions=[own for own in layers if own is not None],
            shifts=[own for own in shifts if own is not None],
            scheme=scheme,
            plan=plan,
            members={
                "x_valid": In(1),
                "x_index": In(index_bits(shape.d_inner)),
                "x_value": In(signed(scheme.activation_bits)),
                "x_layer": In(layer),
                "x_turn": In(turn),
                "start": In(1),
                "layer": In(layer),
                "turn": In(turn),
                "position": In(index_bits(self._tokens)),
                "mixed_valid": Out(1),
                "mixed_index": Out(index_bits(shape.d_inner)),
                "mixed_value": Out(signed(ACTIVATION_INPUT_BITS)),
            },
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        last = self._shape.d_inner - 1
        sweeping, index = Signal(), Signal(index_bits(self._shape.d_inner))
        with m.If(self.start):
            m.d.sync += [sweeping.eq(1), index.eq(0)]
        with m.Elif(sweeping):
            m.d.sync += [index.eq(index + 1), sweeping.eq(index != last)]
        address = self._address(m, self.layer, index, held=True)
        taps = self._taps(m, self._banks(m, address))
        self._mix(m, address, taps)
        wait = self.latency - 1
        m.d.comb += [
            self.mixed_valid.eq(delayed(m, sweeping, wait, name="mixed_valid")),
            self.mixed_index.eq(delayed(m, index, wait, name="mixed_index")),
        ]
        return m

    def _address(self, m: Module, layer: Value, index: Value, *, held: bool) -> Signal:
        """Return the address of a channel, one cycle later; ``held``: of the layer at ``start``."""
        channels, layers = self._shape.d_inner, self._shape.n_layer
        name = "swept" if held else "written"
        address = Signal(index_bits(channels * layers), name=f"{name}_address", reset_less=True)
        bases = [number * channels for number in range(layers)]
        base: Value = select_constant(layer, bases, len(address))
        if held:
            kept = Signal(len(address), name="swept_base", reset_less=True)
            with m.If(self.start):
                m.d.sync += kept.eq(base)
            base = kept
        m.d.sync += address.eq(base + index)
        return address

    def _banks(self, m: Module, address: Signal) -> list[Value]:
        """Write the inputs, and return those of the swept channel two cycles after its address."""
        written = self._address(m, self.x_layer, self.x_index, held=False)
        valid = delayed(m, self.x_valid, 1, name="written_valid")
        value = delayed(m, self.x_value, 1, name="written_value")
        turn = delayed(m, self.x_turn, 1, name="written_turn")
        outputs: list[Value] = []
        for number in range(self._shape.d_conv):
            depth = self._shape.d_inner * self._shape.n_layer
            bank = Memory(shape=signed(self._bits), depth=depth, init=[], attrs=NO_COLLISION)
            m.submodules[f"bank_{number}"] = bank
            write, read = bank.write_port(), bank.read_port()
            m.d.comb += [
                write.addr.eq(written),
                write.data.eq(value),
                write.en.eq(valid & (turn == number)),
                read.addr.eq(address),
            ]
            outputs.append(delayed(m, read.data, 1, name=f"output_{number}"))
        return outputs

    def _taps(self, m: Module, banks: list[Value]) -> list[Value]:
        """Return the K inputs in their order, in step with the parameters; zeros where none are."""
        taps, half, tokens = self._shape.d_conv, self._shape.d_conv // 2, range(self._tokens)
        turn, position = Signal.like(self.turn), Signal.like(self.position)
        with m.If(self.start):
            m.d.sync += [turn.eq(self.turn), position.eq(self.position)]
        # The choice belongs to the address before; a sweep may follow right behind another.
        wait = _ADDRESS + _BANK - 1
        turn = delayed(m, turn, wait, name="late_turn")
        position = delayed(m, position, wait, name="late_position")
        inputs: list[Value] = []
        for tap in range(taps):
            numbers = [(now - half + tap) % taps for now in range(taps)]
            bank = select_constant(turn, numbers, index_bits(taps))
            inside = select_constant(position, [t - half + tap in tokens for t in tokens], 1)
            chosen = Signal(signed(self._bits), name=f"input_{tap}")
            m.d.comb += chosen.eq(Mux(inside, Array(banks)[bank], 0))
            inputs.append(chosen)
        return inputs
