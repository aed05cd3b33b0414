"""What the generic components must do, as assertions that know nothing of how they do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import (
    Assert,
    Assume,
    Const,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
    signed,
)
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

if TYPE_CHECKING:
    from hw.requantizer import ShiftRequantizer
    from hw.stream_buffer import StreamBuffer

__all__ = ["RequantizerProperties", "StreamBufferProperties"]


class RequantizerProperties(wiring.Component):
    """The output is the nearest integer, ties to even, unless that is out of range.

    With ``x`` the input, ``s`` the shift, ``o`` the output and ``low..high`` its range:

    - not saturated: ``|2 x - 2 o 2**s| < 2**s``, or equal and ``o`` even;
    - saturated high: ``o == high`` and ``2 x > (2 high + 1) 2**s``, or equal, as ``high`` is odd
      and the tie goes up;
    - saturated low: ``o == low`` and ``2 x < (2 low - 1) 2**s``; ``low`` is even, so that the tie
      is still in range.

    These determine ``o`` and ``saturated`` uniquely, and no rounding or shifting right is used to
    state them.

    Parameters
    ----------
    requantizer : ShiftRequantizer
        The component; a planted fault is a subclass of it.

    Members
    -------
    i, shift : In
        Free inputs.
    """

    def __init__(self, requantizer: ShiftRequantizer) -> None:
        self.requantizer = requantizer
        super().__init__({"i": In(requantizer.i.shape()), "shift": In(requantizer.shift.shape())})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.requantizer = unit = self.requantizer
        m.d.comb += [unit.i.eq(self.i), unit.shift.eq(self.shift), Assume(~ResetSignal())]
        x, shift, started = self._delayed(m)
        low, high = unit.output_range
        # Wide enough for twice the output, and for twice the input, times the largest 2**s.
        largest_shift = (1 << len(unit.shift)) - 1
        wide = signed(max(unit.input_width, unit.output_width) + largest_shift + 4)
        twice_x, result, above, below, unit_step = (
            Signal(wide, name=name)
            for name in ("twice_x", "scaled_result", "above", "below", "unit_step")
        )
        error = Signal(wide)
        m.d.comb += [
            twice_x.eq(x << 1),
            unit_step.eq(Const(1) << shift),
            result.eq((unit.o << 1) << shift),
            above.eq(Const(2 * high + 1) << shift),
            below.eq(Const(2 * low - 1) << shift),
            error.eq(twice_x - result),
        ]
        distance = Mux(error < 0, -error, error)
        nearest = (distance < unit_step) | ((distance == unit_step) & ~unit.o[0])
        saturated_high = (unit.o == high) & (twice_x >= above)
        saturated_low = (unit.o == low) & (twice_x < below)
        with m.If(started):
            with m.If(unit.saturated):
                m.d.comb += Assert(saturated_high | saturated_low)
            with m.Else():
                m.d.comb += Assert(nearest)
        return m

    def _delayed(self, m: Module) -> tuple[Value, Value, Value]:
        """Return the inputs of ``latency`` cycles ago, and whether that cycle existed."""
        x: Value = self.i
        shift: Value = self.shift
        started: Value = Const(1)
        for stage in range(self.requantizer.latency):
            later_x = Signal.like(self.i, name=f"x_{stage}")
            later_shift = Signal.like(self.shift, name=f"shift_{stage}")
            later_started = Signal(name=f"started_{stage}")
            m.d.sync += [later_x.eq(x), later_shift.eq(shift), later_started.eq(started)]
            x, shift, started = later_x, later_shift, later_started
        return x, shift, started


class StreamBufferProperties(wiring.Component):
    """Every payload comes out once, in order and unchanged, and is held while it is stalled.

    Any one accepted payload may be chosen (``watch`` is free) and is then followed: with ``n``
    payloads ahead of it, it must be the ``n + 1``-th taken. As the level counts accepted less
    taken and nothing is valid at level 0, nothing is lost, repeated or invented.

    The assertions on rows, on the memory and on the second register are no promises to users: they
    tie the inner registers together, so that the induction does not start from states that cannot
    be reached.

    Parameters
    ----------
    buffer : StreamBuffer
        The component, with a plain bit vector as payload.

    Members
    -------
    i : In(stream.Signature(shape))
        Free source; it may break the rules of a stream, but sends a ``reserved`` buffer nothing
        that it has no place for.
    o_ready : In(1)
        Free sink.
    watch : In(1)
        Follow the payload that is accepted in this cycle, if none is being followed.
    """

    def __init__(self, buffer: StreamBuffer) -> None:
        self.buffer = buffer
        super().__init__(
            {"i": In(stream.Signature(buffer.shape)), "o_ready": In(1), "watch": In(1)}
        )
        self.put = Signal()
        self.take = Signal()

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        buffer = self.buffer
        oldest = self._row(m, 0)
        m.submodules.buffer = buffer
        m.d.comb += [
            Assume(~ResetSignal()),
            buffer.i.valid.eq(self.i.valid),
            buffer.i.payload.eq(self.i.payload),
            self.i.ready.eq(buffer.i.ready),
            buffer.o.ready.eq(self.o_ready),
            self.put.eq(buffer.i.valid & buffer.i.ready),
            self.take.eq(buffer.o.valid & buffer.o.ready),
        ]
        self._check_flags(m)
        self._check_hold(m)
        self._check_watched(m)
        if oldest is not None:
            with m.If(buffer.o.valid):
                m.d.comb += Assert(buffer.o.payload == oldest)
        return m

    def _check_flags(self, m: Module) -> None:
        """Level, ready and valid against a count of transfers kept here."""
        buffer = self.buffer
        held = Signal(range(buffer.depth + 2))
        m.d.sync += held.eq(held + self.put - self.take)
        if buffer.reserved:
            m.d.comb += Assume((held < buffer.depth) | ~buffer.i.valid)
        m.d.comb += [
            Assert(held <= buffer.depth),
            Assert(buffer.level == held),
            Assert(buffer.i.ready == ((held < buffer.depth) | buffer.reserved)),
            Assert(buffer.o.valid == (held > 0)),
        ]
        if buffer.store is not None:
            ahead = buffer.take_row + held
            expected = Mux(ahead >= buffer.depth, ahead - buffer.depth, ahead)
            m.d.comb += [
                Assert(buffer.take_row < buffer.depth),
                Assert(buffer.put_row == expected),
            ]

    def _check_hold(self, m: Module) -> None:
        """A stalled payload stays valid and the same."""
        stalled = Signal()
        payload = Signal(self.buffer.shape)
        m.d.sync += [
            stalled.eq(self.buffer.o.valid & ~self.o_ready),
            payload.eq(self.buffer.o.payload),
        ]
        with m.If(stalled):
            m.d.comb += Assert(self.buffer.o.valid & (self.buffer.o.payload == payload))

    def _check_watched(self, m: Module) -> None:
        """Follow one payload from its acceptance until it is taken."""
        buffer = self.buffer
        watching = Signal()
        ahead = Signal(range(buffer.depth))  # payloads to be taken before the watched one
        watched = Signal(buffer.shape)
        with m.If(watching):
            with m.If(self.take):
                m.d.sync += [ahead.eq(ahead - 1), watching.eq(ahead != 0)]
            m.d.comb += Assert(ahead < buffer.level)
            with m.If(ahead == 0):
                m.d.comb += Assert(buffer.o.valid & (buffer.o.payload == watched))
            inner = self._row(m, ahead)
            if inner is not None:
                m.d.comb += Assert(inner == watched)
        with m.Elif(self.put & self.watch):
            m.d.sync += [
                watching.eq(1),
                watched.eq(self.i.payload),
                ahead.eq(buffer.level - self.take),
            ]
        if buffer.store is None:
            with m.If(watching & (ahead == 1)):
                m.d.comb += Assert(buffer.second == watched)

    def _row(self, m: Module, ahead: Value | int) -> Value | None:
        """Return the stored payload that has ``ahead`` others before it; none for two registers.

        The read port for it is added to the component's memory, which is not built yet.
        """
        buffer = self.buffer
        if buffer.store is None:
            return None
        port = buffer.store.read_port(domain="comb")
        row = buffer.take_row + ahead
        m.d.comb += port.addr.eq(Mux(row >= buffer.depth, row - buffer.depth, row))
        return port.data
