"""Requantizing shifts in hardware: one exact left shift for all, then right shifts only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ShiftPlan:
    """How a requantizer serves signed shifts: wire the input ``left`` bits up, shift right.

    Parameters
    ----------
    left : constant left shift of the input, wires only
    maximum : largest stored shift amount
    """

    left: int
    maximum: int

    @classmethod
    def covering(cls, shifts: Iterable[npt.ArrayLike]) -> ShiftPlan:
        """Return the cheapest plan for every amount in ``shifts`` (negative means left)."""
        amounts = np.concatenate([np.ravel(np.asarray(s, dtype=np.int64)) for s in shifts])
        left = max(0, -int(amounts.min()))
        return cls(left, max(0, int(amounts.max())) + left)

    @property
    def bits(self) -> int:
        """Width of a stored amount, at least 1."""
        return max(1, self.maximum.bit_length())

    def stored(self, shift: npt.ArrayLike) -> list[int]:
        """Return the amounts that reach the requantizer's ``shift`` port."""
        return [int(amount) + self.left for amount in np.ravel(np.asarray(shift, dtype=np.int64))]
