"""Executes a language model, a batch or a step at a time."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from golden.compiled import CompiledProgram
from golden.fixed_point import IntegerLike, Integers
from golden.program import Program
from golden.reference import Probe, ReferenceExecutor, check_tokens
from golden.state import State

__all__ = ["Executor", "Probe", "State"]


class Executor:
    """Runs a language model; it prepares constants at first use and holds no state.

    Without probes it is compiled and fast; with a probe the readable definition runs, whose
    integers are the same.
    """

    def __init__(self, program: Program) -> None:
        self.program = program

    @cached_property
    def _compiled(self) -> CompiledProgram:
        return CompiledProgram(self.program)

    @cached_property
    def _reference(self) -> ReferenceExecutor:
        return ReferenceExecutor(self.program)

    def forward(
        self, tokens: IntegerLike, state: State | None = None, probe: Probe | None = None
    ) -> tuple[Integers, State]:
        """Return logits (b, l, V) and the state after the sequence.

        Parameters
        ----------
        tokens : (b, l) in 0..V-1
        state : where the sequence continues; not changed. None starts from zero.
        probe : receives every named intermediate in the order the hardware computes them

        Raises
        ------
        InputError
            If a token is outside the vocabulary or the array is not two-dimensional; see also
            :meth:`golden.state.State.check`.
        """
        if probe is not None:
            return self._reference.forward(tokens, state, probe)
        data = check_tokens(self.program, tokens)
        state = State.begin(self.program, len(data), state)
        return self._compiled.forward(data, state), state

    def step(self, tokens: IntegerLike, state: State) -> tuple[Integers, State]:
        """Return logits (b, V) for one token of each sequence, (b,); equal to :meth:`forward`."""
        logits, state = self.forward(np.asarray(tokens)[:, None], state)
        return logits[:, 0], state
