"""Takes tokens, counts their cycles and keeps the state's reset policy."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.contexts import (
    about,
    check_contexts,
    context_field,
    context_of,
    flag_of,
    obey_commands,
)
from hw.pipeline import index_bits


def token_layout(vocabulary: int, contexts: int = 1) -> data.StructLayout:
    """Return the payload of token streams: token, whether it ends a sequence, and its context."""
    return data.StructLayout({"token": range(vocabulary), "last": 1, **context_field(contexts)})


class Sequencer(wiring.Component):
    """Starts a token whenever one is offered, the outputs have room and the engine allows it.

    Cycle 0 is the cycle after a token was taken. With a token always offered, one is taken every
    ``interval`` cycles. A token after reset, after a request, or (by policy) after TLAST is
    ``fresh``: the units read every old state as zero, so no clearing pass is needed. Every context
    has sequences of its own.

    Parameters
    ----------
    vocabulary : V; larger tokens are read as V - 1
    interval : cycles from one token to the next, from the schedule
    settle : cycles from a token's start until nothing of it is left in any unit
    contexts : C, streams with a state of their own

    Members
    -------
    tokens : in, stream of :func:`token_layout`
    room : in, the outputs can hold a token's results
    hold : in, take no further token
    reset_at_last : in, policy: a sequence ends with ``last``
    selected : in, the context that the next three are about
    reset_request : in, pulse: the context's next token starts a sequence
    resume_request : in, pulse: the context's next token continues, whatever happened before
    starts_fresh : out, the context's next token would start a sequence
    running, cycle : out, to the microcode
    token, last, context, fresh : out, of the running token
    idle : out, no unit is working
    """

    def __init__(self, *, vocabulary: int, interval: int, settle: int, contexts: int = 1) -> None:
        if interval < 1 or settle < interval:
            raise ValueError(f"a token every {interval} cycles cannot settle in {settle} cycles")
        self._vocabulary, self._interval, self._settle = vocabulary, interval, settle
        self._contexts = check_contexts(contexts)
        super().__init__(
            {
                "tokens": In(stream.Signature(token_layout(vocabulary, contexts))),
                "room": In(1),
                "hold": In(1),
                "reset_at_last": In(1),
                "selected": In(index_bits(contexts)),
                "reset_request": In(1),
                "resume_request": In(1),
                "running": Out(1),
                "cycle": Out(range(interval)),
                "token": Out(range(vocabulary)),
                "last": Out(1),
                "context": Out(index_bits(contexts)),
                "fresh": Out(1),
                "starts_fresh": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        final, taken, allowed = Signal(), Signal(), Signal()
        remaining = Signal(range(self._settle + 1))
        m.d.sync += [allowed.eq(self.room & ~self.hold), self.idle.eq((remaining == 0) & ~taken)]
        m.d.comb += [
            self.tokens.ready.eq((~self.running | final) & allowed),
            taken.eq(self.tokens.valid & self.tokens.ready),
        ]
        # The comparison is made one cycle early, so that ready depends on registers only.
        m.d.sync += final.eq(self.running & (self.cycle == self._interval - 2))
        with m.If(self.running):
            m.d.sync += self.cycle.eq(self.cycle + 1)
        with m.If(final):
            m.d.sync += [self.running.eq(0), self.cycle.eq(0)]
        with m.If(remaining.any()):
            m.d.sync += remaining.eq(remaining - 1)
        with m.If(taken):
            token = self.tokens.p.token
            m.d.sync += [
                self.running.eq(1),
                self.cycle.eq(0),
                remaining.eq(self._settle),
                self.token.eq(token),
                self.last.eq(self.tokens.p.last),
                self.context.eq(context_of(self.tokens.p)),
            ]
            if self._vocabulary & (self._vocabulary - 1):
                with m.If(token >= self._vocabulary):
                    m.d.sync += self.token.eq(self._vocabulary - 1)
        self._keep_freshness(m, taken)
        return m

    def _keep_freshness(self, m: Module, taken: Signal) -> None:
        """Remember of every context whether its next token starts a sequence."""
        pending = [Signal(init=1, name=f"fresh_{number}") for number in range(self._contexts)]
        context, selected = context_of(self.tokens.p), self.selected
        m.d.comb += self.starts_fresh.eq(flag_of(pending, selected))
        with m.If(taken):
            m.d.sync += self.fresh.eq(flag_of(pending, context))
        for number, fresh in enumerate(pending):
            with m.If(about(taken, context, number)):
                m.d.sync += fresh.eq(self.tokens.p.last & self.reset_at_last)
            obey_commands(
                m,
                fresh,
                reset=about(self.reset_request, selected, number),
                resume=about(self.resume_request, selected, number),
            )
