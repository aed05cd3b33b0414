"""Holds weights of few bits that swing between two integers (Nagel et al. 2022, algorithm 1).

Straight-through gradients drive a weight whose best value lies between two integers to the border
between them, where every update may round it the other way. That noise does not fade with the
learning rate, and the rest of the network cannot adapt to either side. A weight that turns back too
often is therefore held at the integer where it was most of the time, for the rest of the run. How
often is too often falls over the run, so that the worst go first and the others make up for them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from golden.errors import InputError
from model.quantized_parts import Stored

__all__ = ["WeightFreezing", "watched_weights"]

_LEVELS = 16
"""Weights of more are not watched: an update takes them over several integers."""
_FIRST = 20.0
"""The first limit in units of the last one."""
_MEMORY = 0.998
"""Of the moving averages, an update."""


def watched_weights(network: nn.Module, limit: float) -> list[Stored]:
    """Return what :class:`WeightFreezing` with ``limit`` watches in ``network``, or InputError."""
    watched = [
        module for module in network.modules()
        if isinstance(module, Stored) and module.limits[1] - module.limits[0] < _LEVELS
    ]  # fmt: skip
    if not watched:
        raise InputError(
            f"freezing is {limit}, but no weight has {_LEVELS} integers or fewer; give 0"
        )
    return watched


class WeightFreezing:
    """Frequencies of turning back of a network's weights, and which are held.

    Parameters
    ----------
    network : twin of a program; its weights of at most 16 integers are watched
    limit : turns an update above which a weight is held at the end of a run, 0 to 1

    Raises
    ------
    InputError
        If no weight of the network has so few integers.
    """

    def __init__(self, network: nn.Module, limit: float) -> None:
        watched = watched_weights(network, limit)
        self._limit = limit
        self._masters = [module.master for module in watched]
        self._sizes = [master.numel() for master in self._masters]
        self._unit = _joined([module.unit.expand_as(module.master) for module in watched])
        self._low, self._high = (
            _joined([torch.full_like(module.master, module.limits[end]) for module in watched])
            for end in (0, 1)
        )
        master = _joined(self._masters)
        integers = self._rounded(master)
        self.state = {
            "integers": integers,  # of the update before
            "mean": integers.clone(),  # moving average of them
            "direction": torch.zeros_like(integers),  # of the last change
            "frequency": torch.zeros_like(integers),  # of changes against the one before
            "held": torch.zeros_like(integers),  # 1 where held
            "value": master,  # master of what is held
        }
        """Everything besides the network, (weights,) each."""

    def _rounded(self, master: Tensor) -> Tensor:
        return (master * self._unit).round().clamp(self._low, self._high)

    @property
    def share(self) -> float:
        """Share of the watched weights that are held."""
        return float(self.state["held"].mean())

    def limit(self, progress: float) -> float:
        """Return the turns an update above which a weight is held, at 0 to 1 of the budget."""
        return self._limit * _FIRST ** (1.0 - min(progress, 1.0))

    @torch.no_grad()
    def advance(self, progress: float) -> None:
        """Watch the weights after an update, and put back those that are held."""
        state = self.state
        held = state["held"] > 0.0
        master = torch.where(held, state["value"], _joined(self._masters))
        integers = self._rounded(master)
        change = (integers - state["integers"]).sign()
        turned = (change * state["direction"] < 0.0).to(master)
        frequency = torch.lerp(turned, state["frequency"], _MEMORY)
        mean = torch.lerp(integers, state["mean"], _MEMORY)
        now = (frequency > self.limit(progress)) & ~held
        value = torch.where(now, mean.round() / self._unit, state["value"])
        held = held | now
        self.state = {
            "integers": integers,
            "mean": mean,
            "direction": torch.where(change != 0.0, change, state["direction"]),
            "frequency": frequency,
            "held": held.to(master),
            "value": value,
        }
        parts = torch.where(held, value, master).split(self._sizes)
        for own, part in zip(self._masters, parts, strict=True):
            own.copy_(part.view_as(own))


def _joined(tensors: list[Tensor] | list[nn.Parameter]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
