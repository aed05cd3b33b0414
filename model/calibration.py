"""Runs the float network over calibration text, block by block, and keeps what quantizing needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.float_simulation import FloatNetwork, FloatState, rms_norm

__all__ = ["BlockValues", "FloatBlocks", "thin"]

Array = npt.NDArray[Any]

_SAMPLES = 4096
"""Positions a tensor that decide its exponents."""
_STATE_ELEMENTS = 1 << 22
_WHOLE = frozenset({
    "x", "z", "dt", "b", "c", "convolution", "dt_raw", "out", "residual",
    "mlp_z", "up", "mlp_residual",
})  # fmt: skip
"""Intermediates that something is fitted to; of the others, samples choose the exponents."""


def thin(values: Array, count: int = _SAMPLES) -> Array:
    """Return about ``count`` rows of ``values`` (b, l, channels), evenly spaced, (rows, channels).

    The step is odd, so that it does not stay at the same position of every window.
    """
    flat = values.reshape(-1, values.shape[-1])
    return flat[:: max(1, len(flat) // count) | 1]


class BlockValues:
    """What quantizing needs of one block's intermediates.

    Members
    -------
    whole : what matrices, taps and biases are fitted to, (b, l, ...) by name
    """

    def __init__(self) -> None:
        self.whole: dict[str, Array] = {}
        self._thinned: dict[str, Array] = {}
        self._states: list[Array] = []
        self._seen, self._stride = 0, 1

    def record(self, name: str, layer: int, value: Array) -> Array:
        """Keep ``value`` or a part of it: a hook of :class:`FloatNetwork`."""
        del layer
        if name == "state":
            self._record_state(value)
        elif name in _WHOLE:
            self.whole[name] = value
        else:
            self._thinned[name] = thin(value).copy()
        return value

    def _record_state(self, value: Array) -> None:
        """Keep about :data:`_STATE_ELEMENTS`, evenly spaced, however many states there are."""
        if self._seen % self._stride == 0:
            self._states.append(value.copy())
        self._seen += 1
        if len(self._states) >= 2 * max(1, _STATE_ELEMENTS // value.size):
            self._states, self._stride = self._states[::2], 2 * self._stride

    @property
    def samples(self) -> dict[str, Array]:
        """Values (rows, channels) by name; ``state`` is (rows, e, n)."""
        result = self._thinned | {name: thin(value) for name, value in self.whole.items()}
        result["state"] = np.concatenate(self._states)
        return result


class FloatBlocks:
    """The float network over ``inputs`` (b, l), advanced one block at a time."""

    def __init__(self, network: FloatNetwork, inputs: Array) -> None:
        self.network = network
        self.residual = network.embed(inputs)  # b l d
        self._state = FloatState.zeros(network.parameters, len(inputs))
        self._index = 0

    def advance(self) -> BlockValues:
        """Run the next block and return its values; ``residual`` is then the stream after it."""
        values = BlockValues()
        self.residual = self.network.layer(self._index, self.residual, self._state, values.record)
        self._index += 1
        return values

    def head(self) -> tuple[Array, Array]:
        """Return the final norm (b, l, d), and the logits of some positions (rows, V).

        With a large vocabulary the logits of all would not fit the memory.
        """
        own = self.network.parameters
        norm = rms_norm(self.residual, own.final_norm_weight.astype(np.float32))
        return norm, thin(norm) @ own.head.T.astype(np.float32)
