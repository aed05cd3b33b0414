"""The training loop of a positioning network: what is computed, without files or command line.

Recipe: AdamW with warm-up and a cosine decay over the budget, the mean Euclidean error as the loss
(the figure that is judged), noise on the features, dropped antennas, dropout, drives replayed at
other speeds and backwards, and a moving average of the weights; the average that is best on the
validation lines is kept. Batches and noise follow from (seed, step) alone.

Replaying matters: all lines were driven at one speed, so a network that sees many frames can tell
lines by how the robot moved, which says nothing about other drives. The validation lines are
replayed as well.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.positioning.dataset import Windows
from model.positioning.radio import ANTENNAS, TAPS
from model.quantized_slim import QuantizedSlim
from model.slim import SlimNetwork
from model.slim_configuration import SlimConfiguration
from model.training_recipe import SEED_STRIDE, ShuffledRows, advance_average, warm_cosine

__all__ = ["PositioningOptions", "PositioningTrainer", "new_network", "predict"]

Network = SlimNetwork | QuantizedSlim
"""A float network, or the integer graph of its program."""

_ROUND = 0.01  # m; the loss is quadratic below


@dataclass(frozen=True, kw_only=True)
class PositioningOptions:
    """What a training run is asked to do.

    ``steps`` and ``minutes`` are the budget over which the rate decays to zero; of two given ones
    that counts which is used up first.

    Parameters
    ----------
    seed, batch : of the run
    learning_rate, weight_decay, warmup, clip, averaging : of the optimizer; warm-up in steps
    dropout : on block outputs
    noise : deviation of the noise on the standardized features
    antenna_dropout : probability of losing all features of an antenna, in a whole window
    replay : frames of a training window are up to that many rows apart, forwards or backwards;
        0 rows is a robot at rest. 0 turns replaying off
    """

    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    batch: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warmup: int = 300
    clip: float = 1.0
    averaging: float = 0.999
    dropout: float = 0.05
    noise: float = 0.05
    antenna_dropout: float = 0.05
    replay: int = 4

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("give steps or minutes, the budget")
        for name in ("steps", "minutes", "batch", "learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value}, must be positive and finite")
        for name in ("seed", "weight_decay", "warmup", "noise", "replay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must not be negative")
        for name in ("averaging", "dropout", "antenna_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, must lie in [0, 1)")


def window_rows(ends: Tensor, segments: Tensor, window: int, steps: Tensor) -> Tensor:
    """Return the rows (b, K) of windows that end in rows ``ends`` (b).

    ``steps`` (b) rows lie between two frames; a negative one replays the drive backwards. Before
    its start and after its end, ``segments`` (b, 2), the robot rests.
    """
    back = torch.arange(1 - window, 1, device=ends.device)  # K
    rows = ends[:, None] + steps[:, None] * back  # b K
    return rows.clamp(segments[:, :1], segments[:, 1:])


@torch.no_grad()
def predict(network: Network, windows: Windows, step: int = 1, batch: int = 2048) -> Tensor:
    """Return the places (windows, 2) that the network finds, in metres, on the CPU.

    ``step`` rows lie between two frames of a window; 1 is the drive as it was.
    """
    device = next(network.parameters()).device
    frames = torch.from_numpy(windows.features).to(device)
    ends, segments = torch.from_numpy(windows.ends), torch.from_numpy(windows.segments)
    rows = window_rows(ends, segments, network.window, torch.full_like(ends, step)).to(device)
    was_training = network.training
    network.eval()
    outputs = [network(frames[part]).cpu() for part in rows.split(batch)]
    network.train(was_training)
    return torch.cat(outputs)


def mean_error(network: Network, windows: Windows, replay: int) -> float:
    """Return the mean Euclidean error in metres, over the drives as they were and replayed."""
    steps = [1] if replay == 0 else sorted({-replay, -1, 0, 1, replay})
    errors = [predict(network, windows, step).numpy() - windows.labels for step in steps]
    return float(np.linalg.norm(np.concatenate(errors), axis=1).mean())


def new_network(
    configuration: SlimConfiguration, options: PositioningOptions, train: Windows
) -> SlimNetwork:
    """Return a network with initial weights from the seed, which finds the mean place at first."""
    torch.manual_seed(options.seed)
    network = SlimNetwork(configuration, dropout=options.dropout)
    with torch.no_grad():
        assert network.head.conv.bias is not None  # the head has one
        network.head.conv.bias.copy_(torch.from_numpy(train.labels.mean(axis=0)))
    return network


class PositioningTrainer:
    """A positioning network in training: weights, moving average, optimizer, best average.

    Parameters
    ----------
    network, options : what to train, from its weights as they are, and how
    train, validate : frames and windows
    device : ``cpu`` or ``cuda``
    """

    def __init__(
        self,
        network: Network,
        options: PositioningOptions,
        train: Windows,
        validate: Windows,
        device: str,
    ) -> None:
        self.options, self.device, self.validation = options, device, validate
        self.network = network.to(device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(requires_grad=False)
        self.best = copy.deepcopy(self.average)
        self.best_error = math.inf
        decayed = [p for p in network.parameters() if p.dim() > 1]
        kept = [p for p in network.parameters() if p.dim() <= 1]
        groups = [
            {"params": decayed, "weight_decay": options.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=device == "cuda"
        )
        self._frames = torch.from_numpy(train.features).to(device)
        self._places = torch.from_numpy(train.places).to(device)
        self._ends = torch.from_numpy(train.ends).to(device)
        self._segments = torch.from_numpy(train.segments).to(device)
        self._rows = ShuffledRows(len(train.ends), options.batch, options.seed, device)
        self._started = time.monotonic()
        self.step = 0

    @property
    def progress(self) -> float:
        """Used share of the budget."""
        options, seconds = self.options, time.monotonic() - self._started
        in_steps = 0.0 if options.steps is None else self.step / options.steps
        in_time = 0.0 if options.minutes is None else seconds / (60.0 * options.minutes)
        return max(in_steps, in_time)

    def run(self) -> Iterator[Tensor]:
        """Train to the end of the budget; yields each step's loss in metres, on device."""
        while (progress := self.progress) < 1.0:
            loss = self._train_step(progress)
            self.step += 1
            yield loss

    def validate(self) -> float:
        """Return the average's mean error on the validation lines in metres; keep the best."""
        error = mean_error(self.average, self.validation, self.options.replay)
        if error < self.best_error:
            self.best_error = error
            self.best.load_state_dict(self.average.state_dict())
        return error

    def _train_step(self, progress: float) -> Tensor:
        options = self.options
        torch.manual_seed(options.seed * SEED_STRIDE + self.step)
        rate = options.learning_rate * warm_cosine(self.step, progress, options.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        chosen = self._rows.of_step(self.step)
        ends, reach = self._ends[chosen], options.replay
        steps = torch.ones_like(ends)
        if reach:
            steps = torch.randint(-reach, reach + 1, ends.shape, device=self.device)
        window = self.network.window
        rows = window_rows(ends, self._segments[chosen], window, steps)  # b K
        self.network.train()
        outputs = self.network(self._disturbed(self._frames[rows]))  # b 2
        squares = (outputs - self._places[ends]).square().sum(dim=1)
        loss = (squares + _ROUND**2).sqrt().mean() - _ROUND
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)
        self.optimizer.step()
        advance_average(self.average, self.network, options.averaging, self.step)
        return loss.detach()

    def _disturbed(self, features: Tensor) -> Tensor:
        """Return features (b, K, F) with noise, and without the antennas that are lost."""
        options, batch = self.options, len(features)
        if options.noise:
            features = features + options.noise * torch.randn_like(features)
        if options.antenna_dropout:
            lost = torch.rand(batch, ANTENNAS, device=self.device) < options.antenna_dropout
            parts = lost[:, None, :, None].expand(-1, TAPS, -1, 2).flatten(1)  # b 2000
            features = features.masked_fill(torch.cat([parts, lost], dim=1)[:, None], 0.0)
        return features
