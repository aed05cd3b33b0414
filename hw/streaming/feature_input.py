"""From the stream of features to whole frames: counts, pads, and says when a token is there."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from golden.configuration import FrameShape
from hw.contexts import context_field, context_of
from hw.pipeline import index_bits

__all__ = ["FeatureInput", "feature_layout"]


def feature_layout(bits: int, contexts: int = 1) -> data.StructLayout:
    """Return the payload of the feature stream: value, whether it ends the frame, its context."""
    return data.StructLayout({"value": signed(bits), "last": 1, **context_field(contexts)})


class FeatureInput(wiring.Component):
    """Writes features into the ring of the embedding's array, F a token, T tokens a frame.

    A frame that ends early (``last`` before its T F values) is padded with zeros, as unused
    points of a radar frame are. A frame ends after T F values also without ``last``; that sets
    ``unaligned``, and what follows belongs to the next frame. With several contexts the one of its
    first feature is the frame's; another one within the frame sets ``unaligned`` too, as only a
    source that mixes up frames sends it.

    Latency: a token is ``offered`` the cycle after its last feature, or with ``whole`` all tokens
    of a frame the cycle after the frame's. Throughput: one feature a cycle, padding included.

    Parameters
    ----------
    frame : F and T
    bits : signed width of a feature
    slots : tokens that the ring holds, being read included
    whole : tokens are offered a frame at a time, so that they can enter without gaps
    contexts : C, streams whose frames may follow each other

    Members
    -------
    features : in, stream of :func:`feature_layout`
    begins : out, with several contexts only: a frame's first feature is taken
    o_valid, o_index, o_value : out, to the ring
    offered : out, a whole token is there
    taken : in, it enters the engine
    freed : in, a token that entered has been read
    unaligned : out, stays high after a frame without ``last`` at its end, or of two contexts
    """

    def __init__(
        self,
        *,
        frame: FrameShape,
        bits: int,
        slots: int,
        whole: bool = False,
        contexts: int = 1,
    ) -> None:
        least = 2 * frame.tokens if whole else 2
        if slots < least:
            raise ValueError(
                f"{slots} slots cannot be read and written at once; give {least} or more"
            )
        self._frame, self._slots, self._whole = frame, slots, whole
        self._contexts = contexts
        super().__init__(
            {
                "features": In(stream.Signature(feature_layout(bits, contexts))),
                **({"begins": Out(1)} if contexts > 1 else {}),
                "o_valid": Out(1),
                "o_index": Out(index_bits(frame.features)),
                "o_value": Out(signed(bits)),
                "offered": Out(1),
                "taken": In(1),
                "freed": In(1),
                "unaligned": Out(1),
            }
        )

    @property
    def frames(self) -> int:
        """Most frames that have begun and whose last token has not entered."""
        # Among so many tokens that wait or arrive the first and the last frame may be in part.
        return 1 + -(-(self._slots - 1) // self._frame.tokens)

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        features, tokens = self._frame.features, self._frame.tokens
        index, token = Signal(index_bits(features)), Signal(index_bits(tokens))
        padding, open_ = Signal(), Signal(init=1)
        occupied, waiting = Signal(range(self._slots + 1)), Signal(range(self._slots + 1))
        payload = self.features.p
        token_end = index == features - 1
        frame_end = token_end & (token == tokens - 1)
        written = self.o_valid & token_end
        m.d.comb += [
            self.features.ready.eq(open_ & ~padding),
            self.o_valid.eq(open_ & (padding | self.features.valid)),
            self.o_index.eq(index),
            self.o_value.eq(Mux(padding, 0, payload.value)),
            self.offered.eq(waiting != 0),
        ]
        with m.If(self.o_valid):
            m.d.sync += index.eq(Mux(token_end, 0, index + 1))
            with m.If(token_end):
                m.d.sync += token.eq(Mux(frame_end, 0, token + 1))
            with m.If(frame_end):
                m.d.sync += [
                    padding.eq(0),
                    self.unaligned.eq(self.unaligned | (~padding & ~payload.last)),
                ]
            with m.Elif(~padding & payload.last):
                m.d.sync += padding.eq(1)
        ready = (written & frame_end) * tokens if self._whole else written
        next_occupied = Signal.like(occupied)
        m.d.comb += next_occupied.eq(occupied + written - self.freed)
        m.d.sync += [
            occupied.eq(next_occupied),
            open_.eq(next_occupied != self._slots),
            waiting.eq(waiting + ready - self.taken),
        ]
        if self._contexts > 1:
            self._name_context(m, (index == 0) & (token == 0))
        return m

    def _name_context(self, m: Module, first: Value) -> None:
        """Say when a frame's context is there, and notice another one within the frame."""
        transfer = self.features.valid & self.features.ready
        context = context_of(self.features.p)
        own = Signal(len(context), name="frame_context")
        m.d.comb += self.begins.eq(transfer & first)
        with m.If(self.begins):
            m.d.sync += own.eq(context)
        with m.Elif(transfer & (context != own)):
            m.d.sync += self.unaligned.eq(1)
