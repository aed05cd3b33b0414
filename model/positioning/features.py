"""The 2100 features of a frame, causal: from the frame itself and constants of the training part.

The published pipeline divides by an RMS and removes a mean phase that are taken over the whole
file, future frames included; no streaming system can do that. Here both are constants of the
training trajectories, as are mean and deviation of the last step. So features of a frame never
depend on another frame, and nothing is learnt from the test part.

In order, of taps h (10 taps, 100 antennas):

1. divide by one RMS an antenna, plus 1e-8;
2. phase centring: turn every tap and antenna back by its mean phase, that of the sum of unit
   phasors (the published arithmetic mean of wrapped phases depends on where the circle is cut);
3. features 0 to 1999: index (tap x 100 + antenna) x 2 + c, c = 0 real, 1 imaginary;
4. features 2000 to 2099: log(1 + mean over the taps of |h|^2) of every antenna, h before step 1;
5. subtract the mean, divide by the deviation, which is at least 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from golden.errors import InputError
from model.positioning.radio import ANTENNAS, TAPS, Complexes

__all__ = ["FEATURES", "FeatureConstants", "constants_of"]

Floats = npt.NDArray[np.float32]

FEATURES = 2 * TAPS * ANTENNAS + ANTENNAS
_SMALLEST_RMS, _SMALLEST_DEVIATION = 1e-8, 1e-5


@dataclass(frozen=True, kw_only=True)
class FeatureConstants:
    """What the training part tells about all frames.

    Parameters
    ----------
    rms : of every antenna (100,)
    turn : unit phasor (10, 100) as real and imaginary part, (2, 10, 100)
    mean, deviation : of every feature (2100,)
    """

    rms: Floats
    turn: Floats
    mean: Floats
    deviation: Floats

    def features(self, taps: Complexes) -> Floats:
        """Return the features (n, 2100) of taps (n, 10, 100), frame by frame."""
        return (self.raw(taps) - self.mean) / self.deviation

    def raw(self, taps: Complexes) -> Floats:
        """Return the features before step 5."""
        turn = (self.turn[0] - 1j * self.turn[1]).astype(np.complex64)
        scaled = taps * (turn / (self.rms + _SMALLEST_RMS)).astype(np.complex64)  # n 10 100
        parts = np.stack([scaled.real, scaled.imag], axis=-1).reshape(len(taps), -1)  # n 2000
        power = np.square(np.abs(taps)).mean(axis=1)  # n 100
        return np.concatenate([parts, np.log1p(power)], axis=1)

    def to_bytes(self) -> bytes:
        """Return the content of a constants file."""
        return bytes(save({field.name: getattr(self, field.name) for field in fields(self)}))

    @classmethod
    def read(cls, path: Path) -> FeatureConstants:
        """Read a constants file; ``InputError`` names what is wrong with it."""
        remedy = "prepare the data again: python -m model.positioning prepare"
        shapes = {
            "rms": (ANTENNAS,), "turn": (2, TAPS, ANTENNAS), "mean": (FEATURES,),
            "deviation": (FEATURES,),
        }  # fmt: skip
        try:
            tensors = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read the constants {path} ({error}); {remedy}") from error
        found = {name: tensor.shape for name, tensor in tensors.items()}
        if found != shapes:
            raise InputError(f"{path} holds {found}, constants are {shapes}; {remedy}")
        return cls(**tensors)


def constants_of(names: Sequence[str], taps_of: Callable[[str], Complexes]) -> FeatureConstants:
    """Return the constants of the training trajectories ``names``, read one at a time, twice.

    ``taps_of(name)`` returns taps (n, 10, 100).
    """
    power, turn, frames = np.zeros(ANTENNAS), np.zeros((TAPS, ANTENNAS), complex), 0
    for name in names:
        taps = taps_of(name)
        magnitude = np.abs(taps)
        power += np.square(magnitude, dtype=float).sum(axis=(0, 1))
        turn += (taps / np.maximum(magnitude, np.finfo(np.float32).tiny)).sum(axis=0, dtype=complex)
        frames += len(taps)
    rms = np.sqrt(power / (frames * TAPS)).astype(np.float32)
    unit = np.exp(1j * np.angle(turn))
    neutral = FeatureConstants(
        rms=rms,
        turn=np.stack([unit.real, unit.imag]).astype(np.float32),
        mean=np.zeros(FEATURES, np.float32),
        deviation=np.ones(FEATURES, np.float32),
    )
    total, square = np.zeros(FEATURES), np.zeros(FEATURES)
    for name in names:
        raw = neutral.raw(taps_of(name)).astype(float)
        total += raw.sum(axis=0)
        square += np.square(raw).sum(axis=0)
    mean = total / frames
    deviation = np.sqrt(np.maximum(square / frames - np.square(mean), 0.0))
    return FeatureConstants(
        rms=neutral.rms,
        turn=neutral.turn,
        mean=mean.astype(np.float32),
        deviation=np.maximum(deviation, _SMALLEST_DEVIATION).astype(np.float32),
    )
