"""The training loop of a radar frame network: what is computed, without files or command line.

Recipe: AdamW with warm-up and a cosine decay, the root mean square error of each coordinate as the
loss (the figure that is judged), dropout, augmented point clouds, and a moving average of the
weights; the average that is best on the validation split is kept. Batches and augmentation follow
from (seed, step) alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from golden.configuration import NetworkShape
from model.frames import OUTPUT_UNIT, FrameNetwork
from model.mamba import ScanName
from model.radar import POINT_FEATURES, RadarData, RadarSplit, root_mean_square_error
from model.training_recipe import SEED_STRIDE, ShuffledRows, advance_average, warm_cosine

__all__ = ["FrameTrainer", "FrameTrainingOptions", "augmented", "predict"]

_INTENSITY = 4
_AXES = 3


@dataclass(frozen=True, kw_only=True)
class FrameTrainingOptions:
    """What a training run is asked to do.

    Parameters
    ----------
    seed, steps, batch : of the run
    learning_rate, weight_decay, warmup, clip, averaging : of the optimizer; warm-up in steps
    dropout : on block outputs and the hidden layer
    point_dropout : probability of losing a radar point
    jitter : deviation of noise on the coordinates, metres, and on velocity and intensity
    shift : deviation of a common shift of points and joints, metres
    """

    seed: int = 0
    steps: int = 8000
    batch: int = 512
    learning_rate: float = 2e-2
    weight_decay: float = 0.1
    warmup: int = 200
    clip: float = 1.0
    averaging: float = 0.999
    dropout: float = 0.05
    point_dropout: float = 0.1
    jitter: float = 0.02
    shift: float = 0.02
    scan: ScanName = "parallel"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "learning_rate", "clip"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value}, must be positive and finite")
        for name in ("seed", "weight_decay", "warmup", "jitter", "shift"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must not be negative")
        for name in ("averaging", "dropout", "point_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, must lie in [0, 1)")

    def rate(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        return self.learning_rate * warm_cosine(step, step / self.steps, self.warmup)


def augmented(
    points: Tensor, labels: Tensor, options: FrameTrainingOptions
) -> tuple[Tensor, Tensor]:
    """Return randomly changed points (b, 64, 5) and the labels (b, 57) that belong to them.

    Points stay sorted by x, with the unused ones, all zero, at the end.
    """
    batch, device = len(points), points.device
    used = points[..., _INTENSITY] != 0  # b 64
    kept = used & (torch.rand(used.shape, device=device) >= options.point_dropout)
    used = torch.where(kept.any(dim=1, keepdim=True), kept, used)  # at least one point remains
    points = points + options.jitter * torch.randn_like(points)
    shift = options.shift * torch.randn(batch, _AXES, device=device)  # b 3
    points = points + torch.nn.functional.pad(shift, (0, POINT_FEATURES - _AXES))[:, None]
    labels = labels + shift.repeat_interleave(labels.shape[1] // _AXES, dim=1)
    order = torch.where(used, points[..., 0], torch.inf).argsort(dim=1)  # b 64
    points = torch.where(used[..., None], points, 0.0)
    return points.gather(1, order[..., None].expand_as(points)), labels


@torch.no_grad()
def predict(network: FrameNetwork, split: RadarSplit, batch: int = 2048) -> Tensor:
    """Return the outputs (rows, 57) in metres of all frames of a split, on the CPU."""
    device = network.head.weight.device
    features = torch.from_numpy(split.features(network.frame))
    was_training = network.training
    network.eval()
    outputs = [network(part.to(device)).cpu() for part in features.split(batch)]
    network.train(was_training)
    return torch.cat(outputs)


class FrameTrainer:
    """A frame network in training: weights, moving average, optimizer, and the best average.

    Parameters
    ----------
    shape, options, data : what to train, how, and on what
    device : ``cpu`` or ``cuda``
    """

    def __init__(
        self, shape: NetworkShape, options: FrameTrainingOptions, data: RadarData, device: str
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.data, self.device = options, data, device
        network = FrameNetwork(shape, scan=options.scan, dropout=options.dropout)
        labels = torch.from_numpy(data["train"].labels)
        with torch.no_grad():
            network.head.bias.copy_(labels.mean(dim=0) / OUTPUT_UNIT)
        self.network = network.to(device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(requires_grad=False)
        self.best = copy.deepcopy(self.average)
        self.best_error = math.inf
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.network, options.weight_decay),
            lr=options.learning_rate,
            betas=(0.9, 0.98),
            fused=device == "cuda",
        )
        self._points = torch.from_numpy(data["train"].points).to(device)
        self._labels = labels.to(device)
        self._rows = ShuffledRows(len(labels), options.batch, options.seed, device)
        self.step = 0

    def run(self) -> Iterator[Tensor]:
        """Train to the last step; yields each step's loss in centimetres, on device."""
        while self.step < self.options.steps:
            loss = self._train_step()
            self.step += 1
            yield loss

    def validate(self) -> float:
        """Return the average's error on the validation split in cm; keep the best average."""
        split = self.data["validate"]
        error = root_mean_square_error(predict(self.average, split).numpy(), split.labels)
        if error < self.best_error:
            self.best_error = error
            self.best.load_state_dict(self.average.state_dict())
        return error

    def _train_step(self) -> Tensor:
        options = self.options
        torch.manual_seed(options.seed * SEED_STRIDE + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = options.rate(self.step)
        chosen = self._rows.of_step(self.step)
        points, labels = augmented(self._points[chosen], self._labels[chosen], options)
        self.network.train()
        frame = self.network.frame
        outputs = self.network(points.reshape(-1, frame.tokens, frame.features))  # b 57
        loss = (outputs - labels).square().mean(dim=0).add(1e-8).sqrt().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)
        self.optimizer.step()
        advance_average(self.average, self.network, options.averaging, self.step)
        return 100.0 * loss.detach()


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay the matrices only, and neither scan parameters nor norms and biases."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    matrices = ("_proj.weight", "embedding.weight", "hidden.weight", "head.weight")
    for name, parameter in network.named_parameters():
        (decayed if name.endswith(matrices) else kept).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
