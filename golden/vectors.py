"""Golden vectors: every value that the Verilog exposes, for every token of a stream.

:func:`trace` computes them; :mod:`golden.vector_files` stores them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden.errors import InputError
from golden.fixed_point import IntegerLike, Integers, saturate
from golden.frames import check_features, embed, frame_of, outputs
from golden.program import Program
from golden.reference import ReferenceBlocks, ReferenceExecutor, check_tokens
from golden.state import State


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What one stream of tokens makes a program compute.

    Parameters
    ----------
    tokens : (l,), or the features of a frame network, one row each, (l, F)
    last : 1 where a sequence ends, as TLAST does, and so at the end of every frame, (l,)
    context : which of the independent streams the token belongs to, (l,), one for all of a frame
    probes : ``"layer{i}.{probe}"`` inside block i and ``"{probe}"`` outside, each (l, ...).
        Outside: residual (the embedding, l d), norm (before the head, l d), logits (l V), token
        (arg-max, l); of a frame network, once a frame, pooled (frames d), norm (frames d), hidden
        (frames H) and logits (frames V) in place of the last three, without hidden layer norm
        (frames T d) and logits; of one with patches rows (l C). Inside, in the order of
        computation: norm (l d), x, convolution, u (l c), scan_u (stored words), gate (l e),
        projected (l r+2n), delta, scan_output, gated and, if the scheme rotates, rotated (l e),
        residual (l d), and if asked for state (after the token, l e n). With heads dt, delta and
        decay (l h) take the place of projected and delta, and normed (l e) follows gated. A moving
        average has no convolution or gate if its shape has none, and decay (l e) in place of delta
        and scan_output. Probes of a network with patches have one entry a token, not a row.
    window : convolution inputs left at the end, oldest first, (layers, contexts, K - 1, c)
    state : recurrent state left at the end, (layers, contexts, e, n)
    """

    tokens: Integers
    last: Integers
    context: Integers
    probes: dict[str, Integers]
    window: Integers
    state: Integers


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """A stream of tokens and how it came about, for the manifest.

    Parameters
    ----------
    tokens : (l,), or features (l, F)
    last, context : (l,)
    seed : of random tokens
    contexts : independent streams among which the tokens are, C
    text : UTF-8 text in place of random tokens, or None
    reset_at_last : the reset policy that the stream is for; frames of several contexts go on from
        the one before, as otherwise no context would keep anything
    """

    tokens: Integers
    last: Integers
    context: Integers
    seed: int
    contexts: int = 1
    text: str | None = None
    reset_at_last: bool = True


def random_stimulus(program: Program, length: int, seed: int, contexts: int = 1) -> Stimulus:
    """Return ``length`` random tokens in sequences of 1 to 7 tokens, the last one cut at the end.

    With several contexts each token belongs to a random one, so that their sequences interleave.
    For a frame network ``length`` counts frames, each of a random context; a few of their features
    saturate.

    Raises
    ------
    InputError
        If ``length``, ``seed`` or ``contexts`` is out of range.
    """
    if not 1 <= length <= 1 << 16:
        raise InputError(f"{length} tokens are outside 1..{1 << 16}; choose a number in that range")
    if seed < 0:
        raise InputError(f"seed {seed} is negative; choose 0 or more")
    if contexts < 1:
        raise InputError(f"contexts = {contexts}: choose 1 or more")
    random = np.random.default_rng(seed)
    if program.shape.frame is not None:
        count, width = length * program.shape.frame.rows, program.shape.frame.features
        bits = program.scheme.feature_bits
        features = saturate(np.rint(random.normal(0.0, 2.0 ** (bits - 3), (count, width))), bits)
        context = random.integers(0, contexts, length).repeat(program.shape.frame.rows)
        return Stimulus(
            tokens=features,
            last=frame_ends(program, count),
            context=context,
            seed=seed,
            contexts=contexts,
            reset_at_last=contexts == 1,
        )
    tokens = random.integers(0, program.shape.vocabulary, length)
    ends = np.cumsum(random.integers(1, 8, length)) - 1
    last = np.zeros_like(tokens)
    last[ends[ends < length]] = 1
    last[-1] = 1
    context = random.integers(0, contexts, length)
    return Stimulus(tokens=tokens, last=last, context=context, seed=seed, contexts=contexts)


def frame_ends(program: Program, count: int) -> Integers:
    """Return TLAST of ``count`` rows of a frame network: 1 at the last row of every frame."""
    rows = frame_of(program).rows
    return (np.arange(count) % rows == rows - 1).astype(np.int64)


