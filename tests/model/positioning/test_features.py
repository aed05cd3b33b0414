"""Features: the definition written out, no look into the future, constants of training alone."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from golden.errors import InputError
from model.positioning.features import FEATURES, FeatureConstants, constants_of


def taps_of(frames, seed=0):
    generator = np.random.default_rng(seed)
    scale = generator.uniform(0.1, 10.0, (10, 100))
    noise = generator.standard_normal((2, frames, 10, 100))
    return (scale * (noise[0] + 1j * noise[1] + 0.5)).astype(np.complex64)


def expected_features(taps, training):
    """The five steps in float64, one antenna at a time."""
    result = np.zeros((len(taps), FEATURES))
    for antenna in range(100):
        known, own = training[..., antenna].astype(complex), taps[..., antenna].astype(complex)
        rms = np.sqrt(np.mean(np.abs(known) ** 2)) + 1e-8
        for tap in range(10):
            phase = np.angle(np.mean(known[:, tap] / np.abs(known[:, tap])))
            turned = own[:, tap] / rms * np.exp(-1j * phase)
            reference = known[:, tap] / rms * np.exp(-1j * phase)
            for part, (value, past) in enumerate(
                ((turned.real, reference.real), (turned.imag, reference.imag))
            ):
                column = (tap * 100 + antenna) * 2 + part
                result[:, column] = (value - past.mean()) / past.std()
        power = np.log1p(np.mean(np.abs(own) ** 2, axis=1))
        past = np.log1p(np.mean(np.abs(known) ** 2, axis=1))
        result[:, 2000 + antenna] = (power - past.mean()) / past.std()
    return result


def test_features_are_the_five_steps():
    training, taps = taps_of(40), taps_of(6, seed=1)
    constants = constants_of(["a", "b"], {"a": training[:15], "b": training[15:]}.get)
    found = constants.features(taps)
    assert found.shape == (6, FEATURES)
    assert np.allclose(found, expected_features(taps, training), atol=2e-4)


def test_a_frame_does_not_depend_on_others():
    constants = constants_of(["a"], lambda _: taps_of(40))
    taps = taps_of(12, seed=2)
    whole = constants.features(taps)
    changed = taps.copy()
    changed[5:] *= 100.0
    assert np.array_equal(constants.features(changed)[:5], whole[:5])
    for frame in range(12):
        assert np.array_equal(constants.features(taps[frame : frame + 1])[0], whole[frame])


def test_a_silent_antenna_does_no_harm():
    taps = taps_of(10)
    taps[:, :, 7] = 0.0
    features = constants_of(["a"], lambda _: taps).features(taps)
    assert np.isfinite(features).all()
    assert not features.reshape(10, -1)[:, 2007].any()


def test_constants_round_trip(tmp_path):
    constants = constants_of(["a"], lambda _: taps_of(10))
    file = tmp_path / "constants.safetensors"
    file.write_bytes(constants.to_bytes())
    assert FeatureConstants.read(file).to_bytes() == constants.to_bytes()


def test_bad_constants_end_in_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot read the constants"):
        FeatureConstants.read(tmp_path / "absent")
    save_file({"rms": np.zeros(3, np.float32)}, tmp_path / "short.safetensors")
    with pytest.raises(InputError, match="constants are"):
        FeatureConstants.read(tmp_path / "short.safetensors")
