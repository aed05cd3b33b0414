"""One lane of the scan: decay, update and state of one ``(channel, n)`` a cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.piecewise import EXPONENT_BITS
from golden.program import Program
from hw.exponent import DecayUnit
from hw.multiplier import (
    PIPELINED_PRODUCT,
    SYNTHESIZED,
    WIDE_PRODUCT,
    Arithmetic,
    pipelined_product,
    wide_product,
)
from hw.pipeline import PlannedRequantizer
from hw.requantizer import ShiftRequantizer
from hw.shift_plan import ShiftPlan

__all__ = ["ScanLane"]


class ScanLane(wiring.Component):
    """Advance one state and form its product with C.

    ``argument = requantize(delta rate, argument_shift)``,
    ``update = requantize(drive b, update_shift)``,
    ``new = requantize(2**-argument old + update, decay_bits)``, ``product = new c``. Equal to
    one element of :func:`golden.operations.scan.scan_step`. With a *shared decay* (Mamba-2, where
    all states of a head decay alike) ``2**-argument`` comes in from outside, and the lane has
    neither the product with the rate nor a decay unit.

    The operands of one element arrive at different cycles, counted from that of ``delta`` and
    ``rate``: each as late as it is used, since the engine can delay shared operands once for all
    lanes. All of them come from registers, and every product is registered.

    Latency: ``latency`` cycles to ``product`` and ``state_offset`` to ``new``. Throughput: one
    element a cycle.

    Parameters
    ----------
    program : Program
        Widths and the table of ``2**-x``.
    rate_bits : int | None
        Bits of a decay rate; None for a shared decay.
    argument_plan, update_plan : ShiftPlan
        Shifts of the two requantizers.
    arithmetic : Arithmetic
        How products are built.

    Members
    -------
    delta : In(unsigned(delta_bits))
        Step size, cycle 0.
    rate : In(unsigned(rate_bits))
        Decay rate, cycle 0.
    argument_shift : In(unsigned(argument_plan.bits))
        Stored shift of the exponent's argument, constant during a layer.
    decay : In(unsigned(decay_bits + 1))
        In place of the three before, with a shared decay: cycle ``old_offset``.
    drive : In(signed(delta_bits + scan_input_bits))
        ``delta u``, cycle ``drive_offset``.
    b : In(signed(activation_bits))
        Cycle ``drive_offset``.
    update_shift : In(unsigned(update_plan.bits))
        Stored shift of the update, cycle ``drive_offset + 3``.
    old : In(signed(state_bits))
        State before the update, cycle ``old_offset``.
    new : Out(signed(state_bits))
        State after it, cycle ``state_offset``.
    c : In(signed(activation_bits))
        Cycle ``state_offset``.
    product : Out(signed(state_bits + activation_bits))
        ``new c``, cycle ``latency``.
    """

    def __init__(
        self,
        *,
        program: Program,
        rate_bits: int | None,
        argument_plan: ShiftPlan,
        update_plan: ShiftPlan,
        arithmetic: Arithmetic = SYNTHESIZED,
    ) -> None:
        scheme = self._scheme = program.scheme
        self._arithmetic, self._shared = arithmetic, rate_bits is None
        drive_bits = scheme.delta_bits + scheme.scan_input_bits
        members: dict[str, In | Out] = {"decay": In(unsigned(scheme.decay_bits + 1))}
        if rate_bits is not None:
            self._argument = PlannedRequantizer(
                plan=argument_plan,
                input_width=scheme.delta_bits + rate_bits,
                output_width=EXPONENT_BITS,
                input_signed=False,
                output_signed=False,
            )
            self._decay = DecayUnit(
                table=program.tables.exponent, decay_bits=scheme.decay_bits, arithmetic=arithmetic
            )
            members = {
                "delta": In(unsigned(scheme.delta_bits)),
                "rate": In(unsigned(rate_bits)),
                "argument_shift": In(unsigned(argument_plan.bits)),
            }
        self._update = PlannedRequantizer(
            plan=update_plan,
            input_width=drive_bits + scheme.activation_bits,
            output_width=scheme.update_bits,
        )
        # |decay old| <= 2**(decay_bits + state_bits - 1), well inside the update's format.
        self._state = ShiftRequantizer(
            input_width=scheme.update_bits + 1,
            output_width=scheme.state_bits,
            max_shift=scheme.decay_bits,
        )
        super().__init__(
            {
                **members,
                "drive": In(signed(drive_bits)),
                "b": In(signed(scheme.activation_bits)),
                "update_shift": In(unsigned(update_plan.bits)),
                "old": In(signed(scheme.state_bits)),
                "new": Out(signed(scheme.state_bits)),
                "c": In(signed(scheme.activation_bits)),
                "product": Out(signed(scheme.state_bits + scheme.activation_bits)),
            }
        )

    @property
    def old_offset(self) -> int:
        """Cycle of ``old``: the decay is known, behind product, requantizer and decay unit.

        With a shared decay it is the cycle that lets ``drive`` come in cycle 0.
        """
        if self._shared:
            return self._update.latency + WIDE_PRODUCT - PIPELINED_PRODUCT
        return PIPELINED_PRODUCT + self._argument.latency + self._decay.latency

    @property
    def drive_offset(self) -> int:
        """Cycle of ``drive`` and ``b``: product and requantizer end with ``decay old``."""
        return self.old_offset + PIPELINED_PRODUCT - WIDE_PRODUCT - self._update.latency

    @property
    def state_offset(self) -> int:
        """Cycle of ``new``: product, sum and requantizer after ``old``."""
        return self.old_offset + PIPELINED_PRODUCT + 1 + self._state.latency

    @property
    def latency(self) -> int:
        """Cycle of ``product``."""
        return self.state_offset + PIPELINED_PRODUCT

    def elaborate(self, _platform: object) -> Module:
        """Build decay, update, their sum and the product with C."""
        m = Module()
        m.submodules.update = update = self._update
        m.submodules.state = state = self._state
        arithmetic = self._arithmetic
        update_product = wide_product(m, self.drive, self.b, arithmetic, name="update")
        decay = self.decay if self._shared else self._own_decay(m)
        decayed = pipelined_product(m, decay, self.old, arithmetic, name="decayed")
        product = pipelined_product(m, state.o, self.c, arithmetic, name="read")
        total = Signal(state.i.shape(), reset_less=True)
        m.d.sync += total.eq(decayed + update.o)
        m.d.comb += [
            update.i.eq(update_product),
            update.shift.eq(self.update_shift),
            state.i.eq(total),
            state.shift.eq(self._scheme.decay_bits),
            self.new.eq(state.o),
            self.product.eq(product),
        ]
        return m

    def _own_decay(self, m: Module) -> Value:
        """Return ``2**-argument`` of the element's step size and rate."""
        m.submodules.argument = argument = self._argument
        m.submodules.decay = decay = self._decay
        product = pipelined_product(m, self.delta, self.rate, self._arithmetic, name="argument")
        m.d.comb += [
            argument.i.eq(product),
            argument.shift.eq(self.argument_shift),
            decay.i.eq(argument.o),
        ]
        return decay.o
