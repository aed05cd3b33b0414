"""From the head's rows to the output streams: logits and their arg-max."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.contexts import context_field, tag
from hw.pipeline import delayed, index_bits
from hw.sequencer import token_layout
from hw.stream_buffer import StreamBuffer


def logit_layout(logit_bits: int, contexts: int = 1) -> data.StructLayout:
    """Return the payload of the logit stream: value, whether it is a token's last, its context."""
    return data.StructLayout({"value": signed(logit_bits), "last": 1, **context_field(contexts)})


class OutputStage(wiring.Component):
    """Buffers the logits of a token and picks the first largest one.

    Latency: the arg-max is valid two cycles after the last logit. Throughput: one logit a cycle.
    A token may start only while ``room`` is high: then all its logits and its arg-max fit, so
    the static schedule never waits in the middle of a token.

    Parameters
    ----------
    vocabulary : V
    logit_bits : signed width
    late_logits : how many logits of a token may arrive once the next one was started
    contexts : C, streams that share the engine

    Members
    -------
    valid, index, value : in, logits in order 0..V-1
    last, context : in, of the token, held while its logits arrive
    emit_logits : in, whether the logit stream is wanted at all
    token_valid, token : out, the arg-max as a pulse, for probing
    tokens : out, stream of :func:`token_layout`
    logits : out, stream of :func:`logit_layout`
    room : out
    """

    token_latency = 2
    _MARGIN = 8

    def __init__(
        self, *, vocabulary: int, logit_bits: int, late_logits: int, contexts: int = 1
    ) -> None:
        self._vocabulary, self._logit_bits = vocabulary, logit_bits
        self._late_logits = late_logits
        self._layout = logit_layout(logit_bits, contexts)
        self._token_layout = token_layout(vocabulary, contexts)
        super().__init__(
            {
                "valid": In(1),
                "index": In(range(vocabulary)),
                "value": In(signed(logit_bits)),
                "last": In(1),
                "context": In(index_bits(contexts)),
                "emit_logits": In(1),
                "token_valid": Out(1),
                "token": Out(range(vocabulary)),
                "tokens": Out(stream.Signature(self._token_layout)),
                "logits": Out(stream.Signature(self._layout)),
                "room": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        final = Signal()
        m.d.comb += final.eq(self.valid & (self.index == self._vocabulary - 1))
        last = delayed(m, self.last, self.token_latency, name="result_last")
        context = delayed(m, self.context, self.token_latency, name="result_context")
        m.d.comb += self.token_valid.eq(delayed(m, final, self.token_latency, name="final"))
        # What needs no comparison is known a cycle ahead of it.
        best = Signal(signed(self._logit_bits), reset_less=True)
        value = delayed(m, self.value, 1, name="candidate")
        index = delayed(m, self.index, 1, name="candidate_index")
        valid, first = Signal(), Signal()
        m.d.sync += [valid.eq(self.valid), first.eq(self.valid & (self.index == 0))]
        with m.If(first | (valid & (value > best))):
            m.d.sync += [best.eq(value), self.token.eq(index)]
        # A margin lets the next token start while a steadily read buffer is not quite empty.
        # A power of two keeps the way from ``ready`` to the next row short.
        depth = 1 << (self._vocabulary + self._late_logits + self._MARGIN - 1).bit_length()
        m.submodules.logit_buffer = logits = StreamBuffer(self._layout, depth)
        m.submodules.token_buffer = tokens = StreamBuffer(self._token_layout, 4)
        m.d.comb += [
            logits.i.p.value.eq(self.value),
            logits.i.p.last.eq(final),
            logits.i.valid.eq(self.valid & self.emit_logits),
            tokens.i.p.token.eq(self.token),
            tokens.i.p.last.eq(last),
            tokens.i.valid.eq(self.token_valid),
        ]
        tag(m, logits.i.p, self.context)
        tag(m, tokens.i.p, context)
        wiring.connect(m, wiring.flipped(self.logits), logits.o)
        wiring.connect(m, wiring.flipped(self.tokens), tokens.o)
        # One token may be on its way whose arg-max is not yet in the buffer.
        m.d.sync += self.room.eq((logits.level <= self._MARGIN) & (tokens.level <= 1))
        return m
