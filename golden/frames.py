"""Executes a frame network: features in, one vector of outputs a frame.

Front and head are the definition itself, in NumPy integers; they are a small part of the work. The
blocks between them run compiled, or as the definition where probes ask for every intermediate.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from golden.compiled import POSITIONS, CompiledBlocks
from golden.configuration import FrameShape
from golden.errors import InputError
from golden.fixed_point import IntegerLike, Integers, integer_range, requantize, saturate
from golden.operations.activation import silu
from golden.operations.linear import accumulate
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from golden.reference import Probe, ReferenceBlocks, final_norm, ignore
from golden.state import State


def frame_of(program: Program) -> FrameShape:
    """Return the shape of a frame; InputError for a language model."""
    _ = program.feature_embedding
    assert program.shape.frame is not None  # guaranteed by golden.validation
    return program.shape.frame


def check_features(program: Program, features: IntegerLike) -> Integers:
    """Return ``features`` as integers (frames, rows, F); a row is a token without patches.

    Raises
    ------
    InputError
        If the shape is not the program's, a value exceeds ``feature_bits``, or the program is a
        language model.
    """
    data = np.asarray(features, dtype=np.int64)
    rows, width = frame_of(program).rows, len(program.feature_embedding.channel)
    if data.ndim != 3 or data.shape[1:] != (rows, width):
        raise InputError(
            f"features have shape {data.shape}, the program reads (frames, {rows}, {width}); "
            "give whole frames"
        )
    bits = program.scheme.feature_bits
    low, high = integer_range(bits)
    if data.size and not low <= data.min() <= data.max() <= high:
        raise InputError(
            f"features span {data.min()}..{data.max()}, outside {low}..{high} of {bits} bits; "
            "saturate them to that range"
        )
    return data


def patches(program: Program, features: Integers, probe: Probe = ignore) -> Integers:
    """Return the patches (frames, T, P C) of checked features (frames, rows, F).

    ``probe`` receives rows, the projected rows (frames, rows, C).
    """
    patch, linear = frame_of(program).patch, program.row_projection.linear
    assert patch is not None  # guaranteed by golden.validation
    assert linear.bias is not None
    total = accumulate(linear.weight, features) + linear.bias  # frames rows C
    rows = requantize(total, program.row_shift, program.scheme.feature_bits)
    probe("rows", -1, rows)
    first = np.arange(frame_of(program).tokens)[:, None] * patch.stride  # T 1
    chosen = rows[:, first + np.arange(patch.kernel)]  # frames T P C
    return chosen.reshape(*chosen.shape[:2], -1)


def embed(program: Program, features: Integers, probe: Probe = ignore) -> Integers:
    """Return the residual stream (frames, T, d) of checked features (frames, rows, F).

    ``probe`` receives rows, if the network has patches; see :func:`patches`.
    """
    front = program.feature_embedding
    if front.rows is not None:
        features = patches(program, features, probe)
    total = accumulate(front.projection.weight, features) + front.bias  # frames T d
    return requantize(total, program.feature_shift, program.scheme.residual_bits)


def outputs(program: Program, residual: Integers, probe: Probe = ignore) -> Integers:
    """Return the outputs (frames, V) of the last block's residual (frames, T, d).

    ``probe`` receives pooled, norm (frames, d), hidden (frames, H) and logits (frames, V), or of a
    head that reads all tokens norm (frames, T d) and logits.
    """
    head, scheme = program.head, program.scheme
    if program.pooled is None:
        hidden = final_norm(program, residual).reshape(len(residual), -1)  # frames (T d)
        probe("norm", -1, hidden)
    else:
        hidden = _pooled(program, residual, probe)  # frames H
    assert head.bias is not None  # guaranteed by golden.validation
    total = accumulate(head.weight, hidden) + head.bias  # frames V
    result = requantize(total, program.head_shift, scheme.logit_bits)
    probe("logits", -1, result)
    return result


def _pooled(program: Program, residual: Integers, probe: Probe) -> Integers:
    """Return the hidden layer (frames, H) on the mean of the residual (frames, T, d)."""
    scheme, linear = program.scheme, program.pooled_head.hidden
    shift = frame_of(program).tokens_log2
    pooled = requantize(residual.sum(axis=1), shift, scheme.residual_bits)  # frames d
    probe("pooled", -1, pooled)
    norm = final_norm(program, pooled)  # frames d
    probe("norm", -1, norm)
    assert linear.bias is not None  # guaranteed by golden.validation
    total = accumulate(linear.weight, norm) + linear.bias  # frames H
    raw = requantize(total, program.hidden_shift, ACTIVATION_INPUT_BITS)
    activated = silu(raw, program.tables.silu)
    hidden = requantize(activated, program.hidden_output_shift, scheme.activation_bits)
    probe("hidden", -1, hidden)
    return hidden


def features_of(program: Program, values: np.ndarray) -> Integers:
    """Return real features (..., F) as the integers that the program reads.

    Rounds half to even to ``fraction + channel`` bits a feature and saturates to ``feature_bits``.
    """
    front = program.feature_embedding
    scaled = np.rint(np.ldexp(np.asarray(values, dtype=float), front.fraction + front.channel))
    return saturate(scaled, program.scheme.feature_bits)


class FrameExecutor:
    """Runs a frame network; it prepares constants at first use and holds no state.

    Without probes the blocks are compiled and fast; with a probe the readable definition runs,
    whose integers are the same. In :meth:`forward` every frame starts from a state of zeros.
    """

    def __init__(self, program: Program) -> None:
        self.program = program

    @cached_property
    def _compiled(self) -> CompiledBlocks:
        return CompiledBlocks(self.program)

    @cached_property
    def _reference(self) -> ReferenceBlocks:
        return ReferenceBlocks(self.program)

    def forward(self, features: IntegerLike, probe: Probe | None = None) -> Integers:
        """Return the outputs (frames, V).

        Parameters
        ----------
        features : (frames, rows, F), signed ``feature_bits``; a row is a token without patches
        probe : receives every named intermediate in the order the hardware computes them: with
            patches of the rows (frames, rows, C) rows, of the tokens (frames, T, ...) the
            embedding's residual and the blocks' probes, of the frames (frames, ...) pooled, norm,
            hidden and logits

        Raises
        ------
        InputError
            See :func:`check_features`.
        """
        data = check_features(self.program, features)
        if probe is not None:
            state = State.zeros(self.program, len(data))
            residual = embed(self.program, data, probe)
            probe("residual", -1, residual)  # frames T d
            return outputs(self.program, self._reference.forward(residual, state, probe), probe)
        result = np.empty((len(data), self.program.shape.vocabulary), np.int64)
        block = max(1, POSITIONS // max(data.shape[1], 1))
        for start in range(0, len(data), block):
            stretch = data[start : start + block]
            result[start : start + block] = self._stretch(
                stretch, State.zeros(self.program, len(stretch))
            )
        return result

    def advance(self, features: IntegerLike, state: State) -> Integers:
        """Return the outputs (frames, V) of frames that continue one stream.

        Every frame begins with the state that the one before left behind.

        Parameters
        ----------
        features : as in :meth:`forward`, in the order of time
        state : where the stream stands, a batch of one; advanced in place

        Raises
        ------
        InputError
            See :func:`check_features` and :meth:`golden.state.State.check`.
        """
        data = check_features(self.program, features)
        state.check(self.program, 1)
        result = np.empty((len(data), self.program.shape.vocabulary), np.int64)
        for number in range(len(data)):
            result[number] = self._stretch(data[number : number + 1], state)[0]
        return result

    def _stretch(self, features: Integers, state: State) -> Integers:
        """Return the outputs of a few frames, whose tensors fit the cache; advance ``state``."""
        residual = embed(self.program, features)  # frames T d
        flat = residual.reshape(-1, residual.shape[-1]).astype(np.float32)  # (frames T) d
        self._compiled.advance(flat, state)
        return outputs(self.program, flat.astype(np.int64).reshape(residual.shape))
