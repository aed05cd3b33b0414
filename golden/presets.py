"""Presets: shapes by name."""

from __future__ import annotations

from golden.configuration import AverageShape, FrameShape, HeadShape, NetworkShape, PatchShape
from golden.errors import InputError


def _slim_shape(window: int, kernel: int = 1, stride: int = 1) -> NetworkShape:
    """Return the shape of a positioning network that reads so many frames of 2,100 features."""
    return NetworkShape(
        vocabulary=2,
        d_model=64,
        d_inner=128,
        d_state=1,
        d_conv=1,
        dt_rank=128,
        n_layer=3,
        frame=FrameShape(
            features=2100,
            tokens=(window - kernel) // stride + 1,
            patch=PatchShape(width=64, kernel=kernel, stride=stride),
        ),
        average=AverageShape(),
    )


PRESETS: dict[str, NetworkShape] = {
    "micro": NetworkShape(
        vocabulary=64, d_model=16, d_inner=32, d_state=4, d_conv=4, dt_rank=2, n_layer=1
    ),
    "micro-mamba2": NetworkShape(
        vocabulary=64,
        d_model=16,
        d_inner=32,
        d_state=8,
        d_conv=4,
        n_layer=1,
        heads=HeadShape(size=8, groups=2),
    ),
    "bytelm": NetworkShape(
        vocabulary=256, d_model=128, d_inner=256, d_state=16, d_conv=4, dt_rank=8, n_layer=5
    ),
    "byte-mamba2": NetworkShape(
        vocabulary=256,
        d_model=128,
        d_inner=256,
        d_state=64,
        d_conv=4,
        n_layer=5,
        heads=HeadShape(size=32),
    ),
    "bitbyte": NetworkShape(
        vocabulary=256,
        d_model=128,
        d_inner=256,
        d_state=16,
        d_conv=4,
        dt_rank=8,
        n_layer=3,
        mlp=192,
    ),
    "mars": NetworkShape(
        vocabulary=57,
        d_model=20,
        d_inner=40,
        d_state=8,
        d_conv=4,
        dt_rank=2,
        n_layer=2,
        frame=FrameShape(features=20, tokens=16, hidden=96),
    ),
    "slim": _slim_shape(window=16, kernel=8, stride=4),
    "slim-k1": _slim_shape(window=1),
    "slim-k2": _slim_shape(window=2),
    "mamba-130m": NetworkShape(
        vocabulary=50280, d_model=768, d_inner=1536, d_state=16, d_conv=4, dt_rank=48, n_layer=24
    ),
    "mamba2-130m": NetworkShape(
        vocabulary=50288,
        d_model=768,
        d_inner=1536,
        d_state=128,
        d_conv=4,
        n_layer=24,
        heads=HeadShape(size=64),
    ),
    "mamba-2.8b": NetworkShape(
        vocabulary=50280, d_model=2560, d_inner=5120, d_state=16, d_conv=4, dt_rank=160, n_layer=64
    ),
}


def is_frame_preset(name: str) -> bool:
    """Return whether ``name`` is the preset of a frame network; other names may be anything."""
    return name in PRESETS and PRESETS[name].frame is not None


def find_preset(name: str) -> NetworkShape:
    """Return the shape called ``name``; raise InputError listing the known ones."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
