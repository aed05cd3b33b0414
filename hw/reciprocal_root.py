"""The reciprocal square root of a positive integer, as a pipe around one table."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from golden.piecewise import (
    MANTISSA_BITS,
    RECIPROCAL_BASE_FRACTION,
    RECIPROCAL_FRACTION,
    RECIPROCAL_SEGMENTS_LOG2,
    RECIPROCAL_SLOPE_FRACTION,
    LinearTable,
)
from hw.multiplier import Arithmetic, registered_product
from hw.parameter_memory import MemoryPlan, ParameterMemory
from hw.pipeline import delayed

MAX_TOTAL_BITS = 62  # what the golden function computes in int64
_FRACTION_BITS = MANTISSA_BITS - 1  # below the leading bit of the upper octave
_OFFSET_BITS = _FRACTION_BITS - RECIPROCAL_SEGMENTS_LOG2
_DROPPED_BITS = RECIPROCAL_SLOPE_FRACTION - RECIPROCAL_FRACTION
_ALIGNMENT = RECIPROCAL_SLOPE_FRACTION - RECIPROCAL_BASE_FRACTION


class ReciprocalRoot(wiring.Component):
    """``1/sqrt(total) = root * 2**-(17 + exponent)``, equal to ``golden`` ``reciprocal_root``.

    Where golden's root is exactly ``2**17``, this one is ``2**16`` and its exponent one less: the
    same number, and the root fits 17 bits, so that it is one operand of an 18-bit signed
    multiplier. For the total 1 the exponent would be -1 and is 0; there every element of a
    residual is zero and the root does not matter.

    The steps, one cycle each where not said otherwise: the leading pair of bits; the shift that
    brings it to the top; rounding to the mantissa; the table (2); slope times offset; the line;
    rounding; the choice of root and exponent. The result then stands still until the next total's.

    Latency: 9 cycles. Throughput: one total a cycle.

    Parameters
    ----------
    total_bits : width of the total, 4 to 62
    table : 512 segments of ``1/sqrt`` on [1, 4), the slope as a positive fall
    plan : where the table lives
    name : unique in the design, of the table's memory

    Members
    -------
    valid : in, ``total`` is present
    total : in, unsigned, not zero
    root : out, unsigned(17), 17 fraction bits, held
    exponent : out, unsigned, right shift of what is multiplied with the root beyond 17, held

    Raises
    ------
    ValueError
        If the width is outside of its limits or a segment of the table leaves [0, 1] or reaches
        1 in the upper octave.
    """

    latency = 9

    def __init__(
        self,
        *,
        total_bits: int,
        table: LinearTable,
        plan: MemoryPlan,
        name: str = "reciprocal_root",
    ) -> None:
        if not 4 <= total_bits <= MAX_TOTAL_BITS:
            raise ValueError(
                f"total_bits = {total_bits} is outside 4..{MAX_TOTAL_BITS}; choose a smaller model"
            )
        _check_table(table)
        self._pairs = (total_bits + 1) // 2
        # A hardware multiplier, whatever else multiplies: one product an engine needs no more.
        self._arithmetic = Arithmetic(primitives=plan.primitives)
        self._base_bits = bits_for(int(table.base.max()))
        self._slope_bits = bits_for(int(table.slope.max()))
        self._table = ParameterMemory(
            name=name,
            width=self._base_bits + self._slope_bits,
            words=[
                int(base) | int(slope) << self._base_bits
                for base, slope in zip(table.base, table.slope, strict=True)
            ],
            plan=plan,
        )
        super().__init__(
            {
                "valid": In(1),
                "total": In(total_bits),
                "root": Out(RECIPROCAL_FRACTION),
                "exponent": Out(range(self._pairs)),
            }
        )

    @property
    def max_exponent(self) -> int:
        """Largest value of ``exponent``."""
        return self._pairs - 1

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        lift = self._lift(m)
        mantissa = self._mantissa(m, lift)
        line = self._line(m, mantissa)
        # Half to even: the last kept bit decides a tie.
        half = 1 << (_DROPPED_BITS - 1)
        below = line[:_DROPPED_BITS]
        round_up = (below > half) | ((below == half) & line[_DROPPED_BITS])
        rounded = Signal(RECIPROCAL_FRACTION + 1, reset_less=True)
        one = rounded[RECIPROCAL_FRACTION]
        exponent = Signal.like(self.exponent, reset_less=True)
        lift = delayed(m, lift, self.latency - 3, name="lift")
        m.d.sync += rounded.eq(line[_DROPPED_BITS:] + round_up)
        m.d.sync += exponent.eq(self.max_exponent - lift)
        with m.If(delayed(m, self.valid, self.latency - 1, name="valid")):
            m.d.sync += [
                self.root.eq(Cat(rounded[: RECIPROCAL_FRACTION - 1], rounded[-2] | one)),
                self.exponent.eq(exponent - (one & exponent.any())),
            ]
        return m

    def _lift(self, m: Module) -> Signal:
        """Return in cycle 1 how many pairs of bits lie above the leading one.

        A tree: the count of two halves is the upper half's, or the lower half's and one more bit.
        """
        occupied: list[Value] = [
            self.total[2 * pair : 2 * pair + 2].any() for pair in range(self._pairs)
        ]
        padding = (1 << (self._pairs - 1).bit_length()) - self._pairs
        nodes: list[tuple[Value, list[Value]]] = [
            (pair, []) for pair in [*reversed(occupied), *[Const(0, 1)] * padding]
        ]
        while len(nodes) > 1:
            nodes = [
                (
                    above | below,
                    [*(Mux(above, a, b) for a, b in zip(high, low, strict=True)), ~above],
                )
                for (above, high), (below, low) in zip(nodes[::2], nodes[1::2], strict=True)
            ]
        lift = Signal(range(self._pairs), reset_less=True)
        m.d.sync += lift.eq(Cat(*nodes[0][1]))
        return lift

    def _mantissa(self, m: Module, lift: Signal) -> Signal:
        """Return in cycle 3 the mantissa in [1, 4), 16 fraction bits, half to even, saturated."""
        width = max(2 * self._pairs, MANTISSA_BITS + 1)
        value: Value = delayed(m, self.total, 1, name="total") << (width - 2 * self._pairs)
        for position in reversed(range(len(lift))):
            step = Signal(width, name=f"lifted_by_{2 << position}")
            m.d.comb += step.eq(Mux(lift[position], value << (2 << position), value))
            value = step
        lifted = Signal(width, reset_less=True)
        mantissa = Signal(MANTISSA_BITS, reset_less=True)
        kept, below = lifted[-MANTISSA_BITS:], lifted[: -MANTISSA_BITS - 1]
        round_up = lifted[-MANTISSA_BITS - 1] & (kept[0] | below.any())
        m.d.sync += [lifted.eq(value), mantissa.eq(kept + (round_up & ~kept.all()))]
        return mantissa

    def _line(self, m: Module, mantissa: Signal) -> Signal:
        """Return in cycle 7 the table's line at the mantissa, 28 fraction bits."""
        m.submodules.table = table = self._table
        upper = mantissa[-1]
        octave = Signal(_FRACTION_BITS)
        # The offset counts units of 2**-16 in both octaves; the lower one's has a bit less.
        offset = Mux(upper, octave[:_OFFSET_BITS], octave[1:_OFFSET_BITS])
        m.d.comb += [
            octave.eq(Mux(upper, mantissa[:_FRACTION_BITS], mantissa << 1)),
            table.address.eq(Cat(octave[_OFFSET_BITS:], upper)),
        ]
        line = Signal(RECIPROCAL_SLOPE_FRACTION + 1, reset_less=True)
        base = delayed(m, table.data[: self._base_bits], 1, name="base")
        offset = delayed(m, offset, table.latency, name="offset")
        slope = table.data[self._base_bits :]
        product = registered_product(m, slope, offset, self._arithmetic, name="product")
        m.d.sync += line.eq((base << _ALIGNMENT) - product)
        return line


