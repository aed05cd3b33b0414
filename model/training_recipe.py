"""What the training loops share: rate, order of the rows, moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["SEED_STRIDE", "ShuffledRows", "advance_average", "warm_cosine"]

SEED_STRIDE = 1_000_003
"""Prime, keeps the streams of neighbouring seeds apart."""


def warm_cosine(step: int, progress: float, warmup: int) -> float:
    """Return the rate's share of the largest: linear warm-up, then a cosine over the budget.

    Parameters
    ----------
    step, warmup : updates done, and those of the warm-up
    progress : used share of the budget, 0 to 1
    """
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return min(1.0, (step + 1) / max(warmup, 1)) * cosine


class ShuffledRows:
    """Batches of row numbers: every epoch shuffles the rows anew and leaves a rest out.

    Parameters
    ----------
    rows, batch : how many there are, and in a batch
    seed : of the orders
    device : of the row numbers
    """

    def __init__(self, rows: int, batch: int, seed: int, device: str) -> None:
        self._rows, self._batch, self._seed = rows, min(batch, rows), seed
        self._device, self._epoch = device, -1
        self._order = torch.empty(0, dtype=torch.int64)

    def of_step(self, step: int) -> Tensor:
        """Return the rows (batch,) of a step."""
        epoch, index = divmod(step, self._rows // self._batch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self._seed * SEED_STRIDE + epoch)
            order = torch.randperm(self._rows, generator=generator)
            self._order, self._epoch = order.to(self._device), epoch
        return self._order[index * self._batch : (index + 1) * self._batch]


@torch.no_grad()
def advance_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average of the weights towards those after ``step``, by at least ``1 - decay``.

    Early on the average must forget the initial weights faster than its horizon.
    """
    decay = min(decay, (1.0 + step) / (10.0 + step))
    torch._foreach_lerp_(  # the public loop launches a kernel per tensor
        list(average.parameters()), list(network.parameters()), 1.0 - decay
    )
