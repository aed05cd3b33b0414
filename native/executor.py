"""Runs integer programs by the C++ back end, as :mod:`golden.executor` and `golden.frames` do.

The same integers as golden's, under the same names. :class:`Executor` and :class:`FrameExecutor`
take and give the golden model's arrays and states; a :class:`Context` keeps the state of one
sequence inside, which spares the conversion of every step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from golden.fixed_point import IntegerLike, Integers
from golden.program import Program
from golden.reference import Probe, check_tokens
from golden.state import State
from native.library import KeptState, Recorder, core, prepare


class _Sequence:
    """One sequence on the caller's thread: an executor and the state that it advances."""

    def __init__(self, executor: core.Executor, state: core.State, vocabulary: int) -> None:
        self._executor, self.state, self._vocabulary = executor, state, vocabulary
        logits = np.empty(vocabulary, np.int32)
        self.step = core.Stepper(executor, state, logits).step

    def forward(self, tokens: Integers, probe: Probe | None) -> Integers:
        return self._executor.forward(tokens, self.state, probe)

    def generate(self, token: int, count: int) -> Integers:
        return self._executor.generate(token, count, self.state)

    def copy(self) -> _Sequence:
        return _Sequence(self._executor, self.state.copy(), self._vocabulary)


class _TeamSequence:
    """The same on several threads, which the state keeps."""

    def __init__(self, executor: core.TeamExecutor, state: core.TeamState, vocabulary: int) -> None:
        self._executor, self.state, self._vocabulary = executor, state, vocabulary
        logits = np.empty(vocabulary, np.int32)
        self.step = core.TeamStepper(executor, state, logits).step

    def forward(self, tokens: Integers, probe: Probe | None) -> Integers:
        if probe is not None:
            raise InputError("a probe sees the values of one thread; use a context with threads=1")
        return self._executor.forward(tokens, self.state)

    def generate(self, token: int, count: int) -> Integers:
        return self._executor.generate(token, count, self.state)

    def copy(self) -> _TeamSequence:
        return _TeamSequence(self._executor, self.state.copy(), self._vocabulary)


class Context(KeptState[core.State | core.TeamState]):
    """The state of one sequence, kept by the C++ back end; :meth:`Executor.context` makes one."""

    def __init__(self, program: Program, sequence: _Sequence | _TeamSequence) -> None:
        super().__init__(program, sequence.state)
        self._sequence, self._step = sequence, sequence.step

    def step(self, token: int) -> npt.NDArray[np.int32]:
        """Return the logits (V,) of one token and advance.

        Raises
        ------
        InputError
            If the token is outside the vocabulary.
        """
        return self._step(token)

    def forward(self, tokens: IntegerLike, probe: Probe | None = None) -> Integers:
        """Return the logits (l, V) of tokens (l,) and advance; equal to l steps.

        ``probe`` receives the golden model's names and values, block by block of at most 16
        tokens, (tokens, ...).
        """
        data = check_tokens(self._program, np.asarray(tokens)[None])[0]
        return self._sequence.forward(np.ascontiguousarray(data), probe)

    def generate(self, token: int, count: int) -> Integers:
        """Return the ``count`` tokens that follow ``token``, each the arg-max of the logits."""
        return self._sequence.generate(token, count)

    def copy(self) -> Context:
        """Return another context with this state, and with as many threads of its own."""
        return Context(self._program, self._sequence.copy())


class Executor:
    """Runs a language model; a drop-in for :class:`golden.executor.Executor`.

    Parameters
    ----------
    program : what to run
    instructions : one of :func:`native.library.available_instructions`; empty takes the best

    Raises
    ------
    InputError
        If the processor lacks the instructions.
    """

    def __init__(self, program: Program, *, instructions: str = "") -> None:
        self.program = program
        self._own, self._executor = prepare(program, instructions)
        self._instructions = instructions
        self._teams: dict[int, core.TeamExecutor] = {}

    def context(self, state: State | None = None, *, threads: int = 1) -> Context:
        """Return a context that continues from ``state``, a batch of one; None starts from zero.

        Several ``threads`` compute a sequence together; the context keeps them, and they wait
        busily for each other.

        Raises
        ------
        InputError
            If a size or a value of the state is not the program's, or if its blocks cannot be
            shared by so many threads.
        """
        context = Context(self.program, self._sequence(threads))
        if state is not None:
            context.restore(state)
        return context

    def _sequence(self, threads: int) -> _Sequence | _TeamSequence:
        vocabulary = self.program.shape.vocabulary
        if threads == 1:
            return _Sequence(self._executor, core.State(self._own), vocabulary)
        if threads < 1:
            raise InputError(f"threads = {threads} is below 1; give 1 or more")
        if threads not in self._teams:
            self._teams[threads] = core.TeamExecutor(self._own, threads, self._instructions)
        team = self._teams[threads]
        return _TeamSequence(team, core.TeamState(team), vocabulary)

    def forward(
        self, tokens: IntegerLike, state: State | None = None, probe: Probe | None = None
    ) -> tuple[Integers, State]:
        """Return logits (b, l, V) and the state after the sequence; see the golden model's.

        ``probe`` receives the golden model's names and values, after the run.
        """
        data = np.ascontiguousarray(check_tokens(self.program, tokens))
        state = State.zeros(self.program, len(data)) if state is None else state.copy()
        recorder = None if probe is None else Recorder()
        logits = np.empty((*data.shape, self.program.shape.vocabulary), np.int64)
        for row, sequence in enumerate(data):
            context = self.context(state.member(row))
            logits[row] = context.forward(sequence, recorder)
            after = context.save()
            state.window[:, row], state.scan[:, row] = after.window[:, 0], after.scan[:, 0]
            if recorder is not None:
                recorder.next_sequence()
        if probe is not None and recorder is not None:
            for (name, layer), values in recorder.joined().items():
                probe(name, layer, values)
            probe("token", -1, logits.argmax(axis=-1))
        return logits, state

    def step(self, tokens: IntegerLike, state: State) -> tuple[Integers, State]:
        """Return logits (b, V) for one token of each sequence, (b,); equal to :meth:`forward`."""
        logits, state = self.forward(np.asarray(tokens)[:, None], state)
        return logits[:, 0], state
