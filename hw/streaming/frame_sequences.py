"""Which frames begin with a state of zeros, when frames may enter, and when the pipe is empty."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["POLICY", "FrameSequences"]

POLICY = ("hold", "reset_at_last", "reset_request", "resume_request")
"""Inputs that say what becomes of the state between frames."""


class FrameSequences(wiring.Component):
    """Keeps the reset policy of a pipe whose state may outlive a frame.

    As in :class:`hw.sequencer.Sequencer`: the first token after power-up, after a request, or (by
    policy) after a frame is ``fresh``, and the units read every old state as zero. Frames are
    units: ``hold`` stops in front of one, and a request in the midst of a frame is about the next.

    Parameters
    ----------
    settle : cycles from a token's cycle 0 until nothing of it is left in any unit

    Members
    -------
    taken : in, a token enters in the next cycle
    first, last : in, the token that is offered is its frame's first or last
    hold : in, let no further frame in
    reset_at_last : in, policy: a frame ends a sequence
    reset_request : in, pulse: the next frame starts a sequence
    resume_request : in, pulse: the next frame continues, whatever happened before
    starts_fresh : out, the next frame would start a sequence
    fresh : out, of the token that is offered
    open : out, a frame may begin
    idle : out, no unit is working, and no frame is cut in two
    """

    def __init__(self, *, settle: int) -> None:
        if settle < 1:
            raise ValueError(f"a token cannot settle in {settle} cycles")
        self._settle = settle
        inputs, outputs = ("taken", "first", "last"), ("starts_fresh", "fresh", "open", "idle")
        super().__init__(
            {name: In(1) for name in (*inputs, *POLICY)} | {name: Out(1) for name in outputs}
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        pending, remaining = Signal(init=1), Signal(range(self._settle + 1))
        m.d.comb += [
            self.starts_fresh.eq(pending),
            self.fresh.eq(self.first & pending),
            self.open.eq(~self.hold),
        ]
        m.d.sync += self.idle.eq((remaining == 0) & ~self.taken & self.first)
        with m.If(self.taken):
            m.d.sync += remaining.eq(self._settle)
        with m.Elif(remaining.any()):
            m.d.sync += remaining.eq(remaining - 1)
        with m.If(self.taken & self.first):
            m.d.sync += pending.eq(0)
        with m.If(self.taken & self.last):
            # A request since the frame's first token stands.
            m.d.sync += pending.eq((pending & ~self.first) | self.reset_at_last)
        with m.If(self.reset_request):
            m.d.sync += pending.eq(1)
        with m.If(self.resume_request):
            m.d.sync += pending.eq(0)
        return m
