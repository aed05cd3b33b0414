"""The training loop of the byte language model: what is computed, without files or command line.

Recipe: AdamW with warm-up and a decay to zero over the budget (steps or minutes), gradient
clipping, dropout on block outputs, and an exponential moving average of the weights, which is
what gets evaluated and saved. Batches and dropout follow from (seed, step) alone, so a resumed
run repeats an uninterrupted one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.configuration import Configuration
from model.corpus import SEPARATOR, Corpus
from model.mamba import MambaLanguageModel, ScanName
from model.training_recipe import SEED_STRIDE, advance_average, warm_cosine

__all__ = ["Trainer", "TrainingOptions", "bits_per_byte"]

_PENALIZED = (".x", ".residual", ".gated", ".normed", ".mlp_gated")
_MATRICES = ("_proj.weight", ".fc1.weight", ".fc2.weight")
_PENALTY_FREE = 6.0  # root-mean-squares that a value may have at no cost


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What a training run is asked to do; lengths in bytes, rates per step.

    Exactly one of ``steps`` and ``minutes`` is the budget over which the rate decays to zero.
    """

    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    batch: int = 16
    length: int = 2048
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    warmup: int = 300
    schedule: Literal["cosine", "linear"] = "cosine"
    clip: float = 1.0
    dropout: float = 0.05
    averaging: float = 0.999
    range_penalty: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    scan: ScanName = "parallel"
    compiled: bool = False

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give exactly one of steps and minutes")
        for name in ("steps", "minutes", "batch", "length", "learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value}, must be positive and finite")
        for name in ("seed", "weight_decay", "warmup", "range_penalty"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must not be negative")
        for name in ("dropout", "averaging"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, must lie in [0, 1)")
        for name, known in (
            ("schedule", ("cosine", "linear")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, known: {', '.join(known)}")

    def rate(self, step: int, progress: float) -> float:
        """Learning rate at ``step``, ``progress`` (0 to 1) of the budget being used."""
        if self.schedule == "cosine":
            return self.learning_rate * warm_cosine(step, progress, self.warmup)
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.learning_rate * warm * (1.0 - min(max(progress, 0.0), 1.0))


@torch.no_grad()
def bits_per_byte(model: nn.Module, stream: np.ndarray, window: int) -> float:
    """Mean negative log2 probability of every byte of ``stream``; ``model`` maps (b, l) to logits.

    The stream is cut into windows without overlap; each starts from the zero state with a
    separator as its first input, so that its first byte is predicted as well.
    """
    device = next(model.parameters()).device
    batch = max(1, (4096 if device.type == "cpu" else 65536) // window)  # bounds the memory
    was_training = model.training
    model.eval()
    whole = len(stream) // window * window
    pieces = [stream[:whole].reshape(-1, window)] if whole else []
    if whole < len(stream):
        pieces.append(stream[whole:].reshape(1, -1))
    total = 0.0
    for piece in pieces:
        for first in range(0, len(piece), batch):
            targets = torch.from_numpy(piece[first : first + batch].astype(np.int64)).to(device)
            start = torch.full_like(targets[:, :1], SEPARATOR[0])
            inputs = torch.cat([start, targets[:, :-1]], dim=1)  # b l
            logits = model(inputs).float()  # b l v
            loss = functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), reduction="sum"
            )
            total += float(loss)
    model.train(was_training)
    return total / len(stream) / math.log(2.0)


@dataclass
class _Ranges:
    """Mild penalty on values far outside a tensor's root mean square, which cost scale later."""

    terms: list[Tensor] = field(default_factory=list)

    def __call__(self, name: str, value: Any) -> None:
        if name.endswith(_PENALIZED):
            x = value.float()
            scale = x.detach().square().mean().sqrt() + 1e-6
            self.terms.append(functional.relu(x.abs() / scale - _PENALTY_FREE).square().mean())

    def total(self) -> Tensor:
        return torch.stack(self.terms).mean()


class Trainer:
    """A model in training: weights, moving average, optimizer and position.

    Parameters
    ----------
    configuration, options, corpus : what to train, how, and on what
    device : ``cpu`` or ``cuda``
    """

    def __init__(
        self,
        configuration: Configuration,
        options: TrainingOptions,
        corpus: Corpus,
        device: str,
    ) -> None:
        if len(corpus.train) < 2 * options.length * options.batch:
            raise ValueError(
                f"corpus has {len(corpus.train)} training bytes, batch {options.batch} of length "
                f"{options.length} needs {2 * options.length * options.batch}"
            )
        torch.manual_seed(options.seed)
        self.options, self.corpus, self.device = options, corpus, device
        model = MambaLanguageModel(configuration, scan=options.scan, dropout=options.dropout)
        self.model = model.to(device)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(requires_grad=False)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.model, options.weight_decay),
            lr=options.learning_rate,
            betas=(0.9, 0.98),
            fused=device == "cuda",
        )
        self._forward: Callable[..., Tensor] = (
            torch.compile(self.model, dynamic=False) if options.compiled else self.model
        )
        self._bytes = torch.from_numpy(corpus.train.copy()).to(device)
        self._starts: tuple[int, Tensor] | None = None
        self.step = 0
        self.seconds = 0.0
        self._resumed_at = time.monotonic()

    def start_clock(self, seconds_used: float) -> None:
        """Count a budget in minutes from now, ``seconds_used`` of it being gone."""
        self.seconds = seconds_used
        self._resumed_at = time.monotonic() - seconds_used

    @property
    def progress(self) -> float:
        """Used fraction of the budget."""
        if self.options.steps is not None:
            return self.step / self.options.steps
        assert self.options.minutes is not None  # one of the two is given
        return self.seconds / (60.0 * self.options.minutes)

    def run(self) -> Iterator[Tensor]:
        """Train to the end of the budget; yields each step's loss in bits per byte, on device."""
        while self.progress < 1.0:
            loss = self._train_step()
            self.step += 1
            self.seconds = time.monotonic() - self._resumed_at
            yield loss

    def _train_step(self) -> Tensor:
        options = self.options
        torch.manual_seed(options.seed * SEED_STRIDE + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = options.rate(self.step, self.progress)
        inputs, targets = self._batch()  # b l
        self.model.train()
        kind = self.device.split(":")[0]
        ranges = _Ranges() if options.range_penalty > 0 else None
        with torch.autocast(kind, torch.bfloat16, enabled=options.precision == "bfloat16"):
            logits = self._forward(inputs, None, ranges)  # b l v
        loss = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        objective = loss if ranges is None else loss + options.range_penalty * ranges.total()
        self.optimizer.zero_grad(set_to_none=True)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
        self.optimizer.step()
        advance_average(self.average, self.model, options.averaging, self.step)
        return loss.detach() / math.log(2.0)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Windows of this step; each epoch shifts the grid of windows and shuffles it."""
        batch, length = self.options.batch, self.options.length
        windows = (len(self._bytes) - 1) // length - 1
        per_epoch = windows // batch
        epoch, index = divmod(self.step, per_epoch)
        if self._starts is None or self._starts[0] != epoch:
            generator = torch.Generator().manual_seed(self.options.seed * SEED_STRIDE + epoch)
            shift = torch.randint(length, (1,), generator=generator)
            order = torch.randperm(windows, generator=generator)
            self._starts = (epoch, (shift + order * length).to(self.device))
        starts = self._starts[1][index * batch : (index + 1) * batch]  # b
        positions = starts[:, None] + torch.arange(length + 1, device=self.device)  # b l+1
        window = self._bytes[positions].long()  # b l+1
        return window[:, :-1], window[:, 1:]

    def tensors(self) -> dict[str, Tensor]:
        """Everything a resumed run needs besides step and seconds, as named tensors."""
        result = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        result |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            result |= {f"optimizer.{index}.{name}": value for name, value in entries.items()}
        return {name: value.detach().cpu().clone() for name, value in result.items()}

    def restore(self, tensors: dict[str, Tensor], step: int, seconds: float) -> None:
        """Continue from ``tensors``; ``ValueError`` if they belong to another model."""
        try:
            for prefix, module in (("model.", self.model), ("average.", self.average)):
                own = {
                    k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
                }
                module.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"the saved run has another shape: {error}") from error
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, entry = name.split(".")
                state.setdefault(int(index), {})[entry] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step = step
        self.start_clock(seconds)


def _parameter_groups(model: MambaLanguageModel, weight_decay: float) -> list[dict[str, Any]]:
    """Decay the matrices of products only, as the official code's ``_no_weight_decay``."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (decayed if name.endswith(_MATRICES) else kept).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
