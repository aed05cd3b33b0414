"""The pieces of the dual-scale format as components of their own, for measuring."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.fixed_point import bits_for
from golden.program import Program
from golden.scheme import DualScale
from hw.dual_scale import DualScaleEncoder, stored_word
from hw.scan_lane import ScanLane
from hw.shift_plan import ShiftPlan


class Packer(wiring.Component):
    """What the encoder adds behind its two roundings: the flag, the symmetric clamp, the choice.

    Latency: ``0`` cycles, combinational.

    Parameters
    ----------
    dual_scale : width of the code

    Members
    -------
    fine, coarse : in, the number rounded to each step, as the encoder's requantizers give it
    o : out, the stored word
    """

    def __init__(self, *, dual_scale: DualScale) -> None:
        self._dual_scale = dual_scale
        bits = dual_scale.code_bits
        super().__init__(
            {
                "fine": In(signed(bits + 1)),
                "coarse": In(signed(bits)),
                "o": Out(unsigned(bits + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.d.comb += self.o.eq(stored_word(self.fine, self.coarse, self._dual_scale))
        return m


class Unpacker(wiring.Component):
    """A stored word as code and flag: wires.

    Parameters
    ----------
    dual_scale : width of the code

    Members
    -------
    i : in, the stored word
    code, flag : out
    """

    def __init__(self, *, dual_scale: DualScale) -> None:
        bits = dual_scale.code_bits
        super().__init__({"i": In(bits + 1), "code": Out(signed(bits)), "flag": Out(1)})

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.d.comb += [self.code.eq(self.i[:-1].as_signed()), self.flag.eq(self.i[-1])]
        return m


def scan_lane(program: Program) -> ScanLane:
    """Return one lane of the program's scan engine."""
    rates = np.stack([layer.decay_rate for layer in program.scan_layers])
    return ScanLane(
        program=program,
        # With heads the decay comes in.
        rate_bits=None if program.shape.heads else bits_for(rates, signed=False),
        argument_plan=ShiftPlan.covering(shifts.argument for shifts in program.scan_shifts),
        update_plan=ShiftPlan.covering(shifts.update for shifts in program.scan_shifts),
    )


def encoder(dual_scale: DualScale, input_width: int, largest_shift: int) -> DualScaleEncoder:
    """Return the whole encoder with both of its rounding shifters."""
    return DualScaleEncoder(
        dual_scale=dual_scale, input_width=input_width, plan=ShiftPlan(0, largest_shift)
    )
