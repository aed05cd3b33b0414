"""W4A5-SE in hardware: the encoder behind SiLU and the dequantizing MUX in front of the scan."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.scheme import DualScale
from hw.pipeline import PlannedRequantizer
from hw.shift_plan import ShiftPlan

__all__ = ["DualScaleDecoder", "DualScaleEncoder", "stored_word"]


def stored_word(fine: Value, coarse: Value, dual_scale: DualScale) -> Value:
    """Return the stored word of a number: the code below, the flag of its scale above.

    Parameters
    ----------
    fine : rounded to the fine step, ``signed(code_bits + 1)``, saturated
    coarse : rounded to the coarse step, ``signed(code_bits)``, saturated
    dual_scale : width of the code and ratio of the scales
    """
    limit, code_bits = dual_scale.code_limit, dual_scale.code_bits
    flag = (fine > limit) | (fine < -limit)
    symmetric = Mux(coarse < -limit, -limit, coarse)
    return Cat(Mux(flag, symmetric, fine)[:code_bits], flag)


class DualScaleEncoder(wiring.Component):
    """Encode a number as a symmetric code and the flag of its scale.

    ``fine = rne(i / 2**s)``, ``coarse = rne(i / 2**(s + ratio_log2))``; the flag is
    ``|fine| > limit`` and selects the coarse code; both codes are clamped to ``-limit..limit``.
    Equal to :func:`golden.operations.dual_scale.encode` followed by ``pack``.

    Latency: ``1 + PlannedRequantizer.latency`` cycles. Throughput: one element a cycle.

    Both codes come from the input itself, each with its own rounding: the coarse one is not the
    fine one rounded again.

    Parameters
    ----------
    dual_scale : DualScale
        Width of the code and ratio of the scales.
    input_width : int
        Bits of the input.
    plan : ShiftPlan
        The fine shifts that occur.

    Members
    -------
    i : In(signed(input_width))
        Number to encode.
    shift : In(unsigned(plan.bits))
        Stored fine shift, in step with ``i``.
    o : Out(unsigned(code_bits + 1))
        Stored word: the two's-complement code below, the flag above it.

    Raises
    ------
    ValueError
        From the requantizer, if a width is outside of its limits.
    """

    def __init__(self, *, dual_scale: DualScale, input_width: int, plan: ShiftPlan) -> None:
        self._dual_scale = dual_scale
        # One bit more than the code's, so that a saturated value still exceeds the limit.
        self._fine = PlannedRequantizer(
            plan=plan, input_width=input_width, output_width=dual_scale.code_bits + 1
        )
        coarse_plan = ShiftPlan(plan.left, plan.maximum + dual_scale.ratio_log2)
        self._coarse = PlannedRequantizer(
            plan=coarse_plan, input_width=input_width, output_width=dual_scale.code_bits
        )
        super().__init__(
            {
                "i": In(signed(input_width)),
                "shift": In(unsigned(plan.bits)),
                "o": Out(unsigned(dual_scale.code_bits + 1)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from an element at ``i`` to its word at ``o``."""
        return 1 + self._fine.latency

    def elaborate(self, _platform: object) -> Module:
        """Build both roundings and the choice between them."""
        m = Module()
        m.submodules.fine = fine = self._fine
        m.submodules.coarse = coarse = self._coarse
        m.d.comb += [
            fine.i.eq(self.i),
            fine.shift.eq(self.shift),
            coarse.i.eq(self.i),
            coarse.shift.eq(self.shift + self._dual_scale.ratio_log2),
        ]
        word = Signal(self.o.shape(), reset_less=True)
        m.d.sync += word.eq(stored_word(fine.o, coarse.o, self._dual_scale))
        m.d.comb += self.o.eq(word)
        return m


class DualScaleDecoder(wiring.Component):
    """The dequantizing MUX: a stored word becomes an integer in fine steps.

    ``o = code << ratio_log2`` if the flag is set, else ``code``. Equal to
    :func:`golden.operations.dual_scale.decode` after ``unpack``.

    Latency: ``0`` cycles, combinational. Throughput: one element a cycle.

    Parameters
    ----------
    dual_scale : DualScale
        Width of the code and ratio of the scales.

    Members
    -------
    i : In(unsigned(code_bits + 1))
        Stored word.
    o : Out(signed(value_bits))
        Integer in fine steps.
    """

    latency = 0

    def __init__(self, *, dual_scale: DualScale) -> None:
        self._dual_scale = dual_scale
        super().__init__(
            {
                "i": In(unsigned(dual_scale.code_bits + 1)),
                "o": Out(signed(dual_scale.value_bits)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """Build the MUX."""
        m = Module()
        code = self.i[:-1].as_signed()
        m.d.comb += self.o.eq(Mux(self.i[-1], code.shift_left(self._dual_scale.ratio_log2), code))
        return m