def text_stimulus(text: str) -> Stimulus:
    """Return the UTF-8 bytes of ``text`` as one sequence of tokens."""
    # Python carries bytes of a command line that are not UTF-8 as surrogates.
    encoded = text.encode(errors="surrogateescape")
    tokens = np.frombuffer(encoded, dtype=np.uint8).astype(np.int64)
    if not len(tokens):
        raise InputError("the text is empty; give at least one character")
    last = np.zeros_like(tokens)
    last[-1] = 1
    return Stimulus(tokens=tokens, last=last, context=np.zeros_like(tokens), seed=0, text=text)


def _probe_name(name: str, layer: int) -> str:
    return name if layer < 0 else f"layer{layer}.{name}"


class _Recorder:
    """Collects probes of successive runs and joins them along the tokens."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[Integers]] = {}

    def __call__(self, name: str, layer: int, values: Integers) -> None:
        self._pieces.setdefault(_probe_name(name, layer), []).append(values[0])

    def joined(self) -> dict[str, Integers]:
        return {name: np.concatenate(pieces) for name, pieces in self._pieces.items()}


def _runs(last: Integers, context: Integers, *, single: bool) -> list[slice]:
    """Return the stretches to execute at once: single tokens, or neighbours of one sequence."""
    borders = np.flatnonzero((last[:-1] != 0) | (np.diff(context) != 0))
    ends = np.arange(len(last)) if single else np.append(borders, len(last) - 1)
    starts = [0, *(ends[:-1] + 1).tolist()]
    return [slice(start, end + 1) for start, end in zip(starts, ends.tolist(), strict=True)]


def trace(
    program: Program,
    tokens: IntegerLike,
    last: IntegerLike | None = None,
    context: IntegerLike | None = None,
    *,
    initial: State | None = None,
    with_state: bool = True,
    reset_at_last: bool = True,
) -> Trace:
    """Execute one stream and return every probe; the golden model of the whole Verilog.

    Tokens of several contexts may interleave: each context has a state and sequences of its own.
    The tokens of a frame are of one context.

    Parameters
    ----------
    program : what to execute
    tokens : (l,), l >= 1, or the features of whole frames, (l, F), each of which is a sequence
    last : non-zero where a sequence ends, (l,); None ends one at the last token
    context : of every token, (l,); None is 0 for all
    initial : what each context starts from, as a batch of contexts, not changed; None is one
        context more than the largest that occurs, all at zero
    with_state : also record the state after every token, which runs token by token and takes
        ``l e n`` integers a layer; for short streams
    reset_at_last : the reset policy: True clears the state before the token after an end, False
        never does

    Raises
    ------
    InputError
        If the shapes disagree, the stream is empty, a token is outside the vocabulary, a context
        outside ``initial``, or the features of a frame network are not whole frames of one context
        each within ``feature_bits``.
    """
    data = np.asarray(tokens, dtype=np.int64)
    if program.shape.frame is not None:
        return _trace_frames(
            program, data, last, context,
            initial=initial, with_state=with_state, reset_at_last=reset_at_last,
        )  # fmt: skip
    if last is None:
        flags = (np.arange(data.size) == data.size - 1).astype(np.int64)
    else:
        flags = (np.asarray(last) != 0).astype(np.int64)
    if data.ndim != 1 or data.shape != flags.shape or not data.size:
        raise InputError(
            f"tokens {data.shape} and last {flags.shape} must be one stream of equal length >= 1"
        )
    check_tokens(program, data[None])
    numbers = _numbers(context, data.size)
    state = _initial_state(program, numbers, initial)
    executor, recorder = ReferenceExecutor(program), _Recorder()
    ended = [False] * state.scan.shape[1]
    for run in _runs(flags, numbers, single=with_state):
        number = int(numbers[run.start])
        own = State.zeros(program, 1) if ended[number] else state.member(number)
        _, own = executor.forward(data[None, run], own, recorder)
        state.window[:, number], state.scan[:, number] = own.window[:, 0], own.scan[:, 0]
        ended[number] = reset_at_last and bool(flags[run.stop - 1])
        if with_state:
            for layer, values in enumerate(own.scan):
                recorder("state", layer, values[:, None])
    return Trace(
        tokens=data,
        last=flags,
        context=numbers,
        probes=recorder.joined(),
        window=state.window,
        state=state.scan,
    )


def _numbers(context: IntegerLike | None, count: int) -> Integers:
    """Return the context of each of ``count`` tokens, 0 for all if there is none."""
    numbers = np.zeros(count, np.int64) if context is None else np.asarray(context, dtype=np.int64)
    if numbers.shape != (count,) or numbers.min() < 0:
        raise InputError(
            f"context {numbers.shape} from {numbers.min(initial=0)} must give each of "
            f"{count} tokens a number of 0 or more"
        )
    return numbers


def _initial_state(program: Program, context: Integers, initial: State | None) -> State:
    """Return the state of all contexts before the first token, to be changed."""
    largest = int(context.max())
    state = State.zeros(program, largest + 1) if initial is None else initial.copy()
    if largest >= state.scan.shape[1]:
        raise InputError(
            f"context {largest} occurs, but the initial state has {state.scan.shape[1]} contexts"
        )
    return state


def _whole_frames(program: Program, features: Integers, last: IntegerLike | None) -> Integers:
    """Return a stream (l, F) that ends each frame as ``last`` says, as (frames, rows, F)."""
    rows, width = frame_of(program).rows, frame_of(program).features
    count = len(features) if features.ndim == 2 else 0
    if not count or count % rows or features.shape[1] != width:
        raise InputError(
            f"features have shape {features.shape}, the program reads whole frames of {rows} "
            f"rows, each {width} values: (l, {width})"
        )
    if last is not None and not np.array_equal(np.asarray(last) != 0, frame_ends(program, count)):
        raise InputError(f"last must be 1 at every {rows}th row, the end of a frame, else 0")
    return check_features(program, features.reshape(-1, rows, width))


def _frame_probes(
    program: Program, frames: Integers, state: State, *, with_state: bool
) -> dict[str, Integers]:
    """Execute frames (frames, rows, F) side by side from ``state``, a batch of them; advance it."""
    blocks = ReferenceBlocks(program)
    pieces: dict[str, list[Integers]] = {}

    def collect(name: str, layer: int, values: Integers) -> None:
        pieces.setdefault(_probe_name(name, layer), []).append(values)

    ends, embedded = [], embed(program, frames, collect)  # frames T d
    # The scan leaves its states one token at a time; a moving average shows them all.
    token_wise = with_state and program.shape.average is None
    stretches = embedded.shape[1] if token_wise else 1
    for residual in np.split(embedded, stretches, axis=1):  # frames t d
        collect("residual", -1, residual)
        ends.append(blocks.forward(residual, state, collect))
        if token_wise:
            for layer, values in enumerate(state.scan):
                collect("state", layer, values[:, None].copy())
    probes = {
        name: np.concatenate(values, axis=1).reshape(-1, *values[0].shape[2:])
        for name, values in pieces.items()
    }
    outputs(
        program, np.concatenate(ends, axis=1), lambda name, _, values: probes.update({name: values})
    )
    return probes


def _frame_contexts(program: Program, context: IntegerLike | None, count: int) -> Integers:
    """Return the context of every frame of a stream of ``count`` rows, (frames,)."""
    numbers = _numbers(context, count).reshape(-1, frame_of(program).rows)
    mixed = np.flatnonzero((numbers != numbers[:, :1]).any(axis=1))
    if mixed.size:
        raise InputError(
            f"the rows of frame {mixed[0]} have contexts {sorted(set(numbers[mixed[0]].tolist()))}"
            "; give all rows of a frame the same one"
        )
    return numbers[:, 0]


def _rounds(context: Integers, *, separate: bool, continues: bool) -> list[Integers]:
    """Return the numbers of the frames that can be executed side by side, round after round.

    A frame comes after those of its context whose state it needs: all of them, or if frames are
    ``separate`` only the context's first one before the others, if that one ``continues`` from a
    state.
    """
    earlier = np.zeros_like(context)
    for number in set(context.tolist()):
        own = np.flatnonzero(context == number)
        earlier[own] = np.arange(own.size)
    if separate:
        earlier = np.minimum(earlier, int(continues))
    return [np.flatnonzero(earlier == place) for place in range(int(earlier.max()) + 1)]


def _trace_frames(
    program: Program,
    features: Integers,
    last: IntegerLike | None,
    context: IntegerLike | None,
    *,
    initial: State | None,
    with_state: bool,
    reset_at_last: bool,
) -> Trace:
    """Execute whole frames, those that wait for no state all at once. See :func:`trace`."""
    frames = _whole_frames(program, features, last)
    numbers = _frame_contexts(program, context, len(features))
    state = _initial_state(program, numbers, initial)
    whole: dict[str, Integers] = {}
    rounds = _rounds(numbers, separate=reset_at_last, continues=initial is not None)
    for place, chosen in enumerate(rounds):
        who = numbers[chosen]
        own = State(state.window[:, who], state.scan[:, who])
        if place and reset_at_last:
            own = State.zeros(program, len(chosen))
        found = _frame_probes(program, frames[chosen], own, with_state=with_state)
        for name, values in found.items():
            by_frame = values.reshape(len(chosen), -1, *values.shape[1:])
            target = whole.setdefault(
                name, np.zeros((len(frames), *by_frame.shape[1:]), values.dtype)
            )
            target[chosen] = by_frame
        # Of several frames of a context the last one's state stays.
        state.window[:, who], state.scan[:, who] = own.window, own.scan
    return Trace(
        tokens=features,
        last=frame_ends(program, len(features)),
        context=numbers.repeat(frame_of(program).rows),
        probes={name: values.reshape(-1, *values.shape[2:]) for name, values in whole.items()},
        window=state.window,
        state=state.scan,
    )
