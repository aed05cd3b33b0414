"""Contexts: independent streams whose states one engine keeps apart.

A token carries the number of its context from the input stream to the results, and its units
address the state memories with it. One context costs nothing: no port of the top level, no field
of a stream, no address bit.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Value
from amaranth.lib import data

from golden.errors import InputError

__all__ = [
    "LIMIT",
    "check_contexts",
    "context_bits",
    "context_field",
    "context_of",
    "interleaved",
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
