"""Quantization-aware training: a program's integers learn to follow the float network (Q12).

The float network is the teacher. The loss is the divergence of the trained network's prediction
from the teacher's (Hinton et al. 2015), mixed with the text's own cross entropy. Batches follow
from (seed, step) alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.errors import InputError

__all__ = ["QuantizationTrainer", "QuantizationTraining"]

_BETAS = (0.9, 0.98)
_CLIP = 1.0


@dataclass(frozen=True, kw_only=True)
class QuantizationTraining:
    """What a run is asked to do.

    Parameters
    ----------
    steps, batch, length : updates, windows of one, bytes of a window
    learning_rate : largest one, in ranges of a weight's format; a cosine takes it to zero
    distillation : share of the teacher's prediction in the loss; the rest is the text's own
    warmup : steps of linear warm-up
    """

    seed: int = 0
    steps: int = 2000
    batch: int = 32
    length: int = 1024
    learning_rate: float = 1e-3
    distillation: float = 1.0
    warmup: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "length", "learning_rate"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}; give a positive number")
        if not 0.0 <= self.distillation <= 1.0:
            raise InputError(f"distillation is {self.distillation}, outside 0..1; choose inside")

    def rate(self, step: int) -> float:
        """Return the learning rate of ``step``."""
        cosine = 0.5 * (1.0 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * cosine * min(1.0, (step + 1) / max(self.warmup, 1))


class QuantizationTrainer:
    """A network in training.

    Parameters
    ----------
    network, teacher : modules from tokens (b, l) to logits (b, l, V) on ``device``
    stream : training text, (length,) uint8
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: nn.Module,
        stream: np.ndarray,
        options: QuantizationTraining,
        device: str,
    ) -> None:
        if len(stream) <= options.length:
            raise InputError(
                f"the training text has {len(stream)} tokens, a window needs "
                f"{options.length + 1}; give more text or a smaller --length"
            )
        self.network, self.teacher, self.options = network, teacher, options
        self._stream = torch.from_numpy(stream.astype(np.int64)).to(device)
        self._device = device
        self._optimizer = torch.optim.Adam(
            network.parameters(), lr=options.learning_rate, betas=_BETAS
        )

    def run(self) -> Iterator[Tensor]:
        """Train; yields the loss of each step in bits a token, on the device."""
        for step in range(self.options.steps):
            yield self._step(step)

    def _step(self, step: int) -> Tensor:
        options = self.options
        for group in self._optimizer.param_groups:
            group["lr"] = options.rate(step)
        inputs, targets = self._batch(step)
        with torch.no_grad():
            wanted = self.teacher(inputs).float().log_softmax(-1)  # b l V
        found = self.network(inputs).float().log_softmax(-1)  # b l V
        divergence = (wanted.exp() * (wanted - found)).sum(-1).mean()
        own = functional.nll_loss(found.flatten(0, 1), targets.flatten())
        share = options.distillation
        loss = share * divergence + (1.0 - share) * own
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
        self._optimizer.step()
        return loss.detach() / math.log(2.0)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets (b, l) of a step: windows drawn by (seed, step)."""
        options = self.options
        random = np.random.default_rng((options.seed, step))
        starts = random.integers(0, len(self._stream) - options.length, options.batch)
        positions = torch.from_numpy(starts[:, None] + np.arange(options.length + 1))
        window = self._stream[positions.to(self._device)]  # b l+1
        return window[:, :-1], window[:, 1:]
