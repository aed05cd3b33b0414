"""Choosing the next token from integer logits, the same way for golden model and hardware."""

from __future__ import annotations

import numpy as np

from golden.errors import InputError
from golden.fixed_point import IntegerLike, to_real


class Sampler:
    """Draws tokens from ``softmax(logits / temperature)``; temperature 0 takes the arg-max.

    The draw depends on the integers and the seed only, so that whoever has the same logits draws
    the same tokens.

    Parameters
    ----------
    logit_fraction : fraction bits of the logits
    temperature : 0 or more
    seed : of the random numbers, one a token

    Raises
    ------
    InputError
        If the temperature is negative or not finite.
    """

    def __init__(self, *, logit_fraction: int, temperature: float, seed: int) -> None:
        if not np.isfinite(temperature) or temperature < 0:
            raise InputError(f"temperature = {temperature} is not a number of at least 0")
        self._fraction, self._temperature = logit_fraction, temperature
        self._random = np.random.default_rng(seed)

    def choose(self, logits: IntegerLike) -> int:
        """Return the next token for the logits (V,) of one position."""
        integers = np.asarray(logits, dtype=np.int64)
        if self._temperature == 0:
            return int(integers.argmax())
        scaled = to_real(integers - integers.max(), self._fraction) / self._temperature
        weights = np.cumsum(np.exp(scaled))
        return int(np.searchsorted(weights, self._random.random() * weights[-1], side="right"))
