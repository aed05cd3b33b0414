"""Parts of statically scheduled units: delay lines, adder trees, counters, planned requantizers.

Nothing here has a handshake. A unit accepts an element in every cycle and delivers it a fixed
number of cycles later; flags travel beside the data through :func:`delayed`.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Const, Module, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.requantizer import ShiftRequantizer
from hw.shift_plan import ShiftPlan

__all__ = [
    "ChannelCounter",
    "PlannedRequantizer",
    "connect_vector",
    "delayed",
    "index_bits",
    "magnitude_bits",
    "pipelined_sum",
    "select_constant",
    "sum_latency",
]


def index_bits(count: int) -> int:
    """Return the width of an index into ``count`` entries, at least 1 so that the port exists."""
    return max(1, (count - 1).bit_length())


def magnitude_bits(bound: int) -> int:
    """Return the width of a signed format that holds ``-bound..bound``."""
    return bound.bit_length() + 1


def delayed(m: Module, value: Value, cycles: int, *, name: str) -> Value:
    """Return ``value`` as it was ``cycles`` cycles ago.

    One bit is a flag and is cleared by reset, so that no stale element is announced after it;
    wider data needs no reset.
    """
    for age in range(1, cycles + 1):
        register = Signal(value.shape(), name=f"{name}_{age}", reset_less=len(value) > 1)
        m.d.sync += register.eq(value)
        value = register
    return value


def sum_latency(terms: int) -> int:
    """Return the cycles :func:`pipelined_sum` takes for that many terms: ``ceil(log2(terms))``."""
    return (terms - 1).bit_length()


def pipelined_sum(m: Module, terms: Sequence[Value], *, name: str) -> Value:
    """Return the exact sum of ``terms``, one registered adder level a cycle."""
    level = 0
    while len(terms) > 1:
        level += 1
        sums: list[Value] = []
        for position in range(0, len(terms), 2):
            total = sum(terms[position + 1 : position + 2], terms[position])
            register = Signal(total.shape(), name=f"{name}_{level}_{position}", reset_less=True)
            m.d.sync += register.eq(total)
            sums.append(register)
        terms = sums
    return terms[0]


def select_constant(index: Value, values: Sequence[int], width: int) -> Value:
    """Return ``values[index]`` as an unsigned number of ``width`` bits."""
    return Array([Const(int(value), width) for value in values])[index]


class PlannedRequantizer(wiring.Component):
    """A :class:`ShiftRequantizer` for shifts of both signs, as a :class:`ShiftPlan` stores them.

    ``o = saturate(rne(i / 2**(shift - plan.left)))``. The left shift that all amounts have in
    common is wires.

    Latency: that of the requantizer. Throughput: one element a cycle.

    Parameters
    ----------
    plan : ShiftPlan
        The amounts that occur.
    input_width : int
        Bits of the input.
    output_width : int
        Bits of the output.
    input_signed, output_signed : bool
        Two's complement or unsigned.

    Members
    -------
    i : In(signed(input_width) or unsigned(input_width))
        Element.
    shift : In(unsigned(plan.bits))
        Stored amount, in step with ``i``.
    o : Out(signed(output_width) or unsigned(output_width))
        Result.

    Raises
    ------
    ValueError
        From the requantizer, if a width is outside of its limits.
    """

    def __init__(
        self,
        *,
        plan: ShiftPlan,
        input_width: int,
        output_width: int,
        input_signed: bool = True,
        output_signed: bool = True,
    ) -> None:
        self._plan = plan
        self._requantizer = ShiftRequantizer(
            input_width=input_width + plan.left + (not input_signed),
            output_width=output_width,
            max_shift=max(1, plan.maximum),
            output_signed=output_signed,
        )
        super().__init__(
            {
                "i": In(signed(input_width) if input_signed else unsigned(input_width)),
                "shift": In(unsigned(plan.bits)),
                "o": Out(signed(output_width) if output_signed else unsigned(output_width)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from an element at ``i`` to its result at ``o``."""
        return self._requantizer.latency

    def elaborate(self, _platform: object) -> Module:
        """Wire the constant left shift in front of the requantizer."""
        m = Module()
        m.submodules.requantizer = requantizer = self._requantizer
        m.d.comb += [
            requantizer.i.eq(self.i.shift_left(self._plan.left)),
            requantizer.shift.eq(self.shift),
            self.o.eq(requantizer.o),
        ]
        return m


