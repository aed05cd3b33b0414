"""The radar data set's reader: what it gives and what it refuses."""

import numpy as np
import pytest

from golden.configuration import FrameShape
from golden.errors import InputError
from golden.presets import PRESETS
from model.radar import (
    CENTRE,
    mean_absolute_error,
    read_radar,
    root_mean_square_error,
)
from tests.model import radar_file


def test_points_are_centred_where_used_and_keep_their_order(tmp_path):
    content = radar_file.arrays()
    data = read_radar(radar_file.write(tmp_path / "radar.npz"))
    raw = content["x_train"].reshape(-1, 64, 5)
    used = raw[..., 4] != 0
    points = data["train"].points
    assert np.allclose(points[used] + CENTRE, raw[used], atol=1e-6)
    assert not points[~used].any()
    features = data["train"].features(PRESETS["mars"].frame)
    assert features.shape == (160, 16, 20)
    assert np.array_equal(features[3, 2, 5:10], points[3, 9])
    assert set(data["test"].subject) == {2, 3, 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "y_test"),
        ({"x_train": np.zeros((160, 64, 5))}, r"x_train has shape \(160, 64, 5\), not \(160, 8"),
        ({"y_validate": np.zeros((40, 56))}, r"y_validate has shape \(40, 56\), not \(40, 57\)"),
        ({"subject_test": np.zeros(3)}, r"subject_test has shape \(3,\), not \(48,\)"),
        ({"y_train": np.full((160, 57), np.nan)}, "y_train holds NaN"),
        ({"x_test": np.array([{}], dtype=object)}, "Object arrays cannot be loaded"),
    ],
)
def test_a_broken_file_is_refused_with_the_origin(changes, message, tmp_path):
    path = radar_file.write(tmp_path / "radar.npz", **changes)
    with pytest.raises(InputError, match=rf"radar.npz cannot be used: .*{message}") as caught:
        read_radar(path)
    assert "give the MARS data set (github.com/SizheAn/MARS" in str(caught.value)


def test_an_absent_file_is_refused_with_the_origin(tmp_path):
    with pytest.raises(InputError, match=r"no --data given; give --data FILE with the MARS data"):
        read_radar(None)
    with pytest.raises(InputError, match=r"no file .*absent\.npz; give --data FILE with the MARS"):
        read_radar(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(InputError, match=r"text\.npz cannot be used"):
        read_radar(tmp_path / "text.npz")


def test_frames_of_another_size_are_refused(tmp_path):
    split = read_radar(radar_file.write(tmp_path / "radar.npz"))["test"]
    with pytest.raises(InputError, match="8 tokens of 20 features are not the 64 points"):
        split.features(FrameShape(features=20, tokens=8, hidden=4))


def test_errors_are_means_over_coordinates_in_centimetres():
    labels = np.zeros((2, 57))
    outputs = np.zeros((2, 57))
    outputs[:, 0], outputs[:, 1] = [0.03, 0.04], [0.57, -0.57]
    first = np.sqrt((9 + 16) / 2)
    assert root_mean_square_error(outputs, labels) == pytest.approx((first + 57) / 57)
    assert mean_absolute_error(outputs, labels) == pytest.approx((3.5 + 57) / 57)
