"""The decay ``2**-x`` of the scan, one unit a lane."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.fixed_point import bits_for
from golden.piecewise import (
    EXPONENT_BASE_FRACTION,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    EXPONENT_SEGMENTS_LOG2,
    EXPONENT_SLOPE_FRACTION,
    LinearTable,
)
from hw.multiplier import PIPELINED_PRODUCT, SYNTHESIZED, Arithmetic, pipelined_product
from hw.pipeline import delayed, select_constant
from hw.requantizer import ShiftRequantizer

__all__ = ["DecayUnit"]

_OFFSET_BITS = EXPONENT_FRACTION - EXPONENT_SEGMENTS_LOG2
_WHOLE_BITS = EXPONENT_BITS - EXPONENT_FRACTION
_KEPT_BELOW = 2
"""Fraction bits of the reduced mantissa below the result's: a guard bit and a sticky bit."""


class DecayUnit(wiring.Component):
    """``2**-argument`` with one rounding.

    ``o = rne((base[s] * 2**8 - fall[s] d) / 2**(whole + 24 - decay_bits))`` with the argument's
    integer part ``whole``, segment ``s`` and offset ``d``. Equal to
    :func:`golden.operations.exponent.decay`.

    Latency: ``5 + ShiftRequantizer.latency`` cycles: table, product (2), mantissa, reduction,
    rounding. Throughput: one element a cycle.

    The ``24 - decay_bits`` bits that every shift drops are reduced to a guard and a sticky bit
    before the shifter, which halves its width and leaves the rounding exact.

    Parameters
    ----------
    table : LinearTable
        ``2**-x`` on [0, 1); the slope is a positive fall. It becomes constants in logic.
    decay_bits : int
        Fraction bits of the result, 4 to 16.
    arithmetic : Arithmetic
        How products are built.

    Members
    -------
    i : In(unsigned(16))
        Argument, 12 fraction bits.
    o : Out(unsigned(decay_bits + 1))
        Decay in ``0..2**decay_bits``.

    Raises
    ------
    ValueError
        If ``decay_bits`` is outside 4..16 or the table has not ``2**5`` segments.
    """

    def __init__(
        self,
        *,
        table: LinearTable,
        decay_bits: int,
        arithmetic: Arithmetic = SYNTHESIZED,
    ) -> None:
        segments = 1 << EXPONENT_SEGMENTS_LOG2
        if len(table.base) != segments or len(table.slope) != segments:
            raise ValueError(
                f"the exponent table has {len(table.base)} bases and {len(table.slope)} slopes; "
                f"the unit addresses {segments} segments"
            )
        if not 4 <= decay_bits <= 16:
            raise ValueError(f"decay_bits {decay_bits} is outside 4..16; choose within it")
        self._table, self._arithmetic = table, arithmetic
        self._decay_bits = decay_bits
        self._rounding = ShiftRequantizer(
            input_width=decay_bits + 1 + _KEPT_BELOW + 1,
            output_width=decay_bits + 1,
            max_shift=(1 << _WHOLE_BITS) - 1 + _KEPT_BELOW,
            output_signed=False,
        )
        super().__init__({"i": In(unsigned(EXPONENT_BITS)), "o": Out(unsigned(decay_bits + 1))})

    @property
    def latency(self) -> int:
        """Cycles from an element at ``i`` to its result at ``o``."""
        return 3 + PIPELINED_PRODUCT + self._rounding.latency

    def elaborate(self, _platform: object) -> Module:
        """Build interpolation, reduction and the rounding shifter."""
        m = Module()
        m.submodules.rounding = rounding = self._rounding
        mantissa = self._mantissa(m)
        # Guard bit and everything above it stay; what is below becomes one sticky bit.
        sticky_bits = EXPONENT_SLOPE_FRACTION - self._decay_bits - 1
        reduced = Signal(self._decay_bits + 1 + _KEPT_BELOW, reset_less=True)
        shift = Signal(rounding.shift.shape(), reset_less=True)
        whole = delayed(m, self.i[EXPONENT_FRACTION:], 2 + PIPELINED_PRODUCT, name="whole")
        m.d.sync += [
            reduced.eq(Cat(mantissa[:sticky_bits].any(), mantissa[sticky_bits:])),
            shift.eq(whole + _KEPT_BELOW),
        ]
        m.d.comb += [
            rounding.i.eq(reduced),
            rounding.shift.eq(shift),
            self.o.eq(rounding.o),
        ]
        return m

    def _mantissa(self, m: Module) -> Signal:
        """Return the registered mantissa with 24 fraction bits, four cycles behind ``i``."""
        base_bits = bits_for(self._table.base, signed=False)
        slope_bits = bits_for(self._table.slope, signed=False)
        segment = self.i[_OFFSET_BITS:EXPONENT_FRACTION]
        base = Signal(base_bits, reset_less=True)
        slope = Signal(slope_bits, reset_less=True)
        offset = Signal(_OFFSET_BITS, reset_less=True)
        m.d.sync += [
            base.eq(select_constant(segment, self._table.base.tolist(), base_bits)),
            slope.eq(select_constant(segment, self._table.slope.tolist(), slope_bits)),
            offset.eq(self.i[:_OFFSET_BITS]),
        ]
        product = pipelined_product(m, slope, offset, self._arithmetic, name="product")
        product_base = delayed(m, base, PIPELINED_PRODUCT, name="product_base")
        mantissa = Signal(EXPONENT_SLOPE_FRACTION + 1, reset_less=True)
        raised = product_base.shift_left(EXPONENT_SLOPE_FRACTION - EXPONENT_BASE_FRACTION)
        m.d.sync += mantissa.eq(raised - product)
        return mantissa
