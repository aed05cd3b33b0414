"""The same room by ray tracing with Sionna RT, an optional and slower second simulator.

It has what :mod:`model.positioning.room` lacks: reflections of concrete walls that depend on angle
and polarization (ITU-R P.2040). It has no point scatterers. The array is the transmitter, which is
the same channel by reciprocity and far faster, and every antenna is traced by itself, so that waves
are spherical. Needs ``pip install sionna-rt`` and, on a processor, LLVM 16 or later as a system
library.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from golden.errors import InputError
from model.positioning.radio import (
    ANTENNAS,
    BANDWIDTH,
    CARRIER,
    SUBCARRIER_STEP,
    SUBCARRIERS,
    WAVELENGTH,
    Complexes,
    Reals,
)
from model.positioning.room import Room, antenna_positions

__all__ = ["SionnaRoom"]

_RECEIVERS = 16  # places a call; always as many, so that one compiled kernel serves all calls
_RAYS = 20_000
_SCENE = """<scene version="2.1.0">
 <bsdf type="itu-radio-material" id="mat-wall">
  <string name="type" value="concrete"/><float name="thickness" value="0.2"/>
 </bsdf>
 <shape type="cube" id="mesh-room">
  <transform name="to_world">
   <scale x="{half[0]}" y="{half[1]}" z="{half[2]}"/>
   <translate x="{centre[0]}" y="{centre[1]}" z="{centre[2]}"/>
  </transform>
  <ref name="bsdf" id="mat-wall"/>
 </shape>
</scene>
"""


def _sionna() -> tuple[ModuleType, ModuleType]:
    """Return the modules sionna.rt and mitsuba."""
    try:
        import mitsuba
        import sionna.rt
    except ImportError as error:
        raise InputError(
            f"--simulator sionna needs the package sionna-rt ({error}); pip install sionna-rt, or "
            "leave the option out for the image-source room"
        ) from error
    except RuntimeError as error:  # Dr.Jit without LLVM
        raise InputError(
            f"--simulator sionna: {error}; install LLVM 16 or later, or leave the option out"
        ) from error
    return sionna.rt, mitsuba


@dataclass(frozen=True)
class SionnaRoom:
    """Channels of a room of concrete; size, array, height, order, noise are those of ``room``.

    Raises
    ------
    InputError
        If Sionna RT or LLVM is missing.
    """

    room: Room

    def __post_init__(self) -> None:
        _sionna()  # says at once what is missing

    def channel(self, xy: Reals) -> Complexes:
        """Return noiseless channels (n, subcarriers, antennas) from places (n, 2), in ``unit``."""
        blocks = []
        for start in range(0, len(xy), _RECEIVERS):
            places = np.asarray(xy[start : start + _RECEIVERS], float)
            filled = np.concatenate([places, places[-1:].repeat(_RECEIVERS - len(places), axis=0)])
            blocks.append(self._traced(filled)[: len(places)])
        return np.concatenate(blocks)

    @cached_property
    def _scene(self) -> Any:
        """The room with its array and receivers at no particular place."""
        rt, mitsuba = _sionna()
        low, high = np.asarray(self.room.low), np.asarray(self.room.high)
        text = _SCENE.format(half=(high - low) / 2, centre=(high + low) / 2)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "room.xml"
            file.write_text(text, encoding="utf-8")
            scene = rt.load_scene(str(file))
        scene.frequency = CARRIER
        pattern = rt.PlanarArray(
            num_rows=1, num_cols=1, vertical_spacing=0.5, horizontal_spacing=0.5, pattern="iso",
            polarization="V",
        ).antenna_pattern  # fmt: skip
        relative = (antenna_positions((0.0, 0.0, 0.0)) / WAVELENGTH).T.tolist()
        scene.tx_array = rt.AntennaArray(pattern, mitsuba.Point3f(*relative))
        scene.rx_array = rt.AntennaArray(pattern, mitsuba.Point3f(0.0, 0.0, 0.0))
        scene.add(rt.Transmitter("array", position=list(self.room.array)))
        for number in range(_RECEIVERS):
            scene.add(rt.Receiver(f"robot{number}", position=[0.0, 0.0, self.room.height]))
        return scene

    def _traced(self, places: Reals) -> Complexes:
        """Return the channels from exactly as many places as there are receivers."""
        rt, mitsuba = _sionna()
        scene = self._scene
        for number, (x, y) in enumerate(places):
            receiver = scene.receivers[f"robot{number}"]
            receiver.position = mitsuba.Point3f(float(x), float(y), self.room.height)
        paths = rt.PathSolver()(
            scene, max_depth=self.room.order, refraction=False, synthetic_array=False,
            samples_per_src=_RAYS, seed=1,
        )  # fmt: skip
        # The carrier's own phase is in the paths' coefficients: frequencies count from there.
        offsets = -BANDWIDTH / 2 + SUBCARRIER_STEP * np.arange(SUBCARRIERS)
        response = paths.cfr(
            frequencies=offsets.astype(np.float32), normalize_delays=False, out_type="numpy"
        )  # receiver 1 array antenna 1 subcarrier
        channel = response.reshape(len(places), ANTENNAS, SUBCARRIERS).swapaxes(1, 2)
        return (channel / self.room.unit).astype(np.complex64)
