"""Runs the float network over calibration text, block by block, and keeps what quantizing needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model.float_simulation import FloatNetwork, FloatState

__all__ = ["BlockValues", "FloatBlocks", "thin"]

Array = npt.NDArray[Any]

_SAMPLES = 4096
"""Positions a tensor that decide its exponents."""
_STATE_ELEMENTS = 1 << 22


def thin(values: Array, count: int = _SAMPLES) -> Array:
    """Return about ``count`` rows of ``values`` (b, l, channels), evenly spaced, (rows, channels).

    The step is odd, so that it does not stay at the same position of every window.
    """
    flat = values.reshape(-1, values.shape[-1])
    return flat[:: max(1, len(flat) // count) | 1]


class BlockValues:
    """Every intermediate of one block: ``whole`` (b, l, ...) by name, ``samples`` thinned out."""

    def __init__(self) -> None:
        self.whole: dict[str, Array] = {}
        self._states: list[Array] = []

    def record(self, name: str, layer: int, value: Array) -> Array:
        """Keep ``value``: a hook of :class:`FloatNetwork`."""
        del layer
        if name == "state":
            self._states.append(value.copy())
        else:
            self.whole[name] = value
        return value

    @property
    def samples(self) -> dict[str, Array]:
        """Values (rows, channels) by name; ``state`` is (rows, e, n)."""
        result = {name: thin(value) for name, value in self.whole.items()}
        kept = max(1, _STATE_ELEMENTS // self._states[0].size)
        states = self._states[:: max(1, len(self._states) // kept)]
        result["state"] = np.concatenate(states)
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

    def head(self) -> BlockValues:
        """Return the values of the final norm and of the head."""
        values = BlockValues()
        self.network.head(self.residual, values.record)
        return values