class ChannelCounter(wiring.Component):
    """Count ``steps`` steps of each channel of one layer, back to back.

    In the cycle ``1 + e steps + t`` after ``start`` the outputs show channel ``e`` and step ``t``.
    The addresses start at the layer's first word, so that no multiplier forms them. Each consumer
    has a counter of its own: that is cheaper than delaying addresses along the pipeline.

    Latency: ``1`` cycle from ``start`` to the first step. Throughput: one step a cycle.

    Parameters
    ----------
    layers, channels, steps : int
        Sizes of the address space.

    Members
    -------
    start : In(1)
        Pulse that begins a layer.
    layer : In(index_bits(layers))
        Layer to begin, sampled with ``start``.
    valid : Out(1)
        Whether a step is shown; the other outputs mean nothing if not.
    first, last : Out(1)
        Whether it is the channel's first or last step; low if not ``valid``.
    step : Out(index_bits(steps))
        Step in the channel, t.
    channel : Out(index_bits(channels))
        Channel, e.
    channel_address : Out(index_bits(layers * channels))
        ``layer channels + e``.
    step_address : Out(index_bits(layers * channels * steps))
        ``(layer channels + e) steps + t``.
    """

    latency = 1

    def __init__(self, *, layers: int, channels: int, steps: int) -> None:
        self._layers, self._channels, self._steps = layers, channels, steps
        super().__init__(
            {
                "start": In(1),
                "layer": In(index_bits(layers)),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "step": Out(index_bits(steps)),
                "channel": Out(index_bits(channels)),
                "channel_address": Out(index_bits(layers * channels)),
                "step_address": Out(index_bits(layers * channels * steps)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """Build the counters; they hold their last values when done."""
        m = Module()
        # A start sets them, so they need no reset, which would only lengthen its path.
        step, channel, channel_address, step_address = (
            Signal(len(getattr(self, name)), name=f"{name}_count", reset_less=True)
            for name in ("step", "channel", "channel_address", "step_address")
        )
        m.d.comb += [
            self.step.eq(step),
            self.channel.eq(channel),
            self.channel_address.eq(channel_address),
            self.step_address.eq(step_address),
            self.first.eq(self.valid & (step == 0)),
            self.last.eq(self.valid & (step == self._steps - 1)),
        ]
        # Known a cycle ahead, as the end steers every register.
        last_channel = Signal(reset_less=True)
        with m.If(self.start):
            m.d.sync += [
                self.valid.eq(1),
                step.eq(0),
                channel.eq(0),
                last_channel.eq(self._channels == 1),
                channel_address.eq(self._layer_base(self._channels)),
                step_address.eq(self._layer_base(self._channels * self._steps)),
            ]
        with m.Elif(self.last & last_channel):
            m.d.sync += self.valid.eq(0)
        with m.Elif(self.valid):
            m.d.sync += [step.eq(step + 1), step_address.eq(step_address + 1)]
            with m.If(self.last):
                m.d.sync += [
                    step.eq(0),
                    channel.eq(channel + 1),
                    last_channel.eq(channel == self._channels - 2),
                    channel_address.eq(channel_address + 1),
                ]
        return m

    def _layer_base(self, words: int) -> Value:
        bases = [layer * words for layer in range(self._layers)]
        return select_constant(self.layer, bases, max(1, bases[-1].bit_length()))


def connect_vector(
    m: Module, target: wiring.Component, to: str, source: wiring.Component, prefix: str
) -> None:
    """Wire valid, index and value of one unit to another's."""
    m.d.comb += [
        getattr(target, f"{to}_{part}").eq(getattr(source, f"{prefix}_{part}"))
        for part in ("valid", "index", "value")
    ]
