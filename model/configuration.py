"""Shape of a Mamba-1 language model: one frozen object that every part of the model reads."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PRESETS", "MambaConfiguration", "preset"]

_LARGEST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class MambaConfiguration:
    """Sizes and options of a Mamba-1 language model.

    Symbols follow the Mamba paper (arXiv:2312.00752): ``d`` model width, ``e`` inner width,
    ``n`` state size per channel, ``r`` rank of the time-step projection, ``k`` convolution width.

    Parameters
    ----------
    vocab_size : number of token values, 256 for bytes
    d_model : width of the residual stream (``d``)
    n_layer : number of blocks
    d_inner : width inside the mixer (``e``); ``None`` means ``2 * d_model``
    d_state : states per inner channel (``n``)
    d_conv : taps of the causal depthwise convolution (``k``)
    dt_rank : rank of the time-step projection (``r``); ``None`` means ``ceil(d_model / 16)``
    rms_norm_eps : added to the mean square before the inverse square root
    tie_embeddings : the head shares the embedding's weights
    use_conv_bias, use_bias : bias on the convolution, and on ``in_proj`` and ``out_proj``

    Raises
    ------
    ValueError, TypeError
        With the offending value and the limit that it breaks.
    """

    vocab_size: int
    d_model: int
    n_layer: int
    d_inner: int = None  # type: ignore[assignment]  # resolved to an int in __post_init__
    d_state: int = 16
    d_conv: int = 4
    dt_rank: int = None  # type: ignore[assignment]  # resolved to an int in __post_init__
    rms_norm_eps: float = 1e-5
    tie_embeddings: bool = False
    use_conv_bias: bool = True
    use_bias: bool = False

    def __post_init__(self) -> None:
        if self.d_inner is None:
            object.__setattr__(self, "d_inner", 2 * _integer("d_model", self.d_model))
        if self.dt_rank is None:
            rank = math.ceil(_integer("d_model", self.d_model) / 16)
            object.__setattr__(self, "dt_rank", rank)
        for name in ("vocab_size", "d_model", "n_layer", "d_inner", "d_state", "d_conv", "dt_rank"):
            _integer(name, getattr(self, name))
        if self.vocab_size < 2:
            raise ValueError(f"vocab_size is {self.vocab_size}, must be at least 2")
        if not 0.0 < self.rms_norm_eps < 1.0:
            raise ValueError(f"rms_norm_eps is {self.rms_norm_eps}, must lie in (0, 1)")
        for name in ("tie_embeddings", "use_conv_bias", "use_bias"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}, must be True or False")

    def to_json(self) -> str:
        """Return the fields as one line of JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> MambaConfiguration:
        """Build from a mapping such as parsed ``to_json`` text; unknown fields are refused."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(f"unknown configuration field {unknown[0]!r}, known: {sorted(known)}")
        missing = sorted({"vocab_size", "d_model", "n_layer"} - set(fields))
        if missing:
            raise ValueError(f"configuration lacks the field {missing[0]!r}")
        return cls(**fields)


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, must be an integer")
    if not 1 <= value <= _LARGEST:
        raise ValueError(f"{name} is {value}, must lie in 1..{_LARGEST}")
    return value


PRESETS: Mapping[str, MambaConfiguration] = {
    "micro": MambaConfiguration(vocab_size=256, d_model=16, n_layer=1, d_state=4, dt_rank=2),
    "bytelm": MambaConfiguration(vocab_size=256, d_model=128, n_layer=5),
    "mamba-130m": MambaConfiguration(
        vocab_size=50280, d_model=768, n_layer=24, tie_embeddings=True
    ),
}


def preset(name: str) -> MambaConfiguration:
    """Return the named preset; the error of an unknown name lists the known ones."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}, known: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
