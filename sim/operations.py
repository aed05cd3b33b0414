"""What a host does to the state between tokens or frames, and what golden makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from golden import vectors
from golden.program import Program
from golden.state import State
from hw.expectation import pack_lanes
from hw.lanes import Lanes

__all__ = ["Operation", "played_trace", "state_words"]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One command of the host.

    Parameters
    ----------
    position : it comes after so many tokens, or whole frames, were taken, before the next one is
        offered
    kind : ``reset``, ``save`` or ``restore``
    context : whose state
    name : of the saved state
    """

    position: int
    kind: str
    context: int
    name: str = ""


def state_words(program: Program, lanes: Lanes, state: State, context: int) -> list[list[int]]:
    """Return the words of the state memories of a context, as the registers show them."""
    scheme, own = program.scheme, state.member(context)
    if program.shape.average is not None:
        return [pack_lanes(own.scan.reshape(1, -1), lanes.scan, scheme.average_bits)[0].tolist()]
    scan = pack_lanes(own.scan.reshape(1, -1), lanes.scan, scheme.state_bits)
    inputs = own.window[:, 0].transpose(0, 2, 1).reshape(1, -1)
    window = pack_lanes(inputs, program.shape.d_conv - 1, scheme.activation_bits)
    return [scan.ravel().tolist(), window.ravel().tolist()]


def _joined(pieces: Sequence[vectors.Trace]) -> vectors.Trace:
    """Return the trace of successive stretches of one stream."""
    names = pieces[0].probes
    return replace(
        pieces[-1],
        tokens=np.concatenate([piece.tokens for piece in pieces]),
        last=np.concatenate([piece.last for piece in pieces]),
        context=np.concatenate([piece.context for piece in pieces]),
        probes={n: np.concatenate([piece.probes[n] for piece in pieces]) for n in names},
    )


def _put(target: State, context: int, source: State) -> None:
    """Give a context of ``target`` the state of the batch of one ``source``."""
    target.window[:, context] = source.window[:, 0]
    target.scan[:, context] = source.scan[:, 0]


def played_trace(
    program: Program,
    stream: vectors.Stimulus,
    operations: Sequence[Operation],
    *,
    reset_at_last: bool = True,
    saved: dict[str, State] | None = None,
) -> tuple[vectors.Trace, dict[str, State]]:
    """Return golden's trace of a stream with operations in it, and every saved state.

    Parameters
    ----------
    program, stream : what is executed
    operations : in order of position
    reset_at_last : the reset policy
    saved : states of earlier runs by name, each a batch of one
    """
    state, states = State.zeros(program, stream.contexts), dict(saved or {})
    rows = 1 if program.shape.frame is None else program.shape.frame.rows
    pieces, begin = [], 0
    for operation in [*operations, None]:
        end = len(stream.tokens) if operation is None else operation.position * rows
        if end > begin:
            part = slice(begin, end)
            columns = (stream.tokens[part], stream.last[part], stream.context[part])
            piece = vectors.trace(program, *columns, initial=state, reset_at_last=reset_at_last)
            state = State(piece.window, piece.state)
            for number in range(stream.contexts):
                ends = piece.last[piece.context == number]
                if reset_at_last and ends.size and ends[-1]:
                    _put(state, number, State.zeros(program, 1))
            pieces.append(piece)
            begin = end
        if operation is None:
            break
        if operation.kind == "save":
            states[operation.name] = state.member(operation.context)
        else:
            empty = State.zeros(program, 1)
            restored = states[operation.name] if operation.kind == "restore" else empty
            _put(state, operation.context, restored)
    return replace(_joined(pieces), window=state.window, state=state.scan), states
