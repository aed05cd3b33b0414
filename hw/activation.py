"""SiLU, softplus and sigmoid: a rectifier or a step and a tabulated even correction."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.fixed_point import bits_for
from golden.piecewise import (
    ACTIVATION_DOMAIN_LOG2,
    ACTIVATION_INPUT_BITS,
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
    ACTIVATION_SEGMENTS_LOG2,
    LinearTable,
)
from hw.multiplier import PIPELINED_PRODUCT, pipelined_product
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields
from hw.pipeline import delayed

__all__ = ["ACTIVATION_OUTPUT_BITS", "EvenActivation"]

_OFFSET_BITS = ACTIVATION_DOMAIN_LOG2 + ACTIVATION_INPUT_FRACTION - ACTIVATION_SEGMENTS_LOG2
_RAISE = ACTIVATION_OUTPUT_FRACTION - ACTIVATION_INPUT_FRACTION

ACTIVATION_OUTPUT_BITS = ACTIVATION_INPUT_BITS + _RAISE
"""Width of the exact result: the correction vanishes where ``relu`` needs the top bit."""


class EvenActivation(wiring.Component):
    """SiLU, softplus or sigmoid of a fixed-point number, exact to the table.

    ``o = (max(i, 0) << 11) + sign (base[s] + slope[s] d)``, where ``s`` is the segment and ``d``
    the offset of ``|i|`` in it; the bracket is 0 for ``|i| >= 16``. Equal to
    :func:`golden.operations.activation.silu` and :func:`~golden.operations.activation.softplus`.
    With ``step`` it is ``(1 << 23) - bracket`` for ``i >= 0``, else the bracket:
    :func:`golden.operations.moving_average.sigmoid`.

    Latency: ``5 + ParameterMemory.latency`` cycles: magnitude, table, product (2), correction, sum.
    Throughput: one element a cycle.

    Parameters
    ----------
    table : LinearTable
        Even correction on [0, 16).
    subtract : bool
        True subtracts the correction (SiLU), false adds it (softplus).
    step : bool
        The rectified part is a step, and the correction's sign follows that of the argument.
    plan : MemoryPlan
        Where the table lives.
    name : str
        Unique name of the table's memory.

    Members
    -------
    i : In(signed(18))
        Argument, 12 fraction bits.
    o : Out(signed(29))
        Result, 23 fraction bits.

    Raises
    ------
    ValueError
        If the table has not ``2**9`` segments.
    """

    def __init__(
        self,
        *,
        table: LinearTable,
        plan: MemoryPlan,
        name: str,
        subtract: bool = False,
        step: bool = False,
    ) -> None:
        segments = 1 << ACTIVATION_SEGMENTS_LOG2
        if len(table.base) != segments or len(table.slope) != segments:
            raise ValueError(
                f"table {name!r} has {len(table.base)} bases and {len(table.slope)} slopes; "
                f"the unit addresses {segments} segments"
            )
        self._subtract, self._step, self._arithmetic = subtract, step, plan.arithmetic
        self._base_bits = bits_for(table.base, signed=False)
        self._slope_bits = bits_for(table.slope)
        words = [
            pack_fields([base], self._base_bits)
            | pack_fields([slope], self._slope_bits) << self._base_bits
            for base, slope in zip(table.base, table.slope, strict=True)
        ]
        self._table = ParameterMemory(
            name=name, width=self._base_bits + self._slope_bits, words=words, plan=plan
        )
        super().__init__(
            {"i": In(signed(ACTIVATION_INPUT_BITS)), "o": Out(signed(ACTIVATION_OUTPUT_BITS))}
        )

    @property
    def latency(self) -> int:
        """Cycles from an element at ``i`` to its result at ``o``."""
        return 3 + PIPELINED_PRODUCT + self._table.latency

    def elaborate(self, _platform: object) -> Module:
        """Build magnitude, table read, interpolation and the sum with the rectified part."""
        m = Module()
        # The most negative argument has a magnitude of one bit more than a positive one.
        magnitude = Signal(ACTIVATION_INPUT_BITS, reset_less=True)
        m.d.sync += magnitude.eq(Mux(self.i < 0, -self.i, self.i))
        correction = self._correction(m, magnitude)
        total = Signal(self.o.shape(), reset_less=True)
        if self._step:
            upper = delayed(m, self.i >= 0, self.latency - 1, name="upper")
            one = 1 << ACTIVATION_OUTPUT_FRACTION
            m.d.sync += total.eq(Mux(upper, one - correction, correction))
        else:
            positive = Signal(ACTIVATION_INPUT_BITS - 1)
            m.d.comb += positive.eq(Mux(self.i < 0, 0, self.i))
            rectified = delayed(m, positive, self.latency - 1, name="rectified")
            raised = Cat(rectified.shift_left(_RAISE), 0).as_signed()
            m.d.sync += total.eq(raised - correction if self._subtract else raised + correction)
        m.d.comb += self.o.eq(total)
        return m

    def _correction(self, m: Module, magnitude: Signal) -> Signal:
        """Return the registered correction, three cycles behind the table's data."""
        m.submodules.table = table = self._table
        inside_bits = _OFFSET_BITS + ACTIVATION_SEGMENTS_LOG2
        m.d.comb += table.address.eq(magnitude[_OFFSET_BITS:inside_bits])
        inside: Value = ~magnitude[inside_bits:].any()
        inside = delayed(m, inside, table.latency + PIPELINED_PRODUCT, name="inside")
        offset = delayed(m, magnitude[:_OFFSET_BITS], table.latency, name="offset")
        base = table.data[: self._base_bits]
        slope = table.data[self._base_bits :].as_signed()
        product = pipelined_product(m, slope, offset, self._arithmetic, name="product")
        product_base = delayed(m, base, PIPELINED_PRODUCT, name="product_base")
        correction = Signal(signed(self._base_bits + 2), reset_less=True)
        m.d.sync += correction.eq(Mux(inside, product_base + product, 0))
        return correction
