"""Contexts: independent streams whose states one engine keeps apart.

A token, or a whole frame, carries the number of its context from the input stream to the results,
and its units address the state memories with it. One context costs nothing: no port of the top
level, no field of a stream, no address bit.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In

from golden.errors import InputError
from hw.stream_buffer import StreamBuffer

__all__ = [
    "LIMIT",
    "about",
    "check_contexts",
    "context_bits",
    "context_field",
    "context_inputs",
    "context_of",
    "flag_of",
    "interleaved",
    "obey_commands",
    "queued",
    "tag",
]

LIMIT = 256
"""Most contexts: what the 8 bits hold that AXI4-Stream recommends for TID."""


def check_contexts(contexts: int) -> int:
    """Return ``contexts`` if an engine can keep that many apart.

    Raises
    ------
    InputError
        If it is not a power of two in ``1..LIMIT``. Then a context number is exactly some address
        bits, so that no number is invalid and no address needs an adder.
    """
    if not 1 <= contexts <= LIMIT or contexts & (contexts - 1):
        raise InputError(
            f"contexts = {contexts} is not a power of two in 1..{LIMIT}; choose 1, 2, 4, ..."
        )
    return contexts


def context_bits(contexts: int) -> int:
    """Return the width of a context's number, zero for one context."""
    return (contexts - 1).bit_length()


def context_field(contexts: int) -> dict[str, int]:
    """Return the member of a stream's layout that carries the context, none for one context."""
    return {"context": context_bits(contexts)} if contexts > 1 else {}


def context_inputs(contexts: int, *names: str) -> dict[str, In]:
    """Return the members of a unit that name a context, none for one context."""
    return {name: In(context_bits(contexts)) for name in names if contexts > 1}


def context_of(payload: data.View) -> Value:
    """Return the context of a stream's payload, zero if it has none."""
    return payload.context if _has_context(payload) else Const(0, 1)


def tag(m: Module, payload: data.View, context: Value) -> None:
    """Drive the context of a stream's payload, if it has one."""
    if _has_context(payload):
        m.d.comb += payload.context.eq(context)


def _has_context(payload: data.View) -> bool:
    return "context" in dict(payload.shape())


def interleaved(address: Value, context: Value, contexts: int) -> Value:
    """Return the address of a word in a memory that holds one word of every context side by side.

    ``address contexts + context``: with the context lowest the memory has no gap, whatever the
    number of words a context.
    """
    return Cat(context[: context_bits(contexts)], address)


def queued(m: Module, context: Value, *, frames: int, put: Value, take: Value) -> Value:
    """Return the context of the oldest of the frames that were put and not yet taken.

    Frames stay in order, so that none has to carry its context. At most ``frames`` are queued; one
    is there from the cycle after ``put``.
    """
    m.submodules.contexts = queue = StreamBuffer(
        len(context), max(2, frames), distributed=True, reserved=True
    )
    m.d.comb += [queue.i.payload.eq(context), queue.i.valid.eq(put), queue.o.ready.eq(take)]
    return queue.o.payload


def flag_of(flags: Sequence[Signal], context: Value | None) -> Value:
    """Return the flag of a context, the only one if there are no contexts."""
    return flags[0] if context is None else Array(flags)[context]


def about(event: Value, context: Value | None, number: int) -> Value:
    """Return whether an event is about context ``number``, as every one is without contexts."""
    return event if context is None else event & (context == number)


def obey_commands(m: Module, fresh: Signal, *, reset: Value, resume: Value) -> None:
    """Let commands about a context say whether what comes next starts a sequence.

    To be added behind all else that changes the flag: a command has the last word.
    """
    with m.If(reset):
        m.d.sync += fresh.eq(1)
    with m.If(resume):
        m.d.sync += fresh.eq(0)
