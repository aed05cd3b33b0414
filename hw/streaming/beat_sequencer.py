"""Lets tokens in at the beats that are theirs, and starts every unit when their blocks arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.contexts import context_field, context_inputs
from hw.pipeline import index_bits
from hw.streaming.plan import FRONT_START, StreamingPlan

__all__ = ["BeatSequencer", "BlockEvent", "block_events", "tag_layout"]


@dataclass(frozen=True)
class BlockEvent:
    """A unit's work on a block.

    Parameters
    ----------
    cycle : of the start pulse, from the first cycle of the block's beat; at least 1
    token : only for a token's first block, so once a token
    """

    cycle: int
    token: bool = False


def block_events(plan: StreamingPlan) -> dict[str, BlockEvent]:
    """Return the events of a plan: every unit's work on a block, and what is done once a token."""
    cycles = {"x": 0, **plan.starts, **plan.tags}
    events = {name: BlockEvent(plan.origin + cycle) for name, cycle in cycles.items()}
    once = {
        "front": FRONT_START,
        "freed": FRONT_START + plan.stages["front"].duration + 1,
        "load": plan.load,
        "loaded": plan.load + 1,
    }
    return events | {name: BlockEvent(cycle, token=True) for name, cycle in once.items()}


def tag_layout(
    layers: int, tokens: int, slots: int, turns: int, contexts: int = 1
) -> data.StructLayout:
    """Return what travels with a block.

    Its layer, its token's place in the frame, slot and turn, whether the token finds a state of
    zeros, and with several contexts the token's.
    """
    return data.StructLayout(
        {
            "layer": index_bits(layers),
            "position": index_bits(tokens),
            "slot": index_bits(slots),
            "turn": index_bits(turns),
            "fresh": 1,
            **context_field(contexts),
        }
    )


class BeatSequencer(wiring.Component):
    """Counts beats, and passes a tag a block along them.

    Every ``L`` beats a token may enter; if none is offered, or a frame may not begin yet, its
    beats stay empty. A block's tag re-enters as the next block's ``hop`` beats later. An event's
    ``start`` is high for one cycle, and its tag stands from then until its next start.

    Latency: a token's cycle 0 is the cycle after ``taken``. Throughput: one token every ``L beat``
    cycles.

    Parameters
    ----------
    layers, tokens, slots : L, T, and residuals kept
    turns : tokens are counted modulo this for whom it may concern
    contexts : C, streams with a state of their own
    beat : cycles a beat
    hop : beats from a block to its token's next block, 1 more than a multiple of L
    events : by name

    Members
    -------
    offered : in, a token is there
    room : in, a frame may begin; looked at only for its first token
    fresh : in, whether the token that is offered finds a state of zeros
    context : in, with several contexts only: that of the token that is offered
    taken : out, the token enters in the next cycle
    position : out, of the token that is offered
    NAME_start, NAME_tag : out, one pair an event

    Raises
    ------
    ValueError
        If a beat or hop cannot be, or an event comes in cycle 0.
    """

    def __init__(
        self,
        *,
        layers: int,
        tokens: int,
        slots: int,
        turns: int = 1,
        contexts: int = 1,
        beat: int,
        hop: int,
        events: Mapping[str, BlockEvent],
    ) -> None:
        if beat < 2 or hop < 1 or hop % layers != 1 % layers:
            raise ValueError(
                f"a beat of {beat} cycles and a hop of {hop} beats do not interleave {layers} "
                "layers; a hop is 1 more than a multiple of the layers"
            )
        if min(event.cycle for event in events.values()) < 1:
            raise ValueError(f"an event of {dict(events)} is before cycle 1; start it later")
        self._layers, self._tokens, self._slots, self._turns = layers, tokens, slots, turns
        self._beat, self._hop, self._events = beat, hop, dict(events)
        self._contexts = contexts
        self._layout = tag_layout(layers, tokens, slots, turns, contexts)
        members: dict[str, In | Out] = {}
        for name in events:
            members |= {f"{name}_start": Out(1), f"{name}_tag": Out(self._layout)}
        super().__init__(
            {
                "offered": In(1),
                "room": In(1),
                "fresh": In(1),
                "taken": Out(1),
                "position": Out(index_bits(tokens)),
                **context_inputs(contexts, "context"),
                **members,
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        phase = Signal(range(self._beat))
        # Registered, so that nothing long hangs on the counter.
        boundary = Signal()
        m.d.sync += [
            phase.eq(Mux(boundary, 0, phase + 1)),
            boundary.eq(phase == self._beat - 2),
        ]
        entering = self._enter(m, boundary)
        valid, tags = self._chain(m, boundary, entering)
        for name, event in self._events.items():
            beats, cycle = divmod(event.cycle - 1, self._beat)
            tag = tags[beats]
            due = (phase == cycle) & valid[beats]
            if event.token:
                due &= tag.layer == 0
            start = getattr(self, f"{name}_start")
            m.d.sync += start.eq(due)
            with m.If(due):
                m.d.sync += getattr(self, f"{name}_tag").eq(tag)
        return m

    def _enter(self, m: Module, boundary: Signal) -> Signal:
        """Decide at every L-th boundary whether a token enters; return that as ``taken``."""
        turn = Signal(index_bits(self._layers), init=self._layers - 1)
        allowed = Signal()
        m.d.sync += allowed.eq(self.room | (self.position != 0))
        m.d.comb += self.taken.eq(boundary & (turn == self._layers - 1) & self.offered & allowed)
        with m.If(boundary):
            m.d.sync += turn.eq(Mux(turn == self._layers - 1, 0, turn + 1))
        with m.If(self.taken):
            m.d.sync += self.position.eq(
                Mux(self.position == self._tokens - 1, 0, self.position + 1)
            )
        return self.taken

    def _chain(
        self, m: Module, boundary: Signal, entering: Signal
    ) -> tuple[list[Signal], list[data.View]]:
        """Return the blocks of this and the earlier beats: whether there is one, and its tag."""
        length = max((event.cycle - 1) // self._beat for event in self._events.values()) + 1
        length = max(length, self._hop)
        valid = [Signal(name=f"valid_{age}") for age in range(length)]
        tags = [Signal(self._layout, name=f"tag_{age}") for age in range(length)]
        slot = Signal(index_bits(self._slots))
        turn = Signal(index_bits(self._turns))
        again, old = valid[self._hop - 1], tags[self._hop - 1]
        with m.If(boundary):
            for age in range(1, length):
                m.d.sync += [valid[age].eq(valid[age - 1]), tags[age].eq(tags[age - 1])]
            m.d.sync += [
                valid[0].eq(again & (old.layer != self._layers - 1)),
                tags[0].eq(old),
                tags[0].layer.eq(old.layer + 1),
            ]
        with m.If(entering):
            m.d.sync += [
                valid[0].eq(1),
                tags[0].layer.eq(0),
                tags[0].position.eq(self.position),
                tags[0].slot.eq(slot),
                tags[0].turn.eq(turn),
                tags[0].fresh.eq(self.fresh),
                slot.eq(Mux(slot == self._slots - 1, 0, slot + 1)),
                turn.eq(Mux(turn == self._turns - 1, 0, turn + 1)),
            ]
            if self._contexts > 1:
                m.d.sync += tags[0].context.eq(self.context)
        return valid, tags
