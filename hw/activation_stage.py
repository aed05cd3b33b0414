"""One SiLU for both branches: from the convolution to u, from z to the gate."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.fixed_point import Integers
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from golden.scheme import Scheme
from hw.activation import EvenActivation
from hw.clamp import clamped, clamped_among, clamped_between
from hw.dual_scale import DualScaleEncoder
from hw.parameter_memory import MemoryPlan, ParameterMemory
from hw.pipeline import PlannedRequantizer, delayed, index_bits, select_constant
from hw.shift_plan import ShiftPlan


class ActivationStage(wiring.Component):
    """``u = requantize(SiLU(convolution))`` and ``gate = requantize(SiLU(z))`` on one table.

    The schedule never sends two branches in one cycle. An MLP's z comes in at the same port as a
    mixer's, marked, and its gate leaves marked. With dual scale, or if the scan reads another
    width than x_proj, its input is stored from the unrounded SiLU beside u (Q7); otherwise it is u.
    With heads B and C are channels of u behind the scan's E inputs.

    Latency: ``latency`` to u and gate, ``code_latency`` to the scan's input. Throughput: one
    element a cycle.

    Parameters
    ----------
    program : source of table, shifts and widths
    plan : where the table lives
    prefix : begins the names of its memories

    Members
    -------
    layer : in, of the element that comes in
    mixed_valid, mixed_index, mixed_value : in, SiLU's input of the u branch
    z_valid, z_index, z_value : in, that of the gate branch
    z_of_mlp : in, in step with z_valid, where there are MLPs
    u_valid, u_index, u_value : out
    scan_u_valid, scan_u_index, scan_u_value : out, as stored
    gate_valid, gate_index, gate_value : out
    mlp_gate_valid : out, in place of gate_valid for an MLP's gate, where there are MLPs
    """

    def __init__(self, *, program: Program, plan: MemoryPlan, prefix: str = "") -> None:
        shape, scheme = program.shape, program.scheme
        self._program = program
        self._silu = EvenActivation(
            table=program.tables.silu, subtract=True, plan=plan, name=f"{prefix}silu"
        )
        u_shifts = np.concatenate([shifts.u for shifts in program.shifts])
        gate_shifts = [shifts.gate for shifts in program.shifts]
        mlp_shifts = [shifts.gate for shifts in program.mlp_shifts]
        self._plan = ShiftPlan.covering([u_shifts, gate_shifts, mlp_shifts or gate_shifts])
        self._gate_shifts = self._plan.stored(gate_shifts)
        self._mlp_shifts = self._plan.stored(mlp_shifts)
        words = self._plan.stored(u_shifts)
        self._requantizer = PlannedRequantizer(
            plan=self._plan,
            input_width=len(self._silu.o),
            output_width=max(program.u_bits, scheme.gate_bits),
        )
        self._encoder: DualScaleEncoder | PlannedRequantizer | None = None
        self._word_bits = self._plan.bits
        if program.separate_scan_input:
            code_shifts = np.concatenate([shifts.scan_u for shifts in program.shifts])
            code_plan = ShiftPlan.covering([code_shifts])
            codes = code_plan.stored(_padded(program, code_shifts))
            words = [u | code << self._plan.bits for u, code in zip(words, codes, strict=True)]
            self._word_bits += code_plan.bits
            self._encoder = _encoder(scheme, len(self._silu.o), code_plan)
        self._zero_position = self._word_bits
        if scheme.asymmetric:
            zeros = np.concatenate([program.u_range(i)[0] for i in range(shape.n_layer)])
            words = [
                word | -zero << self._zero_position
                for word, zero in zip(words, zeros.tolist(), strict=True)
            ]
            self._word_bits += scheme.projection_input_bits
        # One word a channel: the shift of u, above it that of the scan's code, and u's zero point.
        self._shifts = ParameterMemory(
            name=f"{prefix}activation_shifts", width=self._word_bits, words=words, plan=plan
        )
        index = range(max(shape.convolution_channels, shape.mlp or 0))
        members: dict[str, In | Out] = {"layer": In(index_bits(shape.n_layer))}
        for name, width in (
            ("mixed", signed(ACTIVATION_INPUT_BITS)),
            ("z", signed(ACTIVATION_INPUT_BITS)),
        ):
            members |= {
                f"{name}_valid": In(1),
                f"{name}_index": In(index),
                f"{name}_value": In(width),
            }
        for name, width in (
            ("u", signed(program.u_bits)),
            ("scan_u", scheme.scan_storage_bits),
            ("gate", signed(scheme.gate_bits)),
        ):
            members |= {
                f"{name}_valid": Out(1),
                f"{name}_index": Out(index),
                f"{name}_value": Out(width),
            }
        if shape.mlp is not None:
            members |= {"z_of_mlp": In(1), "mlp_gate_valid": Out(1)}
        super().__init__(members)

    @property
    def latency(self) -> int:
        """Cycles from SiLU's input to u or gate: the table, the requantizer, a saturation."""
        return self._silu.latency + self._requantizer.latency + 1

    @property
    def code_latency(self) -> int:
        """Cycles from SiLU's input to the scan's stored input."""
        if isinstance(self._encoder, DualScaleEncoder):
            return self._silu.latency + self._encoder.latency
        return self.latency

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.silu = silu = self._silu
        m.submodules.requantizer = requantizer = self._requantizer
        m.d.comb += silu.i.eq(Mux(self.mixed_valid, self.mixed_value, self.z_value))
        index = Mux(self.mixed_valid, self.mixed_index, self.z_index)
        soon_u = delayed(m, self.mixed_valid, silu.latency - 1, name="soon_u")
        is_u = delayed(m, soon_u, 1, name="is_u")
        is_gate = delayed(m, self.z_valid, silu.latency, name="is_gate")
        at_silu = delayed(m, index, silu.latency, name="index")
        shifts = self._channel_shifts(m)
        layer = delayed(m, self.layer, silu.latency - 1, name="layer")
        gate_shift = select_constant(layer, self._gate_shifts, self._plan.bits)
        of_mlp: Value = Const(0)
        if self._mlp_shifts:
            soon_of_mlp = delayed(m, self.z_of_mlp, silu.latency - 1, name="soon_of_mlp")
            of_mlp = delayed(m, soon_of_mlp, 1, name="of_mlp")
            mlp_shift = select_constant(layer, self._mlp_shifts, self._plan.bits)
            gate_shift = Mux(soon_of_mlp, mlp_shift, gate_shift)
            mlp_gate = delayed(m, is_gate & of_mlp, requantizer.latency + 1, name="mlp_gate_valid")
            m.d.comb += self.mlp_gate_valid.eq(mlp_gate)
        # Chosen a cycle ahead, so that the requantizer's shifter begins at a register.
        shift = Signal(self._plan.bits, name="shift", reset_less=True)
        m.d.sync += shift.eq(Mux(soon_u, shifts[: self._plan.bits], gate_shift))
        m.d.comb += [requantizer.i.eq(silu.o), requantizer.shift.eq(shift)]
        wait = requantizer.latency
        m.d.sync += [
            self.u_value.eq(self._limited(m, requantizer, shifts, layer)),
            self.gate_value.eq(clamped(requantizer.o, len(self.gate_value))),
        ]
        arrived = delayed(m, at_silu, wait + 1, name="index_out")
        m.d.comb += [
            self.u_valid.eq(delayed(m, is_u, wait + 1, name="u_valid")),
            self.gate_valid.eq(delayed(m, is_gate & ~of_mlp, wait + 1, name="gate_valid")),
            self.u_index.eq(arrived),
            self.gate_index.eq(arrived),
        ]
        codes = shifts[self._plan.bits : self._zero_position]
        self._store_scan_input(m, is_u, at_silu, codes)
        return m

    def _limited(
        self, m: Module, requantizer: PlannedRequantizer, words: Value, layer: Value
    ) -> Value:
        """Return the rounded value in u's range; ``words`` and ``layer`` are those of its channel.

        The range is the container's, the block's own width, or, with zero points, that of unsigned
        codes less the channel's.
        """
        program, rounded = self._program, requantizer.o
        widths = [program.projection_bits(index) for index in range(program.shape.n_layer)]
        wait = requantizer.latency + 1  # and the register of the shift
        if program.scheme.asymmetric:
            low, high = (
                Signal.like(self.u_value, name=f"u_{end}", reset_less=True)
                for end in ("low", "high")
            )
            span = select_constant(
                layer, [(1 << bits) - 1 for bits in widths], program.scheme.projection_input_bits
            )
            zero = delayed(m, words[self._zero_position :], wait - 1, name="zero")
            largest = delayed(m, span, wait - 1, name="span")
            m.d.sync += [low.eq(-zero), high.eq(largest - zero)]
            return clamped_between(rounded, low, high)
        if program.shape.heads or not program.hybrid:
            return clamped(rounded, len(self.u_value))
        distinct = sorted(set(widths))
        choices = [distinct.index(bits) for bits in widths]
        choice = select_constant(layer, choices, index_bits(len(distinct)))
        return clamped_among(delayed(m, choice, wait, name="u_width"), rounded, distinct)

    def _channel_shifts(self, m: Module) -> Value:
        """Return the shifts of the channel that comes to SiLU's output in the next cycle."""
        m.submodules.channel_shifts = memory = self._shifts
        channels, layers = self._program.shape.convolution_channels, self._program.shape.n_layer
        base = select_constant(
            self.layer, [layer * channels for layer in range(layers)], len(memory.address)
        )
        registered_base = Signal(len(memory.address))
        address = Signal(len(memory.address))
        index = delayed(m, self.mixed_index, 1, name="address_index")
        m.d.sync += [registered_base.eq(base), address.eq(registered_base + index)]
        m.d.comb += memory.address.eq(address)
        wait = self._silu.latency - memory.latency - 3
        return delayed(m, memory.data, wait, name="channel_shift")

    def _store_scan_input(self, m: Module, is_u: Value, index: Value, shift: Value) -> None:
        """Drive the scan's input: u itself, or what is stored of the unrounded value."""
        inner = self._program.shape.d_inner
        if self._encoder is None:
            m.d.comb += [
                self.scan_u_valid.eq(self.u_valid & (self.u_index < inner)),
                self.scan_u_index.eq(self.u_index),
                self.scan_u_value.eq(self.u_value),
            ]
            return
        m.submodules.encoder = encoder = self._encoder
        # Plain integers leave in step with u, which is saturated once more.
        wait = self.code_latency - self._silu.latency
        m.d.comb += [
            encoder.i.eq(self._silu.o),
            encoder.shift.eq(delayed(m, shift, 1, name="code_shift")),
            self.scan_u_valid.eq(delayed(m, is_u & (index < inner), wait, name="scan_u_valid")),
            self.scan_u_index.eq(delayed(m, index, wait, name="scan_u_index")),
            self.scan_u_value.eq(
                delayed(m, encoder.o, wait - encoder.latency, name="scan_u_value")
            ),
        ]


def _encoder(
    scheme: Scheme, input_width: int, plan: ShiftPlan
) -> DualScaleEncoder | PlannedRequantizer:
    """Return what turns SiLU's output into the scan's stored input."""
    if scheme.dual_scale is None:
        return PlannedRequantizer(
            plan=plan, input_width=input_width, output_width=scheme.scan_storage_bits
        )
    return DualScaleEncoder(dual_scale=scheme.dual_scale, input_width=input_width, plan=plan)


def _padded(program: Program, shifts: Integers) -> Integers:
    """Return shifts of E channels a layer for all convolved ones, of which no others use them."""
    shape = program.shape
    extra = shape.convolution_channels - shape.d_inner
    by_layer = shifts.reshape(shape.n_layer, -1)
    return np.pad(by_layer, ((0, 0), (0, extra)), mode="edge").ravel()
