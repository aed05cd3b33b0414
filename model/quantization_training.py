"""Quantization-aware training: a program's integers learn to follow the float network (Q12).

The float network is the teacher. The loss is the divergence of the trained network's prediction
from the teacher's (Hinton et al. 2015), mixed with the text's own cross entropy. As the teacher
knows its training text by heart, part of the windows may be text that it made up itself (Liu et
al. 2023, LLM-QAT), which never repeats a lesson. Each tensor's gradient is clipped at a multiple of
its own usual size, the scan's parameters learn slower, and a moving average of the weights is what
is judged and kept. Batches follow from (seed, step) alone.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.errors import InputError
from model.training_recipe import advance_average, warm_cosine
from model.weight_freezing import WeightFreezing

__all__ = ["QuantizationTrainer", "QuantizationTraining", "TrainingText"]

_BETAS = (0.9, 0.98)
_CLIP = 3.0  # times the usual norm of a tensor's gradient
_USUAL = 0.98  # memory of the usual norm, a step
_SCAN = frozenset(("dt_proj", "dt_bias", "skip", "A_log", "D"))


@dataclass(frozen=True, kw_only=True)
class QuantizationTraining:
    """What a run is asked to do. Exactly one of ``steps`` and ``minutes`` is the budget.

    Parameters
    ----------
    batch, length : windows of one update, tokens of a window
    learning_rate : largest one, in ranges of a weight's format (real units for biases, skips and
        a float network); a cosine takes it to zero over the budget
    scan_rate : factor of the learning rate for dt_proj, its bias and the skip
    distillation : share of the teacher's prediction in the loss; the rest is the text's own
    temperature : of both predictions where they are compared
    generated : share of windows from the teacher's own text
    averaging : decay of the moving average of the weights, a step
    freezing : turns a step above which a weight of at most 4 bits is held at the end of the run
        (:mod:`model.weight_freezing`), 0 for never
    warmup : steps of linear warm-up
    """

    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    batch: int = 32
    length: int = 1024
    learning_rate: float = 1e-3
    scan_rate: float = 0.3
    distillation: float = 1.0
    temperature: float = 1.0
    generated: float = 0.5
    averaging: float = 0.998
    freezing: float = 0.0
    warmup: int = 100

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise InputError("give exactly one of --steps and --minutes")
        for name in ("steps", "minutes", "batch", "length", "learning_rate", "temperature"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}; give a positive number")
        for name in ("scan_rate", "distillation", "generated", "averaging", "freezing"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} is {value}, outside 0..1; choose inside")

    def rate(self, step: int, progress: float) -> float:
        """Return the learning rate at ``step``, ``progress`` (0 to 1) of the budget being used."""
        return self.learning_rate * warm_cosine(step, progress, self.warmup)


@dataclass(frozen=True, kw_only=True)
class TrainingText:
    """Streams that windows are cut from.

    Parameters
    ----------
    real : training text, (length,)
    generated : the teacher's own, (length,)
    """

    real: np.ndarray
    generated: np.ndarray


class QuantizationTrainer:
    """A network in training, with its moving average, optimizer and position.

    Parameters
    ----------
    network, teacher : modules from tokens (b, l) to logits (b, l, V) on ``device``
    text : what windows are cut from
    compiled : whether torch compiles network and teacher
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: nn.Module,
        text: TrainingText,
        options: QuantizationTraining,
        device: str,
        *,
        compiled: bool = False,
    ) -> None:
        self.options, self.network = options, network
        self.average = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.optimizer = torch.optim.Adam(
            _parameter_groups(network, options), betas=_BETAS, fused=device == "cuda"
        )
        frozen = options.freezing > 0.0
        self.freezing = WeightFreezing(network, options.freezing) if frozen else None
        self.step, self.seconds = 0, 0.0
        self._forward = torch.compile(network, dynamic=False) if compiled else network
        self._teacher = torch.compile(teacher, dynamic=False) if compiled else teacher
        self._real, self._generated = (
            _on_device(stream, options.length, device) for stream in (text.real, text.generated)
        )
        self._device = device
        self.usual = torch.zeros(len(list(network.parameters())), device=device)
        self._since = time.monotonic()

    @property
    def progress(self) -> float:
        """Used fraction of the budget."""
        if self.options.steps is not None:
            return self.step / self.options.steps
        assert self.options.minutes is not None  # one of the two is given
        return self.seconds / (60.0 * self.options.minutes)

    def run(self) -> Iterator[Tensor]:
        """Train to the end of the budget; yields each step's loss in bits a token, on device."""
        self._since = time.monotonic() - self.seconds
        while self.progress < 1.0:
            loss = self._step()
            self.step += 1
            self.seconds = time.monotonic() - self._since
            yield loss

    def _step(self) -> Tensor:
        options = self.options
        rate = options.rate(self.step, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        inputs, targets = self._batch()
        with torch.no_grad():
            wanted = self._teacher(inputs)
        loss = self._loss(self._forward(inputs), wanted, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._clip()
        self.optimizer.step()
        if self.freezing is not None:
            self.freezing.advance(self.progress)
        advance_average(self.average, self.network, options.averaging, self.step)
        return loss.detach() / math.log(2.0)

    def _loss(self, found: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
        """Return the loss in nats a token of logits (b, l, V) against the teacher's and (b, l)."""
        share, temperature = self.options.distillation, self.options.temperature
        found = found.float()
        loss = found.new_zeros(())
        if share > 0.0:
            teacher = (wanted.float() / temperature).log_softmax(-1)  # b l V
            student = (found / temperature).log_softmax(-1)  # b l V
            divergence = (teacher.exp() * (teacher - student)).sum(-1).mean()
            # A gradient shrinks with the square of the temperature (Hinton et al. 2015, 2.1).
            loss = loss + share * temperature**2 * divergence
        if share < 1.0:
            own = functional.cross_entropy(found.flatten(0, 1), targets.flatten())
            loss = loss + (1.0 - share) * own
        return loss

    @torch.no_grad()
    def _clip(self) -> None:
        """Scale down each tensor's gradient that is far above its usual norm."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norms = torch.stack([gradient.norm() for gradient in gradients]).float()
        good = norms.isfinite()
        norms = torch.where(good, norms, self.usual)
        usual = torch.where(self.usual > 0.0, self.usual, norms)
        factors = (_CLIP * usual / norms.clamp(min=1e-30)).clamp(max=1.0)
        for gradient, factor, sound in zip(gradients, factors, good, strict=True):
            # Whatever is not finite counts for nothing.
            gradient.mul_(factor).masked_fill_(~sound, 0.0)
        self.usual = torch.lerp(norms * factors, usual, _USUAL)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return inputs and targets (b, l) of a step: windows drawn by (seed, step)."""
        options = self.options
        random = np.random.default_rng((options.seed, self.step))
        count = round(options.generated * options.batch)
        windows = []
        for stream, rows in ((self._real, options.batch - count), (self._generated, count)):
            if rows:
                starts = random.integers(0, len(stream) - options.length, rows)
                positions = torch.from_numpy(starts[:, None] + np.arange(options.length + 1))
                windows.append(stream[positions.to(self._device)].long())
        window = torch.cat(windows)  # b l+1
        return window[:, :-1], window[:, 1:]

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resumed run needs besides step and seconds, as named tensors."""
        result: dict[str, Tensor] = {
            f"network.{name}": value for name, value in self.network.named_parameters()
        }
        result |= {f"average.{k}": v for k, v in self.average.named_parameters()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            result |= {f"optimizer.{index}.{name}": value for name, value in entries.items()}
        result["usual"] = self.usual
        if self.freezing is not None:
            result |= {f"freezing.{name}": value for name, value in self.freezing.state.items()}
        return {name: value.detach().cpu().clone() for name, value in result.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], step: int, seconds: float) -> None:
        """Continue from ``tensors``; ``ValueError`` if they belong to another network."""
        for prefix, module in (("network.", self.network), ("average.", self.average)):
            own = {name: parameter.data for name, parameter in module.named_parameters()}
            given = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            shapes = [{k: v.shape for k, v in one.items()} for one in (own, given)]
            if shapes[0] != shapes[1]:
                raise ValueError("the saved run has another shape")
            for name, value in given.items():
                own[name].copy_(value)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, entry = name.split(".")
                state.setdefault(int(index), {})[entry] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.usual.copy_(tensors["usual"])
        if self.freezing is not None:
            for name, value in self.freezing.state.items():
                value.copy_(tensors[f"freezing.{name}"])
        self.step, self.seconds = step, seconds


def _on_device(stream: np.ndarray, length: int, device: str) -> Tensor:
    if len(stream) <= length:
        raise InputError(
            f"the training text has {len(stream)} tokens, a window needs {length + 1}; "
            "give more text or a smaller --length"
        )
    return torch.from_numpy(stream.astype(np.int32)).to(device)


def _parameter_groups(network: nn.Module, options: QuantizationTraining) -> list[dict[str, object]]:
    """Return the weights, and what steers the scan, which a small change unsettles."""
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in network.named_parameters():
        groups[bool(_SCAN.intersection(name.split(".")))].append(parameter)
    factors = (1.0, options.scan_rate)
    return [
        {"params": group, "lr": options.learning_rate, "factor": factor}
        for group, factor in zip(groups, factors, strict=True)
    ]
