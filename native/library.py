"""The compiled library in Python: what contexts and executors of all networks share."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np

from golden.artifact import to_bytes
from golden.errors import InputError
from golden.fixed_point import Integers
from golden.program import Program
from golden.state import State

try:
    from native import _core as core
except ImportError as error:
    raise InputError(
        "the C++ back end is not built; build it with: pip install --editable . "
        "(it needs a C++17 compiler)"
    ) from error

__all__ = ["KeptState", "Recorder", "available_instructions", "core", "prepare"]

Kept = TypeVar("Kept", bound="core.State | core.TeamState")


def available_instructions() -> list[str]:
    """Return the instruction sets of this processor that the inner loops exist for, best first."""
    return core.available_instructions()


def prepare(program: Program, instructions: str) -> tuple[core.Program, core.Executor]:
    """Return ``program`` as the library has it, and what runs it.

    Raises
    ------
    InputError
        If the processor lacks the instructions.
    """
    own = core.Program.from_bytes(to_bytes(program), "the program")
    return own, core.Executor(own, instructions)


class KeptState(Generic[Kept]):
    """A state that the library keeps; it enters and leaves as the golden model's.

    Parameters
    ----------
    program : whose state it is
    state : the library's own
    """

    def __init__(self, program: Program, state: Kept) -> None:
        self._program, self._state = program, state

    def reset(self) -> None:
        """Return to the start of a sequence, a state of zeros."""
        self._state.reset()

    def save(self) -> State:
        """Return the golden model's state, a batch of one."""
        zeros = State.zeros(self._program, 1)
        return State(
            self._state.window().reshape(zeros.window.shape),
            self._state.scan().reshape(zeros.scan.shape),
        )

    def restore(self, state: State) -> None:
        """Continue from a state of the golden model, a batch of one.

        Raises
        ------
        InputError
            If its size or a value is not the program's.
        """
        self._state.restore(
            np.ascontiguousarray(state.window, np.int64), np.ascontiguousarray(state.scan, np.int64)
        )


class Recorder:
    """Joins the pieces in which values arrive: blocks of tokens, one sequence after another."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[str, int], list[list[Integers]]] = {}
        self._sequence = 0

    def __call__(self, name: str, layer: int, values: Integers) -> None:
        """Take the next piece (tokens, width) of a value."""
        sequences = self._pieces.setdefault((name, layer), [])
        while len(sequences) <= self._sequence:
            sequences.append([])
        sequences[self._sequence].append(values)

    def next_sequence(self) -> None:
        """Begin the pieces of another sequence."""
        self._sequence += 1

    def joined(self) -> dict[tuple[str, int], Integers]:
        """Return every value, (sequences, tokens, width), in the order of computation."""
        return {
            key: np.stack([np.concatenate(pieces) for pieces in sequences])
            for key, sequences in self._pieces.items()
        }
