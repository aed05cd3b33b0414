"""Radio channels of a box-shaped room by the image-source method (Allen and Berkley, 1979).

Every path is an exact spherical wave, ``lambda / (4 pi d) exp(-j 2 pi f d / c)`` times the
reflection coefficients of the walls it met, so a 1 m array in a small room is in the near field as
it is in reality. Reflections go up to order 2, which are 25 images of the transmitter, and point
scatterers stand for furniture. Not modelled: polarization, antenna patterns, reflection that
depends on the angle, people, the robot itself, and clocks that drift.

The room is no survey of the LuViRA studio: its array, its place and the walls are not published.
The array is the LuMaMi testbed's, 4 rows of 25 antennas at half a wavelength (S. Malkowsky et al.,
IEEE Access 5, 2017, doi 10.1109/ACCESS.2017.2705561).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.positioning.radio import (
    BANDWIDTH,
    CARRIER,
    LIGHT,
    SUBCARRIER_STEP,
    SUBCARRIERS,
    WAVELENGTH,
    Complexes,
    Reals,
)

__all__ = ["Room", "add_noise", "antenna_positions", "image_indices"]

_ROWS, _COLUMNS = 4, 25
_SPLIT = 10  # subcarrier k = 10 p + q: two short tables of phasors instead of a long one
_REFERENCE_DISTANCE = 3.0  # m, at which the signal-to-noise ratio is stated
_CLEAR = ((-1.8, 2.2), (-3.2, 2.4))  # x and y where the robot drives: no scatterers there


def antenna_positions(centre: tuple[float, float, float]) -> Reals:
    """Return the places (100, 3) of 4 rows of 25 antennas in the plane y = const, row by row."""
    half = WAVELENGTH / 2
    rows = (np.arange(_ROWS) - (_ROWS - 1) / 2) * half
    columns = (np.arange(_COLUMNS) - (_COLUMNS - 1) / 2) * half
    z, x = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([x.ravel(), np.zeros(x.size), z.ravel()], axis=1) + np.asarray(centre)


def image_indices(order: int) -> list[tuple[int, int, int]]:
    """Return how often an image is mirrored along x, y, z, negative at the low walls."""
    span = range(-order, order + 1)
    return [m for m in itertools.product(span, span, span) if sum(map(abs, m)) <= order]


@dataclass(frozen=True, kw_only=True)
class Room:
    """A room with a receiving array, and the channels from any place in it.

    Parameters
    ----------
    low, high : its corners, metres, in the motion-capture frame
    reflection : amplitude reflection coefficients of the walls x low, x high, y low, y high, of
        the floor and of the ceiling
    order : of reflections, 2 gives 25 images
    array : centre of the array, metres
    height : of the transmitting antenna, metres
    scatterers : number of point scatterers, at random places where the robot does not drive
    cross_section : of each, square metres
    signal_to_noise : decibels at 3 m in free space, per antenna and subcarrier; infinite for none
    seed : of the scatterers' places

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    low: tuple[float, float, float] = (-4.0, -4.5, 0.0)
    high: tuple[float, float, float] = (4.0, 3.5, 3.0)
    reflection: tuple[float, ...] = (-0.6, -0.6, -0.6, -0.6, -0.5, -0.4)
    order: int = 2
    array: tuple[float, float, float] = (0.0, 3.2, 1.6)
    height: float = 1.0
    scatterers: int = 12
    cross_section: float = 1.0
    signal_to_noise: float = 25.0
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.reflection) != 6 or not all(abs(r) <= 1.0 for r in self.reflection):
            raise ValueError(f"reflection is {self.reflection}, must be six values in -1..1")
        if not 0 <= self.order <= 4:
            raise ValueError(f"order is {self.order}, must lie in 0..4")
        if self.scatterers < 0 or self.cross_section < 0:
            raise ValueError("scatterers and cross_section must not be negative")
        if math.isnan(self.signal_to_noise):
            raise ValueError("signal_to_noise is not a number")

    @property
    def unit(self) -> float:
        """Amplitude that counts as 1: the noise's deviation, or the signal at 3 m without noise."""
        decibels = 0.0 if math.isinf(self.signal_to_noise) else self.signal_to_noise
        return WAVELENGTH / (4 * np.pi * _REFERENCE_DISTANCE) * 10.0 ** (-decibels / 20)

    def scatterer_positions(self) -> Reals:
        """Return the places (s, 3) of the scatterers; they depend on the seed alone."""
        generator = np.random.default_rng(self.seed)
        places: list[Reals] = []
        while len(places) < self.scatterers:
            place = generator.uniform(self.low, self.high)
            inside = [low < place[axis] < high for axis, (low, high) in enumerate(_CLEAR)]
            if not all(inside) and np.linalg.norm(place - np.asarray(self.array)) > 1.0:
                places.append(place)
        return np.array(places).reshape(-1, 3)

    def holds(self, xy: npt.NDArray[np.floating[Any]]) -> bool:
        """Return whether all places (n, 2) are inside."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        return bool(((xy > low[:2]) & (xy < high[:2])).all())

    def paths(self, transmitter: Reals) -> tuple[Reals, Reals]:
        """Return lengths and real gains (n, paths, antennas) from places (n, 3).

        Raises
        ------
        ValueError
            If a place is outside the room.
        """
        if not self.holds(transmitter[:, :2]):
            raise ValueError(f"a transmitter is outside the room {self.low} to {self.high}")
        low = np.asarray(self.low)
        antennas = antenna_positions(self.array)  # a 3
        images, walls = self._images(transmitter - low)
        length = _distance(images[:, :, None] + low, antennas)  # n i a
        gain = walls[:, None] / length  # n i a
        places = self.scatterer_positions()  # s 3
        arriving = _distance(transmitter[:, None], places)[..., None]  # n s 1
        leaving = _distance(places[:, None], antennas)[None]  # 1 s a
        strength = math.sqrt(self.cross_section / (4 * np.pi))
        length = np.concatenate([length, arriving + leaving], axis=1)  # n p a
        gain = np.concatenate([gain, strength / (arriving * leaving)], axis=1)
        return length, gain * (WAVELENGTH / (4 * np.pi))

    def channel(self, xy: Reals) -> Complexes:
        """Return noiseless channels (n, subcarriers, antennas) from places (n, 2), in ``unit``.

        Subcarrier k is at ``CARRIER - BANDWIDTH / 2 + k SUBCARRIER_STEP``.
        """
        height = np.full((len(xy), 1), self.height)
        length, gain = self.paths(np.concatenate([np.asarray(xy, float), height], axis=1))
        delay = (length / LIGHT).transpose(0, 2, 1)  # n a p
        amplitude = (gain / self.unit).transpose(0, 2, 1)  # n a p
        first = amplitude * _phasor((CARRIER - BANDWIDTH / 2) * delay)  # n a p
        coarse = first[:, :, None] * _phasor(_steps(delay, _SPLIT))  # n a 10 p
        fine = _phasor(_steps(delay, 1)).swapaxes(2, 3)  # n a p 10
        channel = coarse.astype(np.complex64) @ fine  # n a 10 10
        return channel.reshape(*channel.shape[:2], SUBCARRIERS).swapaxes(1, 2)

    def _images(self, inside: Reals) -> tuple[Reals, Reals]:
        """Return the images (n, i, 3) of places (n, 3), from the low corner, and wall gains (i)."""
        index = np.array(image_indices(self.order))  # i 3
        size = np.asarray(self.high) - np.asarray(self.low)
        place = inside[:, None]  # n 1 3
        images = index * size + np.where(index % 2 == 0, place, size - place)  # n i 3
        reflection = np.asarray(self.reflection).reshape(3, 2)
        count = np.abs(index)
        # The image beyond the high wall met it first: the walls take turns.
        first, second = (count + 1) // 2, count // 2
        at_low = np.where(index < 0, first, second)
        at_high = np.where(index < 0, second, first)
        gains = reflection[:, 0] ** at_low * reflection[:, 1] ** at_high  # i 3
        return images, gains.prod(axis=1)


def add_noise(channel: Complexes, generator: np.random.Generator) -> Complexes:
    """Return the channels with complex Gaussian noise of variance 1."""
    noise = generator.standard_normal((2, *channel.shape), dtype=np.float32)
    return channel + np.float32(math.sqrt(0.5)) * (noise[0] + 1j * noise[1])


def _distance(a: Reals, b: Reals) -> Reals:
    return np.sqrt(np.square(a - b).sum(axis=-1))


def _phasor(turns: Reals) -> Complexes:
    """Return ``exp(-2 pi j turns)``; whole turns go before the precision does."""
    angle = (-2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    phasor = np.empty(angle.shape, np.complex64)
    phasor.real, phasor.imag = np.cos(angle), np.sin(angle)
    return phasor


def _steps(delay: Reals, stride: int) -> Reals:
    """Return turns (n, a, 10, p) of ten subcarriers, ``stride`` apart."""
    steps = SUBCARRIER_STEP * stride * np.arange(_SPLIT)
    return steps[:, None] * delay[:, :, None]
