"""Narrowing of wide integers: round half to even by a shift, then saturate."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

__all__ = ["ShiftRequantizer"]

MAX_WIDTH = 64  # wider than any accumulator here; also bounds the shift


class ShiftRequantizer(wiring.Component):
    """Divide by a power of two, round half to even and saturate, one element a cycle.

    ``o = min(max(rne(i / 2**shift), low), high)``, where ``rne`` rounds to the nearest integer
    and a tie to the even one, and ``low..high`` is the range of the output's format. Equal to
    :func:`golden.fixed_point.requantize`.

    The unit is a plain pipe: it has no handshake, accepts an element in every cycle and delivers
    it a fixed number of cycles later. What surrounds it delays its own flags by ``latency``.

    Latency: ``2`` cycles. Throughput: one element a cycle.

    The first cycle is a logarithmic shifter that keeps the last bit shifted out (*guard*) and
    whether any bit before it was set (*sticky*). The second adds the rounding bit to the low
    ``output_width`` bits only: a value that is at the top of the range or above it becomes the top
    whether it is rounded up or not, and likewise below the bottom, so the carry never has to run
    through the wide value and saturation is decided beside the addition.

    Parameters
    ----------
    input_width : int
        Bits of the signed input, 2 to 64.
    output_width : int
        Bits of the output, 2 to 64; it may exceed the input's.
    max_shift : int
        Largest shift that is used, 1 to 64. The ``shift`` port has just the bits it needs, and
        every value these can express is computed correctly, a larger one than ``max_shift`` too.
    output_signed : bool
        Two's-complement output if true, else unsigned, where negative values saturate to 0.

    Members
    -------
    i : In(signed(input_width))
        Element, in units of the input's last place.
    shift : In(unsigned(ceil_log2(max_shift + 1)))
        Bits to drop from the element that is at ``i`` in the same cycle.
    o : Out(signed(output_width) or unsigned(output_width))
        Result, in units of ``2**shift`` last places of the input.
    saturated : Out(1)
        Whether the rounded value was outside of the output's range. In step with ``o``.

    Raises
    ------
    TypeError
        If a width or the shift is not an integer.
    ValueError
        If a width or the shift is outside of its limits.
    """

    latency = 2

    def __init__(
        self,
        *,
        input_width: int,
        output_width: int,
        max_shift: int,
        output_signed: bool = True,
    ) -> None:
        _check("input_width", input_width, 2)
        _check("output_width", output_width, 2)
        _check("max_shift", max_shift, 1)
        self.input_width = input_width
        self.output_width = output_width
        self.max_shift = max_shift
        self.output_signed = output_signed
        output_shape = signed(output_width) if output_signed else unsigned(output_width)
        super().__init__(
            {
                "i": In(signed(input_width)),
                "shift": In(unsigned(bits_for(max_shift))),
                "o": Out(output_shape),
                "saturated": Out(1),
            }
        )

    @property
    def output_range(self) -> tuple[int, int]:
        """Smallest and largest value of ``o``."""
        if self.output_signed:
            return -(1 << (self.output_width - 1)), (1 << (self.output_width - 1)) - 1
        return 0, (1 << self.output_width) - 1

    def elaborate(self, _platform: object) -> Module:
        """Build the shifter, the register behind it, and the rounding and saturating stage."""
        m = Module()
        # One bit more than the output's format, so that the sign always stands above it.
        floor_shape = signed(max(self.input_width, self.output_width + 1))
        floor = Signal(floor_shape, reset_less=True)
        guard = Signal(reset_less=True)
        sticky = Signal(reset_less=True)
        shifted, lost = self._shift(m)
        m.d.sync += [
            guard.eq(shifted[0]),
            floor.eq(shifted[1:].as_signed()),
            sticky.eq(lost),
        ]
        self._round_and_saturate(m, floor, guard & (sticky | floor[0]))
        return m

    def _shift(self, m: Module) -> tuple[Signal, Value]:
        """Return floor and guard as one vector, guard lowest, and the sticky bit.

        The widest step comes first: the many bits that it drops then come straight from the
        input, and the late steps, whose inputs arrive last, drop few.
        """
        shape = signed(self.input_width + 1)
        value = Signal(shape, name="shift_input")
        m.d.comb += value.eq(Cat(0, self.i))
        lost = []
        for position in reversed(range(len(self.shift))):
            distance = 1 << position
            step = Signal(shape, name=f"shifted_by_{distance}")
            dropped = Signal(name=f"dropped_by_{distance}")
            m.d.comb += [
                step.eq(Mux(self.shift[position], value >> distance, value)),
                dropped.eq(self.shift[position] & value[: min(distance, len(value))].any()),
            ]
            lost.append(dropped)
            value = step
        return value, Cat(*lost).any()

    def _round_and_saturate(self, m: Module, floor: Signal, round_up: Value) -> None:
        """Drive the outputs from the floor of the quotient and its rounding bit."""
        low, high = self.output_range
        magnitude_bits = self.output_width - 1 if self.output_signed else self.output_width
        above = floor[magnitude_bits:]  # all equal to the sign if the value fits
        negative = floor[-1]
        exceeds_high = Signal()
        at_high = Signal()
        below_low = Signal()
        just_below_low = Signal()
        low_bits_full = Signal()
        o = Signal.like(self.o)
        m.d.comb += [
            low_bits_full.eq(floor[:magnitude_bits].all()),
            exceeds_high.eq(~negative & above.any()),
            at_high.eq(~above.any() & low_bits_full),
            below_low.eq(negative & ~above.all() if self.output_signed else negative),
            just_below_low.eq(floor == low - 1),
        ]
        with m.If(exceeds_high | at_high):
            m.d.comb += o.eq(high)
        with m.Elif(below_low):
            m.d.comb += o.eq(low)
        with m.Else():
            m.d.comb += o.eq(floor[: self.output_width] + round_up)
        overflow = exceeds_high | (at_high & round_up)
        underflow = below_low & ~(just_below_low & round_up)
        output = Signal(self.o.shape(), reset_less=True)
        saturated = Signal(reset_less=True)
        m.d.sync += [output.eq(o), saturated.eq(overflow | underflow)]
        m.d.comb += [self.o.eq(output), self.saturated.eq(saturated)]


def _check(name: str, value: int, minimum: int) -> None:
    """Refuse a parameter that is no integer or outside of ``minimum..MAX_WIDTH``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not minimum <= value <= MAX_WIDTH:
        raise ValueError(f"{name} {value} is outside {minimum}..{MAX_WIDTH}; choose within it")
