"""Image-source room: against free space, one wall, mirrors applied one after the other."""

import dataclasses
import itertools

import numpy as np
import pytest

from model.positioning.radio import LIGHT, WAVELENGTH, delay_taps
from model.positioning.room import Room, add_noise, antenna_positions, image_indices

FREQUENCIES = 3.7e9 - 10e6 + 0.2e6 * np.arange(100)
EMPTY = Room(scatterers=0, reflection=(0.0,) * 6, signal_to_noise=np.inf)
PLACES = np.array([[0.3, -1.2], [-1.0, 1.6], [1.4, -2.4]])
# Phases in float32 are good to 1e-6 of a turn, whatever the length of the path.
TOLERANCE = 1e-5


def wave(source, antenna, gain=1.0, extra=0.0):
    """A spherical wave (subcarriers,), written as the formula."""
    length = np.sqrt(sum((a - b) ** 2 for a, b in zip(source, antenna, strict=True))) + extra
    amplitude = gain * WAVELENGTH / (4 * np.pi * length)
    return amplitude * np.exp(-2j * np.pi * FREQUENCIES * length / LIGHT)


def brute_force(room, place):
    """Mirror the transmitter at one wall after the other; add scattered waves; no NumPy tricks."""
    walls = [(axis, side) for axis in range(3) for side in range(2)]
    bounds = (room.low, room.high)
    images = {(*map(float, place), room.height): 1.0}
    for order in range(1, room.order + 1):
        for sequence in itertools.product(walls, repeat=order):
            source, gain = [*map(float, place), room.height], 1.0
            for axis, side in sequence:
                source[axis] = 2 * bounds[side][axis] - source[axis]
                gain *= room.reflection[2 * axis + side]
            key = tuple(round(value, 9) for value in source)
            images.setdefault(key, gain)  # walls x then y and y then x are one path
    channel = np.zeros((100, 100), complex)
    for number, antenna in enumerate(antenna_positions(room.array)):
        for source, gain in images.items():
            channel[:, number] += wave(source, antenna, gain)
        for scatterer in room.scatterer_positions():
            arriving = np.linalg.norm(scatterer - [*place, room.height])
            leaving = np.linalg.norm(antenna - scatterer)
            gain = np.sqrt(room.cross_section / (4 * np.pi)) * WAVELENGTH / (4 * np.pi)
            turns = FREQUENCIES * (arriving + leaving) / LIGHT
            channel[:, number] += gain / (arriving * leaving) * np.exp(-2j * np.pi * turns)
    return channel / room.unit


def assert_equal(found, expected):
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_free_space_is_exact():
    found = EMPTY.channel(PLACES)
    for place, channel in zip(PLACES, found, strict=True):
        expected = [wave([*place, 1.0], antenna) for antenna in antenna_positions(EMPTY.array)]
        assert_equal(channel, np.array(expected).T / EMPTY.unit)


@pytest.mark.parametrize("wall", range(6))
def test_one_wall_adds_one_mirrored_wave(wall):
    reflection = np.zeros(6)
    reflection[wall] = -0.7
    room = dataclasses.replace(EMPTY, reflection=tuple(reflection))
    axis, side = divmod(wall, 2)
    source = [*PLACES[0], room.height]
    source[axis] = 2 * (room.low, room.high)[side][axis] - source[axis]
    mirrored = [wave(source, antenna, -0.7) for antenna in antenna_positions(room.array)]
    found = room.channel(PLACES[:1]) - EMPTY.channel(PLACES[:1])
    assert_equal(found[0], np.array(mirrored).T / room.unit)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_all_walls_and_scatterers_equal_mirrors_one_after_the_other(order):
    room = Room(order=order, scatterers=3, seed=4, reflection=(-0.9, -0.8, 0.7, 0.6, -0.5, 0.4))
    assert_equal(room.channel(PLACES[:1])[0], brute_force(room, PLACES[0]))


def test_order_two_has_twenty_five_images():
    assert [len(image_indices(order)) for order in range(4)] == [1, 7, 25, 63]


def test_array_is_four_rows_of_twenty_five_at_half_a_wavelength():
    places = antenna_positions((1.0, 2.0, 3.0)).reshape(4, 25, 3)
    assert np.allclose(places.mean(axis=(0, 1)), (1.0, 2.0, 3.0))
    assert np.allclose(np.diff(places, axis=0), [0.0, 0.0, WAVELENGTH / 2])
    assert np.allclose(np.diff(places, axis=1), [WAVELENGTH / 2, 0.0, 0.0])


def test_noise_has_the_stated_level():
    room = Room(scatterers=0, reflection=(0.0,) * 6, signal_to_noise=20.0)
    place = np.asarray(room.array) - [0.0, 3.0, 0.0]  # 3 m in front of the array
    room = dataclasses.replace(room, height=float(place[2]))
    clean = room.channel(place[None, :2])
    noise = add_noise(clean, np.random.default_rng(0)) - clean
    signal = 20 * np.log10(np.abs(clean[0, :, 37:38]).mean())  # an antenna near the middle
    assert signal == pytest.approx(20.0, abs=0.1)
    assert np.square(np.abs(noise)).mean() == pytest.approx(1.0, abs=0.03)


def test_taps_are_the_inverse_transform():
    generator = np.random.default_rng(0)
    channel = generator.standard_normal((2, 100, 100)) + 1j * generator.standard_normal(
        (2, 100, 100)
    )
    taps = delay_taps(channel)
    phasors = np.exp(2j * np.pi * np.outer(np.arange(10), np.arange(100)) / 100) / 100
    assert np.allclose(taps, np.einsum("tk,nka->nta", phasors, channel), atol=1e-6)


def test_scatterers_follow_from_the_seed_and_leave_the_floor_free():
    places = Room(scatterers=50, seed=3).scatterer_positions()
    assert np.array_equal(places, Room(scatterers=50, seed=3).scatterer_positions())
    assert not np.array_equal(places, Room(scatterers=50, seed=4).scatterer_positions())
    x, y = places[:, 0], places[:, 1]
    assert not ((x > -1.8) & (x < 2.2) & (y > -3.2) & (y < 2.4)).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reflection": (0.5,)}, "must be six values"),
        ({"reflection": (0.5, 0.5, 0.5, 0.5, 0.5, 2.0)}, "must be six values"),
        ({"order": 9}, "order is 9"),
        ({"scatterers": -1}, "must not be negative"),
        ({"signal_to_noise": np.nan}, "not a number"),
    ],
)
def test_bad_rooms_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Room(**change)


def test_places_outside_the_room_are_refused():
    with pytest.raises(ValueError, match="outside the room"):
        EMPTY.channel(np.array([[5.0, 0.0]]))
