"""Runs frame networks by the C++ back end, as :mod:`golden.frames` does.

:class:`FrameExecutor` takes and gives the golden model's arrays and states; a :class:`FrameContext`
keeps the state of one stream of frames inside.
"""

from __future__ import annotations

import numpy as np

from golden.fixed_point import IntegerLike, Integers
from golden.frames import check_features
from golden.program import Program
from golden.reference import Probe
from golden.state import State
from native.library import KeptState, Recorder, core, prepare

_ONCE_A_FRAME = ("pooled", "norm", "hidden", "logits")
"""Values outside the layers that a frame has once, not once a token."""


def _run(
    program: Program,
    executor: core.Executor,
    features: IntegerLike,
    state: core.State | None,
    probe: Probe | None,
) -> Integers:
    """Return the outputs (frames, V) of a stream, whose ``state`` is advanced, or of each frame."""
    data = np.ascontiguousarray(check_features(program, features))
    if probe is None:
        return executor.frames(data, len(data), state, None)
    recorder = Recorder()
    outputs = np.empty((len(data), program.shape.vocabulary), np.int64)
    for row, frame in enumerate(data):
        outputs[row] = executor.frames(frame, 1, state, recorder)[0]
        recorder.next_sequence()
    for (name, layer), values in recorder.joined().items():
        once = layer < 0 and name in _ONCE_A_FRAME
        probe(name, layer, values[:, 0] if once else values)
    return outputs


class FrameContext(KeptState[core.State]):
    """The state of one stream of frames, kept by the C++ back end.

    :meth:`FrameExecutor.context` makes one. Scan states or moving averages, and the windows of
    causal convolutions, go on from frame to frame; a convolution that looks ahead keeps to its own.
    """

    def __init__(self, program: Program, executor: core.Executor, state: core.State) -> None:
        super().__init__(program, state)
        self._executor = executor

    def advance(self, features: IntegerLike, probe: Probe | None = None) -> Integers:
        """Return the outputs (frames, V) of features (frames, rows, F) that continue the stream.

        ``probe`` receives what that of :meth:`FrameExecutor.forward` does.

        Raises
        ------
        InputError
            See :func:`golden.frames.check_features`. The state is then as before.
        """
        return _run(self._program, self._executor, features, self._state, probe)

    def copy(self) -> FrameContext:
        """Return another context with this state."""
        return FrameContext(self._program, self._executor, self._state.copy())


class FrameExecutor:
    """Runs a frame network; a drop-in for :class:`golden.frames.FrameExecutor`.

    Parameters and errors are those of :class:`native.executor.Executor`.
    """

    def __init__(self, program: Program, *, instructions: str = "") -> None:
        self.program = program
        self._own, self._executor = prepare(program, instructions)

    def context(self, state: State | None = None) -> FrameContext:
        """Return a context that continues from ``state``, a batch of one; None starts from zero.

        Raises
        ------
        InputError
            If a size or a value of the state is not the program's.
        """
        context = FrameContext(self.program, self._executor, core.State(self._own))
        if state is not None:
            context.restore(state)
        return context

    def forward(self, features: IntegerLike, probe: Probe | None = None) -> Integers:
        """Return the outputs (frames, V) of features (frames, rows, F), each from a state of zeros.

        ``probe`` receives the golden model's names and values, after the run.
        """
        return _run(self.program, self._executor, features, None, probe)

    def advance(self, features: IntegerLike, state: State) -> Integers:
        """Return the outputs (frames, V) of frames that continue one stream.

        Parameters
        ----------
        features : as in :meth:`forward`, in the order of time
        state : where the stream stands, a batch of one; advanced in place

        Raises
        ------
        InputError
            See :func:`golden.frames.check_features`, and if a size or a value of the state is not
            the program's. The state is then as before.
        """
        context = self.context(state)
        outputs, after = context.advance(features), context.save()
        state.window[...], state.scan[...] = after.window, after.scan
        return outputs
