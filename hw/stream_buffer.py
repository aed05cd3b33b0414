"""First-in first-out buffer between two streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

if TYPE_CHECKING:
    from amaranth.hdl import ShapeLike, Value

__all__ = ["StreamBuffer"]


class StreamBuffer(wiring.Component):
    """Queue up to ``depth`` payloads; cut every combinational path between the two streams.

    ``o`` delivers the payloads that ``i`` accepted, each once and in order. ``i.ready`` and
    ``o.valid`` are registers: neither depends on the other side in the same cycle. ``o.valid``
    never waits for ``o.ready``, and ``o.payload`` is held until it is taken.

    Latency: ``1`` cycle from acceptance at ``i`` to ``o.valid``, when empty. Throughput: one
    payload a cycle, for every depth, with any pattern of stalls on either side.

    A depth of 2 is a skid buffer of two registers. A deeper one is a memory with a registered,
    transparent read port, so that synthesis may choose block or distributed memory; its read
    address looks ahead, and the row after the one being taken is at ``o`` in the next cycle.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload, at least 1 bit wide.
    distributed : bool
        Ask synthesis for distributed memory, whose rows appear earlier in the cycle.
    depth : int
        Payloads it holds, at least 2: one alone could not both be taken and replaced every cycle
        behind a registered ``ready``.
    reserved : bool
        Whoever sends has reserved a place for every payload, so that ``i.ready`` is always high
        and nothing on the way in waits for it.

    Members
    -------
    i : In(stream.Signature(shape))
        Payloads to queue; ready while fewer than ``depth`` are held, or always if ``reserved``.
    o : Out(stream.Signature(shape))
        Payloads in the order of arrival; valid while any is held.
    level : Out(range(depth + 1))
        Payloads held.

    Attributes
    ----------
    take_row, put_row : Signal
        Rows of the oldest payload and of the next free place (deeper than 2).
    store : Memory or None
        The rows (deeper than 2). Named here, with the pointers, for the proof's invariants.
    second : Signal
        The register behind the output register (depth of 2).

    Raises
    ------
    TypeError
        If the depth is not an integer.
    ValueError
        If the depth is below 2 or the payload has no bits.
    """

    def __init__(
        self, shape: ShapeLike, depth: int, *, distributed: bool = False, reserved: bool = False
    ) -> None:
        if not isinstance(depth, int) or isinstance(depth, bool):
            raise TypeError(f"depth must be an integer, not {depth!r}")
        if depth < 2:
            raise ValueError(f"depth {depth} is below 2; one place cannot sustain full throughput")
        if Shape.cast(shape).width < 1:
            raise ValueError(f"payload shape {shape!r} has 0 bits; it needs at least 1")
        self.shape = shape
        self.depth, self.reserved = depth, reserved
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )
        self.take_row = Signal(range(depth))
        self.put_row = Signal(range(depth))
        attributes = {"ram_style": "distributed"} if distributed else {}
        self.store = (
            Memory(shape=shape, depth=depth, init=[], attrs=attributes) if depth > 2 else None
        )
        self.second = Signal(shape, reset_less=True)

    @property
    def latency(self) -> int:
        """Cycles from acceptance at ``i`` to ``o.valid`` when the buffer is empty."""
        return 1

    def elaborate(self, _platform: object) -> Module:
        """Build the counters and, by depth, the registers or the memory."""
        m = Module()
        put = Signal()
        take = Signal()
        m.d.comb += [
            put.eq(self.i.valid & self.i.ready),
            take.eq(self.o.valid & self.o.ready),
        ]
        self._count(m, put, take)
        if self.store is None:
            self._hold_in_registers(m, put, take)
        else:
            self._hold_in_memory(m, put, take, self.store)
        return m

    def _count(self, m: Module, put: Signal, take: Signal) -> None:
        """Keep the level, and the two flags that follow from it, each in its register.

        Flags are chosen by put and take, which come late, among comparisons of the level before.
        """
        level = Signal.like(self.level)
        not_empty = Signal()
        m.d.comb += [self.level.eq(level), self.o.valid.eq(not_empty)]
        with m.If(put & ~take):
            m.d.sync += level.eq(level + 1)
        with m.Elif(take & ~put):
            m.d.sync += level.eq(level - 1)
        m.d.sync += not_empty.eq(put | (not_empty & ~(take & (level == 1))))
        if self.reserved:
            m.d.comb += self.i.ready.eq(1)
            return
        not_full = Signal(init=1)
        m.d.comb += self.i.ready.eq(not_full)
        m.d.sync += not_full.eq(take | (not_full & ~(put & (level == self.depth - 1))))

    def _hold_in_registers(self, m: Module, put: Signal, take: Signal) -> None:
        """Two registers: a payload enters the first if that is free or being freed."""
        first = Signal(self.shape, reset_less=True)
        m.d.comb += self.o.payload.eq(first)
        with m.If(take & (self.level == 2)):
            m.d.sync += first.eq(self.second)
        with m.Elif(take | (self.level == 0)):
            m.d.sync += first.eq(self.i.payload)
        with m.If(put):
            m.d.sync += self.second.eq(self.i.payload)

    def _hold_in_memory(self, m: Module, put: Signal, take: Signal, store: Memory) -> None:
        """A ring of rows, read one cycle ahead."""
        m.submodules.store = store
        write = store.write_port()
        # Transparent: a payload that enters the empty buffer is read in the cycle it is written.
        read = store.read_port(transparent_for=(write,))
        next_row = Signal.like(self.take_row)
        m.d.comb += [
            write.addr.eq(self.put_row),
            write.data.eq(self.i.payload),
            write.en.eq(put),
            next_row.eq(Mux(take, self._after(self.take_row), self.take_row)),
            read.addr.eq(next_row),
            read.en.eq(1),
            self.o.payload.eq(read.data),
        ]
        m.d.sync += self.take_row.eq(next_row)
        with m.If(put):
            m.d.sync += self.put_row.eq(self._after(self.put_row))

    def _after(self, row: Signal) -> Value:
        """Return the row after ``row``; the last is followed by the first."""
        if self.depth == 1 << len(row):
            return (row + 1)[: len(row)]
        return Mux(row == self.depth - 1, 0, row + 1)
