"""Takes tokens, counts their cycles and keeps the state's reset policy."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


def token_layout(vocabulary: int) -> data.StructLayout:
    """Return the payload of token streams: the token and whether it ends a sequence."""
    return data.StructLayout({"token": range(vocabulary), "last": 1})


class Sequencer(wiring.Component):
    """Starts a token whenever one is offered, the outputs have room and the engine allows it.

    Cycle 0 is the cycle after a token was taken. With a token always offered, one is taken every
    ``interval`` cycles. A token after reset, after a request, or (by policy) after TLAST is
    ``fresh``: the units read every old state as zero, so no clearing pass is needed.

    Parameters
    ----------
    vocabulary : V; larger tokens are read as V - 1
    interval : cycles from one token to the next, from the schedule
    settle : cycles from a token's start until nothing of it is left in any unit

    Members
    -------
    tokens : in, stream of :func:`token_layout`
    room : in, the outputs can hold a token's results
    hold : in, take no further token
    reset_at_last : in, policy: a sequence ends with ``last``
    reset_request : in, pulse: the next token starts a sequence
    resume_request : in, pulse: the next token continues, whatever happened before
    running, cycle : out, to the microcode
    token, last, fresh : out, of the running token
    starts_fresh : out, the next token would start a sequence
    idle : out, no unit is working
    """

    def __init__(self, *, vocabulary: int, interval: int, settle: int) -> None:
        if interval < 1 or settle < interval:
            raise ValueError(f"a token every {interval} cycles cannot settle in {settle} cycles")
        self._vocabulary, self._interval, self._settle = vocabulary, interval, settle
        super().__init__(
            {
                "tokens": In(stream.Signature(token_layout(vocabulary))),
                "room": In(1),
                "hold": In(1),
                "reset_at_last": In(1),
                "reset_request": In(1),
                "resume_request": In(1),
                "running": Out(1),
                "cycle": Out(range(interval)),
                "token": Out(range(vocabulary)),
                "last": Out(1),
                "fresh": Out(1),
                "starts_fresh": Out(1, init=1),
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
                self.fresh.eq(self.starts_fresh),
                self.starts_fresh.eq(self.tokens.p.last & self.reset_at_last),
            ]
            if self._vocabulary & (self._vocabulary - 1):
                with m.If(token >= self._vocabulary):
                    m.d.sync += self.token.eq(self._vocabulary - 1)
        with m.If(self.reset_request):
            m.d.sync += self.starts_fresh.eq(1)
        with m.If(self.resume_request):
            m.d.sync += self.starts_fresh.eq(0)
        return m
