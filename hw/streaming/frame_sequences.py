"""Which frames begin with a state of zeros, when frames may enter, and when the pipe is empty."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.contexts import about, check_contexts, context_inputs, flag_of, obey_commands

__all__ = ["POLICY", "FrameSequences"]

POLICY = ("hold", "reset_at_last", "reset_request", "resume_request")
"""Inputs that say what becomes of the state between frames."""


class FrameSequences(wiring.Component):
    """Keeps the reset policy of a pipe whose state may outlive a frame.

    As in :class:`hw.sequencer.Sequencer`: the first token after power-up, after a request, or (by
    policy) after a frame is ``fresh``, and the units read every old state as zero. Frames are
    units: ``hold`` stops in front of one, and a request in the midst of a frame is about the next.
    Every context has sequences of its own; ``hold`` and ``idle`` are about the whole pipe.

    Parameters
    ----------
    settle : cycles from a token's cycle 0 until nothing of it is left in any unit
    contexts : C, streams with a state of their own

    Members
    -------
    taken : in, a token enters in the next cycle
    first, last : in, the token that is offered is its frame's first or last
    context : in, with several contexts only: that of the token that is offered
    hold : in, let no further frame in
    reset_at_last : in, policy: a frame ends a sequence
    selected : in, with several contexts only: the one that the next three are about
    reset_request : in, pulse: the context's next frame starts a sequence
    resume_request : in, pulse: the context's next frame continues, whatever happened before
    starts_fresh : out, the context's next frame would start a sequence
    fresh : out, of the token that is offered
    open : out, a frame may begin
    idle : out, no unit is working, and no frame is cut in two
    """

    def __init__(self, *, settle: int, contexts: int = 1) -> None:
        if settle < 1:
            raise ValueError(f"a token cannot settle in {settle} cycles")
        self._settle, self._contexts = settle, check_contexts(contexts)
        inputs, outputs = ("taken", "first", "last"), ("starts_fresh", "fresh", "open", "idle")
        super().__init__(
            {name: In(1) for name in (*inputs, *POLICY)}
            | {name: Out(1) for name in outputs}
            | context_inputs(contexts, "context", "selected")
        )
        self._context = self._selected = None
        if contexts > 1:
            self._context, self._selected = self.context, self.selected

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        pending, remaining = self._flags(), Signal(range(self._settle + 1))
        m.d.comb += [
            self.starts_fresh.eq(flag_of(pending, self._selected)),
            self.fresh.eq(self.first & flag_of(pending, self._context)),
            self.open.eq(~self.hold),
        ]
        m.d.sync += self.idle.eq((remaining == 0) & ~self.taken & self.first)
        with m.If(self.taken):
            m.d.sync += remaining.eq(self._settle)
        with m.Elif(remaining.any()):
            m.d.sync += remaining.eq(remaining - 1)
        for number, fresh in enumerate(pending):
            taken = about(self.taken, self._context, number)
            with m.If(taken & self.first):
                m.d.sync += fresh.eq(0)
            with m.If(taken & self.last):
                # A request since the frame's first token stands.
                m.d.sync += fresh.eq((fresh & ~self.first) | self.reset_at_last)
            obey_commands(
                m,
                fresh,
                reset=about(self.reset_request, self._selected, number),
                resume=about(self.resume_request, self._selected, number),
            )
        return m

    def _flags(self) -> list[Signal]:
        """Return a flag a context: whether its next frame starts a sequence."""
        if self._contexts == 1:
            return [Signal(init=1)]  # it has the name of ``starts_fresh``, which it is
        return [Signal(init=1, name=f"fresh_{number}") for number in range(self._contexts)]