def _check_table(table: LinearTable) -> None:
    """Refuse a table whose root could be negative, above 1, or 1 for a total of 2 or 3."""
    segments = 2 << RECIPROCAL_SEGMENTS_LOG2
    if len(table.base) != segments or len(table.slope) != segments:
        raise ValueError(f"the table has {len(table.base)} segments, {segments} are needed")
    if table.slope.min() < 0 or table.base.max() > 1 << RECIPROCAL_BASE_FRACTION:
        raise ValueError(
            f"the table's base reaches {table.base.max()} and its slope {table.slope.min()}; "
            f"at most {1 << RECIPROCAL_BASE_FRACTION} and at least 0 are possible"
        )
    lowest = (table.base << _ALIGNMENT) - (table.slope << _OFFSET_BITS)
    if lowest.min() < 0:
        raise ValueError(f"a segment of the table falls to {lowest.min()}, below 0")
    # Half of a root's last place below one, in the base's units.
    limit = (1 << RECIPROCAL_BASE_FRACTION) - (1 << (_DROPPED_BITS - 1 - _ALIGNMENT))
    upper = table.base[segments // 2 :]
    if upper.max() >= limit:
        raise ValueError(
            f"the table's upper octave reaches {upper.max()}, must be below {limit} so that only "
            "a total of 1 has the root 1 and the exponent 0"
        )
