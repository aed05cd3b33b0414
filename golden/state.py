"""What a sequence leaves behind in the machine: explicit, so that it can be saved and restored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden.errors import InputError
from golden.fixed_point import Integers
from golden.program import Program


@dataclass
class State:
    """What a sequence leaves behind, explicit and copyable.

    Parameters
    ----------
    window : the last K - 1 convolution inputs, oldest first, (layers, b, K - 1, c)
    scan : the recurrent state h, (layers, b, e, n)
    """

    window: Integers
    scan: Integers

    @classmethod
    def zeros(cls, program: Program, batch: int) -> State:
        """Return the state at the start of a sequence."""
        shape = program.shape
        # A moving average's convolution looks ahead over whole frames and keeps nothing.
        past = shape.d_conv - 1 if shape.average is None else 0
        return cls(
            np.zeros((shape.n_layer, batch, past, shape.convolution_channels), np.int64),
            np.zeros((shape.n_layer, batch, shape.d_inner, shape.d_state), np.int64),
        )

    @classmethod
    def begin(cls, program: Program, batch: int, state: State | None) -> State:
        """Return a copy of ``state``, checked, or of zeros if there is none."""
        if state is None:
            return cls.zeros(program, batch)
        state.check(program, batch)
        return state.copy()

    def check(self, program: Program, batch: int) -> None:
        """Raise InputError unless this is a state of ``program`` for ``batch`` sequences."""
        expected = State.zeros(program, batch)
        for name in ("window", "scan"):
            found, needed = getattr(self, name).shape, getattr(expected, name).shape
            if found != needed:
                raise InputError(
                    f"the state's {name} has shape {found}, {batch} sequences of this program "
                    f"need {needed}; give a state of as many sequences, from the same program"
                )

    def member(self, number: int) -> State:
        """Return a copy of one member of the batch, as a batch of one."""
        own = slice(number, number + 1)
        return State(self.window[:, own].copy(), self.scan[:, own].copy())

    def copy(self) -> State:
        """Return an independent copy."""
        return State(self.window.copy(), self.scan.copy())
