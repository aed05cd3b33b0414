"""Shape of a positioning network: one frozen object that every part of the model reads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

__all__ = ["SLIM_PRESETS", "HeadName", "MixerName", "SlimConfiguration", "slim_preset"]

MixerName = Literal["slim", "mamba"]
HeadName = Literal["flat", "mean", "max"]

_LARGEST = 1 << 20
_COUNTS = (
    "features", "window", "projection", "d_model", "d_inner", "n_layer", "patch", "stride",
    "outputs", "d_state", "dt_rank",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SlimConfiguration:
    """Sizes and options of a network that maps a window of frames to coordinates.

    Parameters
    ----------
    features : values of a frame (``F``)
    window : frames of a window (``K``)
    projection : width ``c`` that the first 1x1 projection maps a frame to
    d_model, d_inner, n_layer : width of the residual stream ``d``, width inside a block ``e``,
        number of blocks
    patch, stride : frames of a token and frames between the starts of two tokens
    d_conv : taps of the depthwise convolution; 0 for none. ``slim`` blocks see as many tokens
        before as after, so an even width becomes the next odd one
    position_scale : factor of the sines and cosines that are added to the tokens, 0 for none
    gate : whether the scan's output is multiplied with ``SiLU(z)``; ``mamba`` blocks always are
    head : ``flat`` weighs every token by its place, ``mean`` and ``max`` pool them
    outputs : coordinates
    rms_norm_eps : added to the mean square before the inverse square root
    mixer : ``slim`` for the moving average of :mod:`model.slim`, ``mamba`` for Mamba-1
    d_state, dt_rank : states a channel and rank of the step size, of ``mamba`` blocks alone

    Raises
    ------
    ValueError, TypeError
        With the offending value and the limit that it breaks.
    """

    features: int = 2100
    window: int = 16
    projection: int = 64
    d_model: int = 64
    d_inner: int = 128
    n_layer: int = 3
    patch: int = 8
    stride: int = 4
    d_conv: int = 0
    position_scale: float = 0.0
    gate: bool = True
    head: HeadName = "flat"
    outputs: int = 2
    rms_norm_eps: float = 1e-5
    mixer: MixerName = "slim"
    d_state: int = 16
    dt_rank: int = 4

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _check_count(name, getattr(self, name), 1)
        _check_count("d_conv", self.d_conv, 0)
        if self.patch > self.window:
            raise ValueError(f"patch is {self.patch}, exceeds the window of {self.window} frames")
        if self.stride > self.patch:
            raise ValueError(f"stride is {self.stride}, exceeds the patch of {self.patch} frames")
        for name, known in (("head", get_args(HeadName)), ("mixer", get_args(MixerName))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, must be one of {', '.join(known)}"
                )
        if not isinstance(self.gate, bool):
            raise TypeError(f"gate is {self.gate!r}, must be True or False")
        if not math.isfinite(self.position_scale):
            raise ValueError(f"position_scale is {self.position_scale}, must be finite")
        if not 0.0 < self.rms_norm_eps < 1.0:
            raise ValueError(f"rms_norm_eps is {self.rms_norm_eps}, must lie in (0, 1)")
        if self.mixer == "slim" and self.d_conv:
            object.__setattr__(self, "d_conv", self.d_conv | 1)
        if self.mixer == "mamba" and not (self.d_conv and self.gate):
            raise ValueError("mamba blocks have a convolution and a gate: d_conv >= 1, gate True")

    @property
    def tokens(self) -> int:
        """Tokens of a window, ``T``; frames that fill no further patch are not looked at."""
        return (self.window - self.patch) // self.stride + 1

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> SlimConfiguration:
        """Build from a mapping of fields by name; unknown ones are refused."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(f"unknown configuration field {unknown[0]!r}, known: {sorted(known)}")
        return cls(**fields)


def _check_count(name: str, value: object, low: int) -> None:
    """Refuse what is no integer from ``low`` on."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, must be an integer")
    if not low <= value <= _LARGEST:
        raise ValueError(f"{name} is {value}, must lie in {low}..{_LARGEST}")


_SLIM = SlimConfiguration()
# Width 160 has as many parameters as three slim blocks of width 128, to 1 %.
_MAMBA = dataclasses.replace(_SLIM, mixer="mamba", d_conv=4, d_inner=160)


def _short(configuration: SlimConfiguration, window: int) -> SlimConfiguration:
    """Return the same network for a window of few frames, each a token of its own."""
    return dataclasses.replace(configuration, window=window, patch=1, stride=1)


SLIM_PRESETS: Mapping[str, SlimConfiguration] = {
    "slim": _SLIM,
    "slim-k1": _short(_SLIM, 1),
    "slim-k2": _short(_SLIM, 2),
    "slim-wide": SlimConfiguration(d_model=128, d_inner=256, n_layer=4, position_scale=1.0),
    "mamba": _MAMBA,
    "mamba-k1": _short(_MAMBA, 1),
    "mamba-k2": _short(_MAMBA, 2),
}
"""``slim-wide`` has the shape of the sources' checkpoints; ``-k1``, ``-k2`` read short windows."""


def slim_preset(name: str) -> SlimConfiguration:
    """Return the named preset; the error of an unknown name lists the known ones."""
    if name not in SLIM_PRESETS:
        raise ValueError(f"unknown preset {name!r}, known: {', '.join(sorted(SLIM_PRESETS))}")
    return SLIM_PRESETS[name]
