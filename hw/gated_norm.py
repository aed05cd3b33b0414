"""Mamba-2's gated RMSNorm: one reciprocal root a group of channels, streamed behind the scan."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.operations.normalization import (
    epsilon_integer,
)
from golden.program import Program
from hw.norm_scaling import NormScaling, StreamedNorm
from hw.parameter_memory import MemoryPlan, pack_fields
from hw.pipeline import delayed, index_bits, select_constant

__all__ = ["GatedNorm"]


class GatedNorm(wiring.Component):
    """Normalise the gated values of a block, group by group, as they leave the scan.

    ``normed[e] = requantize(requantize(v[e] root, exponent, 18) weight[e], shift)`` with
    ``root 2**-(17 + exponent) = 1/sqrt(epsilon + sum(v**2))`` over the ``N = E / G`` channels of a
    group. Equal to the golden executor's ``_gated_norm``. The E elements of a block come in order,
    at most one a cycle with any gaps, and block follows block.

    Latency: counting from the cycle of a group's last element, its element i leaves after
    ``latency + i`` cycles: 18, sum (3), root, scaling. Throughput: one element a cycle.

    Parameters
    ----------
    program : Program
        A network with heads: widths, weights, shifts and table.
    plan : MemoryPlan
        Where weights (``gate_norm_weight``, a word a (layer, e)) and table
        (``gate_reciprocal_root``) live, and what multiplies.

    Members
    -------
    layer : In(index_bits(L))
        Block, stable from its first element in to its last element out.
    i_valid, i : In(1), In(signed(residual_bits))
        Next element.
    normed_valid, normed_index, normed_value : Out
        Normalised element; signed(gated_bits of the scheme).
    """

    def __init__(self, *, program: Program, plan: MemoryPlan) -> None:
        shape, scheme = program.shape, program.scheme
        self._shape = shape
        self._size = shape.d_inner // shape.groups
        selections = [layer.head_selection for layer in program.scan_layers]
        self._epsilons = [epsilon_integer(self._size, own.product) for own in selections]
        self._scaling = NormScaling(
            size=self._size,
            bits=program.gated_bits,
            epsilons=self._epsilons,
            table=program.tables.reciprocal,
            words=[
                pack_fields([weight], scheme.norm_weight_bits)
                for own in selections
                for weight in own.gate_norm_weight
            ],
            weight_bits=scheme.norm_weight_bits,
            shifts=[0 if layer.normed is None else layer.normed for layer in program.scan_shifts],
            output_bits=scheme.gated_bits,
            plan=plan,
            prefix="gate_",
        )
        self._streamed = StreamedNorm(
            self._scaling, size=self._size, bits=program.gated_bits, plan=plan
        )
        super().__init__(
            {
                "layer": In(index_bits(shape.n_layer)),
                "i_valid": In(1),
                "i": In(signed(program.gated_bits)),
                "normed_valid": Out(1),
                "normed_index": Out(index_bits(shape.d_inner)),
                "normed_value": Out(signed(scheme.gated_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a group's last element to its first normalised one."""
        return self._streamed.latency

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        streamed = self._streamed
        place = Signal(index_bits(self._size))
        with m.If(self.i_valid):
            m.d.sync += place.eq(Mux(place == self._size - 1, 0, place + 1))
        epsilon = select_constant(self.layer, self._epsilons, max(self._epsilons).bit_length())
        closing = streamed.accumulate(
            m, valid=self.i_valid, index=place, value=self.i, epsilon=epsilon
        )
        sent = streamed.stream(m, valid=self.i_valid, index=place, value=self.i, closing=closing)
        shift = select_constant(self.layer, self._scaling.shifts, self._scaling.shift_bits)
        streamed.requantize(m, sent, shift)
        self._address_weights(m, sent.reading)
        m.d.comb += self.normed_value.eq(self._scaling.narrow.o)
        wait = self.latency - streamed.begin_cycle
        m.d.comb += self.normed_valid.eq(delayed(m, sent.reading, wait, name="streaming"))
        with m.If(self.normed_valid):
            last = self.normed_index == self._shape.d_inner - 1
            m.d.sync += self.normed_index.eq(Mux(last, 0, self.normed_index + 1))
        return m

    def _address_weights(self, m: Module, reading: Value) -> None:
        """Address the weights of the block, one after the other."""
        weights, channels = self._scaling.weights, self._shape.d_inner
        channel = Signal(index_bits(channels))
        address = Signal(len(weights.address))
        bases = [layer * channels for layer in range(self._shape.n_layer)]
        m.d.sync += address.eq(select_constant(self.layer, bases, len(address)) + channel)
        with m.If(delayed(m, reading, self._streamed.weight_cycles, name="weight_read")):
            m.d.sync += channel.eq(Mux(channel == channels - 1, 0, channel + 1))
        m.d.comb += weights.address.eq(address)
