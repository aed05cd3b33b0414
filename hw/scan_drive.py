"""The scan's input: its buffer, the dequantizing MUX and the product with the step size."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.scheme import Scheme
from hw.dual_scale import DualScaleDecoder
from hw.multiplier import SYNTHESIZED, Arithmetic, pipelined_product
from hw.pipeline import index_bits
from hw.vector_ring import VectorRing

__all__ = ["ScanDrive"]


class ScanDrive(wiring.Component):
    """Hold the scan input of all channels and form ``drive = delta u``.

    Latency: ``u_latency`` (2) cycles from ``read`` to ``u``, ``latency`` (4) to ``drive``.
    Throughput: one channel a cycle. Both stay until the next read.

    Parameters
    ----------
    scheme : Scheme
        Widths and storage of the scan input.
    channels : int
        Elements, E.
    arithmetic : Arithmetic
        How products are built.
    slots : int
        Vectors that the buffer holds; see :class:`hw.vector_ring.VectorRing`.

    Members
    -------
    valid, index, value : In(1), In(index_bits(channels)), In(unsigned(scan_storage_bits))
        Write of one stored element; a read in a later cycle sees it.
    read : In(1)
        Fetch the next channel.
    u : Out(signed(scan_input_bits))
        Its integer in fine steps.
    delta : In(unsigned(delta_bits))
        Its step size, in step with ``u``.
    drive : Out(signed(delta_bits + scan_input_bits))
        Product of the two.
    """

    u_latency = 2
    latency = 4

    def __init__(
        self,
        *,
        scheme: Scheme,
        channels: int,
        arithmetic: Arithmetic = SYNTHESIZED,
        slots: int = 1,
    ) -> None:
        self._scheme, self._channels, self._slots = scheme, channels, slots
        self._arithmetic = arithmetic
        super().__init__(
            {
                "valid": In(1),
                "index": In(index_bits(channels)),
                "value": In(unsigned(scheme.scan_storage_bits)),
                "read": In(1),
                "u": Out(signed(scheme.scan_input_bits)),
                "delta": In(unsigned(scheme.delta_bits)),
                "drive": Out(signed(scheme.delta_bits + scheme.scan_input_bits)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """Build the buffer, its decoder and the multiplier."""
        m = Module()
        m.submodules.words = words = VectorRing(
            depth=self._channels, width=self._scheme.scan_storage_bits, slots=self._slots
        )
        m.d.comb += [
            words.valid.eq(self.valid),
            words.index.eq(self.index),
            words.value.eq(self.value),
            words.read.eq(self.read),
        ]
        u = Signal(self.u.shape(), reset_less=True)
        drive = pipelined_product(m, self.delta, u, self._arithmetic, name="drive")
        m.d.sync += u.eq(self._decoded(m, words.read_value))
        m.d.comb += [self.u.eq(u), self.drive.eq(drive)]
        return m

    def _decoded(self, m: Module, stored: Value) -> Value:
        """Return the integer that a stored scan input stands for."""
        dual_scale = self._scheme.dual_scale
        if dual_scale is None:
            return stored.as_signed()
        m.submodules.decoder = decoder = DualScaleDecoder(dual_scale=dual_scale)
        m.d.comb += decoder.i.eq(stored)
        return decoder.o
