"""Shape of a language model: one frozen object that every part of the model reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

from model.bit_linear import TernaryScale

__all__ = [
    "PRESETS", "Configuration", "Mamba2Configuration", "MambaConfiguration",
    "configuration_from_fields", "preset",
]  # fmt: skip

_LARGEST = 1 << 20


class _Fields:
    """A configuration as JSON: its fields, an infinite number as null."""

    def to_fields(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {name: _finite(value) for name, value in vars(self).items()}

    def to_json(self) -> str:
        """Return the fields as one line of JSON with sorted keys."""
        return json.dumps(self.to_fields(), sort_keys=True)

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> Self:
        """Build from a mapping such as parsed ``to_json`` text; unknown fields are refused."""
        known = set(cls.__annotations__)
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(f"unknown configuration field {unknown[0]!r}, known: {sorted(known)}")
        missing = sorted({"vocab_size", "d_model", "n_layer"} - set(fields))
        if missing:
            raise ValueError(f"configuration lacks the field {missing[0]!r}")
        return cls(**fields)


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_finite(item) for item in value]
    return None if value == math.inf else value


@dataclass(frozen=True, kw_only=True)
class MambaConfiguration(_Fields):
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
    d_intermediate : hidden width of the gated MLP behind each mixer; ``None`` for no MLP
    ternary : ``mean`` or ``power-of-two``, the scale of ternary projections
        (:mod:`model.bit_linear`); ``None`` for real weights

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
    d_intermediate: int | None = None
    ternary: TernaryScale | None = None

    def __post_init__(self) -> None:
        if self.d_inner is None:
            object.__setattr__(self, "d_inner", 2 * _integer("d_model", self.d_model))
        if self.dt_rank is None:
            rank = math.ceil(_integer("d_model", self.d_model) / 16)
            object.__setattr__(self, "dt_rank", rank)
        for name in ("vocab_size", "d_model", "n_layer", "d_inner", "d_state", "d_conv", "dt_rank"):
            _integer(name, getattr(self, name))
        if self.d_intermediate is not None:
            _integer("d_intermediate", self.d_intermediate)
        if self.ternary not in (None, *get_args(TernaryScale)):
            known = ", ".join(get_args(TernaryScale))
            raise ValueError(f"ternary is {self.ternary!r}, known: None, {known}")
        if self.vocab_size < 2:
            raise ValueError(f"vocab_size is {self.vocab_size}, must be at least 2")
        if not 0.0 < self.rms_norm_eps < 1.0:
            raise ValueError(f"rms_norm_eps is {self.rms_norm_eps}, must lie in (0, 1)")
        for name in ("tie_embeddings", "use_conv_bias", "use_bias"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}, must be True or False")

    @property
    def convolved(self) -> int:
        """Channels of the convolution."""
        return self.d_inner

    @property
    def residual_branches(self) -> int:
        """Contributions to the residual stream: one a mixer and one an MLP."""
        return self.n_layer * (1 if self.d_intermediate is None else 2)

    @property
    def scan_shape(self) -> tuple[int, ...]:
        """Shape of one layer's scan state, (e, n)."""
        return self.d_inner, self.d_state


@dataclass(frozen=True, kw_only=True)
class Mamba2Configuration(_Fields):
    """Sizes and options of a Mamba-2 language model (Dao and Gu, arXiv:2405.21060).

    Parameters
    ----------
    vocab_size : number of token values
    d_model : width of the residual stream (``d``)
    n_layer : number of blocks
    d_inner : width inside the mixer (``e``), a multiple of ``head_dim``
    d_state : states a channel (``n``)
    d_conv : taps of the causal depthwise convolution (``k``)
    head_dim : channels a head (``p``); all of a head share A, D and the step size
    n_groups : groups of heads that share B and C (``g``), a divisor of the number of heads
    dt_limit : the step size is clamped to this range; a second bound of None is infinity
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
    d_inner: int
    d_state: int = 128
    d_conv: int = 4
    head_dim: int = 64
    n_groups: int = 1
    dt_limit: tuple[float, float] = (0.0, math.inf)
    rms_norm_eps: float = 1e-5
    tie_embeddings: bool = False
    use_conv_bias: bool = True
    use_bias: bool = False

    def __post_init__(self) -> None:
        for name in (
            "vocab_size", "d_model", "n_layer", "d_inner", "d_state", "d_conv", "head_dim",
            "n_groups",
        ):  # fmt: skip
            _integer(name, getattr(self, name))
        if self.d_inner % self.head_dim:
            raise ValueError(f"d_inner is {self.d_inner}, no multiple of head_dim {self.head_dim}")
        if self.heads % self.n_groups:
            raise ValueError(f"n_groups is {self.n_groups}, no divisor of {self.heads} heads")
        low, high = self.dt_limit
        limit = (float(low), math.inf if high is None else float(high))
        if not 0.0 <= limit[0] < limit[1]:
            raise ValueError(f"dt_limit is {self.dt_limit}, must rise from 0 or more")
        object.__setattr__(self, "dt_limit", limit)
        if not 0.0 < self.rms_norm_eps < 1.0:
            raise ValueError(f"rms_norm_eps is {self.rms_norm_eps}, must lie in (0, 1)")

    @property
    def heads(self) -> int:
        """Number of heads (``h``)."""
        return self.d_inner // self.head_dim

    @property
    def convolved(self) -> int:
        """Channels of the convolution: x, B and C."""
        return self.d_inner + 2 * self.n_groups * self.d_state

    @property
    def scan_shape(self) -> tuple[int, ...]:
        """Shape of one layer's scan state, (h, p, n)."""
        return self.heads, self.head_dim, self.d_state


Configuration = MambaConfiguration | Mamba2Configuration


def configuration_from_fields(fields: Mapping[str, Any]) -> Configuration:
    """Build a configuration from its ``to_fields``: heads make it Mamba-2."""
    if "head_dim" in fields:
        return Mamba2Configuration.from_mapping(fields)
    return MambaConfiguration.from_mapping(fields)


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, must be an integer")
    if not 1 <= value <= _LARGEST:
        raise ValueError(f"{name} is {value}, must lie in 1..{_LARGEST}")
    return value


PRESETS: Mapping[str, Configuration] = {
    "micro": MambaConfiguration(vocab_size=256, d_model=16, n_layer=1, d_state=4, dt_rank=2),
    "bytelm": MambaConfiguration(vocab_size=256, d_model=128, n_layer=5),
    "byte-mamba2": Mamba2Configuration(
        vocab_size=256, d_model=128, n_layer=5, d_inner=256, d_state=64, head_dim=32
    ),
    "bitbyte": MambaConfiguration(
        vocab_size=256, d_model=128, n_layer=3, d_intermediate=192, ternary="power-of-two"
    ),
    "mamba-130m": MambaConfiguration(
        vocab_size=50280, d_model=768, n_layer=24, tie_embeddings=True
    ),
}


def preset(name: str) -> Configuration:
    """Return the named preset; the error of an unknown name lists the known ones."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}, known: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
