"""Windows of text as inputs and targets, and bits per byte of anything that returns logits.

The convention is that of :func:`model.training.bits_per_byte`: windows do not overlap, each starts
from the zero state with a separator as its first input, so that every byte is predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from golden.executor import Executor, State
from golden.program import Program
from model.corpus import SEPARATOR
from model.float_simulation import FloatNetwork, FloatState, Hook

__all__ = [
    "WINDOW",
    "Advance",
    "Start",
    "bits_per_token",
    "choose_windows",
    "cut_windows",
    "float_bits",
    "float_start",
    "inputs_of",
    "integer_bits",
    "integer_start",
    "negative_log2",
    "stretches",
    "token_bits",
]  # fmt: skip

Array = npt.NDArray[Any]

WINDOW = 4096
"""Bytes between state resets in every reported figure."""

_BATCH = 16
_STRETCH = 256

Advance = Callable[[int], None]
"""Told how many tokens were just processed."""

Start = Callable[[int], Callable[[Array], Array]]
"""``start(batch)`` begins sequences; its result maps the next tokens (b, l) to logits (b, l, V)."""


def inputs_of(targets: Array) -> Array:
    """Return the tokens that precede ``targets`` (b, l), a separator first."""
    start = np.full_like(targets[:, :1], SEPARATOR[0])
    return np.concatenate([start, targets[:, :-1]], axis=1)


def cut_windows(stream: Array, window: int) -> list[Array]:
    """Cut a stream into (b, window) and, for the rest, (1, shorter), as int64."""
    whole = len(stream) // window * window
    pieces = [stream[:whole].reshape(-1, window)] if whole else []
    if whole < len(stream):
        pieces.append(stream[whole:].reshape(1, -1))
    return [piece.astype(np.int64) for piece in pieces]


def choose_windows(stream: Array, count: int, length: int, seed: int) -> Array:
    """Return ``count`` windows (count, length) of ``stream``, without overlap, by ``seed``.

    Raises
    ------
    InputError
        If the text is too short for that many.
    """
    available = len(stream) // length
    if available < count:
        raise InputError(
            f"the calibration text has {len(stream)} tokens, {count} windows of {length} need "
            f"{count * length}; give more text or a smaller --calibration-bytes"
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(available)[:count])
    return stream[: available * length].reshape(-1, length)[chosen].astype(np.int64)


def negative_log2(targets: Array, logits: Array) -> Array:
    """Return ``-log2 p(target)``, (b, l): targets (b, l), logits (b, l, V) in natural units."""
    values = logits.astype(np.float64)
    values -= values.max(axis=-1, keepdims=True)
    total = np.log(np.exp(values).sum(axis=-1))  # b l
    chosen = np.take_along_axis(values, targets[..., None], axis=-1)[..., 0]  # b l
    bits: Array = (total - chosen) / np.log(2.0)
    return bits


def stretches(
    start: Start, pieces: list[Array], advance: Advance | None = None
) -> Iterator[tuple[Array, Array]]:
    """Run ``pieces`` stretch by stretch; yield targets (b, l) and their logits (b, l, V).

    The windows of a batch come stretch after stretch, then those of the next.
    """
    for piece in pieces:
        for first in range(0, len(piece), _BATCH):
            targets = piece[first : first + _BATCH]
            inputs, step = inputs_of(targets), start(len(targets))
            for begin in range(0, targets.shape[1], _STRETCH):
                part = slice(begin, begin + _STRETCH)
                yield targets[:, part], step(inputs[:, part])
                if advance is not None:
                    advance(targets[:, part].size)


def token_bits(start: Start, pieces: list[Array], advance: Advance | None = None) -> Array:
    """Return the bits that each target costs, in the order of the stream, (tokens,).

    Parameters
    ----------
    pieces : targets, see :func:`cut_windows`
    """
    costs = []
    for piece in pieces:
        cost = np.empty(piece.shape)
        for first in range(0, len(piece), _BATCH):
            rows = slice(first, first + _BATCH)
            own = [negative_log2(*both) for both in stretches(start, [piece[rows]], advance)]
            cost[rows] = np.concatenate(own, axis=1)
        costs.append(cost.reshape(-1))
    return np.concatenate(costs)


def bits_per_token(start: Start, pieces: list[Array], advance: Advance | None = None) -> float:
    """Return the mean bits a target costs."""
    return float(token_bits(start, pieces, advance).mean())


def integer_start(program: Program) -> Start:
    """Return what runs an integer program; its logits are ``q 2**-fraction``."""
    executor, scale = Executor(program), 2.0**-program.logit_fraction

    def start(batch: int) -> Callable[[Array], Array]:
        state = State.zeros(program, batch)

        def step(tokens: Array) -> Array:
            nonlocal state
            logits, state = executor.forward(tokens, state)
            return logits * scale

        return step

    return start


def integer_bits(program: Program, pieces: list[Array], advance: Advance | None = None) -> float:
    """Return the bits a token costs under an integer program."""
    return bits_per_token(integer_start(program), pieces, advance)


def float_start(network: FloatNetwork, hook: Hook | None = None) -> Start:
    """Return what runs the float network."""

    def start(batch: int) -> Callable[[Array], Array]:
        state = FloatState.zeros(network.parameters, batch)
        if hook is None:
            return lambda tokens: network.forward(tokens, state)
        return lambda tokens: network.forward(tokens, state, hook)

    return start


def float_bits(
    network: FloatNetwork,
    pieces: list[Array],
    advance: Advance | None = None,
    hook: Hook | None = None,
) -> float:
    """Return the bits a token costs under the float network."""
    return bits_per_token(float_start(network, hook), pieces, advance)
