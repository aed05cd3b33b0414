"""LuViRA's layout: small files of both MATLAB kinds, ground truth, pairing and its pitfalls."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from golden.errors import InputError
from model.positioning.luvira import pair_files, places_of_frames, read_radio, read_truth


def channel_of(frames, seed=0):
    generator = np.random.default_rng(seed)
    shape = (frames, 100, 100)
    return (generator.standard_normal(shape) + 1j * generator.standard_normal(shape)).astype(
        np.complex64
    )


def pairs_of(value):
    if not np.iscomplexobj(value):
        return value
    pairs = np.empty(value.shape, [("real", "<f8"), ("imag", "<f8")])
    pairs["real"], pairs["imag"] = value.real, value.imag
    return pairs


def save_hdf5(path, variables):
    """Write what MATLAB's version 7.3 writes: axes reversed, complex numbers as pairs."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            file[name] = pairs_of(np.asarray(value).T)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file")


@pytest.fixture(params=["version 5", "version 7.3"])
def save(request):
    return savemat if request.param == "version 5" else save_hdf5


def test_both_kinds_of_file_give_time_frequency_antenna(save, tmp_path):
    channel = channel_of(7)
    save(tmp_path / "Grid101.mat", {"H_ueprocess": channel, "note": np.arange(3.0)})
    file = read_radio(tmp_path / "Grid101.mat")
    assert file.channel.dtype == np.complex64
    assert np.array_equal(file.channel, channel)
    assert file.times is None


@pytest.mark.parametrize("axis", [1, 2])
def test_another_axis_of_time_is_moved_first(axis, save, tmp_path):
    channel = channel_of(7)
    save(tmp_path / "a.mat", {"H": np.moveaxis(channel, 0, axis)})
    assert np.array_equal(read_radio(tmp_path / "a.mat").channel, channel)


@pytest.mark.parametrize(
    "variables",
    [
        lambda h, other: {"H_ueprocess": h, "H": other},
        lambda h, other: {"H": h, "Yc": other},
        lambda h, other: {"CSI_real": h.real, "CSI_imag": h.imag, "zz": other},
        lambda h, other: {"something": h, "zz": other[:1]},
    ],
)
def test_variables_are_chosen_in_the_published_order(variables, save, tmp_path):
    channel, other = channel_of(3), channel_of(4, seed=1)
    save(tmp_path / "a.mat", variables(channel, other))
    assert np.array_equal(read_radio(tmp_path / "a.mat").channel, channel)


def test_time_stamps_are_read(save, tmp_path):
    times = np.array([0.5, 0.51, 0.53])
    save(tmp_path / "a.mat", {"H": channel_of(3), "ts": times[:, None]})
    assert np.array_equal(read_radio(tmp_path / "a.mat").times, times)


def spoiled():
    channel = channel_of(5)
    channel[2, 3, 4] = np.nan
    return channel


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"x": np.zeros(3)}, "no array (time, frequency, antenna)"),
        ({"H": np.ones((4, 100, 100))}, "H is real"),
        ({"H": channel_of(4)[:, :50]}, "has shape (4, 50, 100)"),
        ({"H": spoiled()}, "NaN or infinite values in 1 frames"),
        ({"H": channel_of(3), "t": np.array([0.0, 0.01])}, "2 time stamps for 3 frames"),
        ({"H": channel_of(3), "t": np.array([0.0, 0.02, 0.01])}, "not increasing"),
    ],
)
def test_bad_radio_files_end_in_one_line(variables, words, save, tmp_path):
    save(tmp_path / "a.mat", variables)
    with pytest.raises(InputError) as caught:
        read_radio(tmp_path / "a.mat")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nothing", b"MATLAB 7.3 and then nothing"])
def test_damaged_files_are_refused(content, tmp_path):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(InputError, match="no readable"):
        read_radio(tmp_path / "a.mat")
    with pytest.raises(InputError, match="no radio file"):
        read_radio(tmp_path / "b.mat")


HEADER = "timestamps,X,Y,Z,Roll,Pitch,Yaw,Residual," + ",".join(f"Rot[{i}]" for i in range(9))


def save_truth(path, rows, start=17.25, step=0.01):
    lines = [HEADER]
    for number, (x, y) in rows:
        rest = ",".join(["0"] * 14)
        lines.append(f"{start + step * number:.4f},{x},{y},{rest}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def straight(count):
    return [(i, (1000.0 + i, -500.0 + 2 * i)) for i in range(count)]


def test_truth_is_in_metres_and_seconds_from_its_start(tmp_path):
    rows = straight(5)
    rows[2] = (2, ("NaN", "NaN"))
    save_truth(tmp_path / "a.csv", [rows[i] for i in (3, 0, 2, 4, 1)])
    times, places = read_truth(tmp_path / "a.csv")
    assert np.allclose(times, [0.0, 0.01, 0.03, 0.04])
    assert np.allclose(places[-1], [1.004, -0.492])


@pytest.mark.parametrize(
    ("step", "rows", "words"),
    [(0.01, 1, "has 1 rows"), (10.0, 5, "step by 10, expected about 0.01 s")],
)
def test_bad_truth_ends_in_one_line(step, rows, words, tmp_path):
    save_truth(tmp_path / "a.csv", straight(rows), step=step)
    with pytest.raises(InputError, match=words):
        read_truth(tmp_path / "a.csv")
    with pytest.raises(InputError, match="no ground-truth file"):
        read_truth(tmp_path / "b.csv")


def test_places_are_interpolated_in_time_and_not_by_row():
    times = np.array([0.0, 0.01, 0.03, 0.04])  # the row of 0.02 s was dropped
    places = np.stack([times, -times], axis=1)
    place, measured = places_of_frames("a", 5, None, (times, places), "strict")
    assert np.allclose(place[:, 0], [0.0, 0.01, 0.02, 0.03, 0.04])
    assert measured.all()
    own = np.array([5.0, 5.005, 5.035])
    place, _ = places_of_frames("a", 3, own, (times, places), "strict")
    assert np.allclose(place[:, 0], [0.0, 0.005, 0.035])


def test_frames_in_a_hole_of_the_truth_have_no_place():
    times = np.array([0.0, 0.01, 0.0205, 0.2005, 0.21])
    _, measured = places_of_frames("a", 22, None, (times, np.zeros((5, 2))), "strict")
    assert np.flatnonzero(~measured).tolist() == list(range(8, 16))


def test_lengths_that_differ_are_not_guessed():
    times = np.arange(300) / 100
    truth = (times, np.stack([times, times], axis=1))
    with pytest.raises(InputError, match=r"radio lasts 0\.99 s, ground truth 2\.99 s.*--align"):
        places_of_frames("Random_L", 100, None, truth, "strict")
    for align, first in (("start", 0.0), ("middle", 1.0), ("end", 2.0)):
        place, measured = places_of_frames("Random_L", 100, None, truth, align)
        assert np.allclose(place[0], first)
        assert measured.all()


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_files_are_paired_by_grid_number_or_whole_name(tmp_path):
    radio = touch(tmp_path / "radio", "Grid101.mat", "Random_circle1.mat", "Random_manual_5.mat")
    truth = touch(
        tmp_path / "truth", "Grid0101.csv", "random_circle1.csv", "Random_manual_people5.csv",
        "Random_manual5.csv", "Grid102.csv",
    )  # fmt: skip
    pairs = [(name, kind, csv.name) for name, kind, _, csv in pair_files(radio, truth)]
    assert pairs == [
        ("Grid101", "grid", "Grid0101.csv"),
        ("random_circle_1", "random", "random_circle1.csv"),
        ("random_manual_5", "random", "Random_manual5.csv"),
    ]


def test_files_that_do_not_pair_are_refused(tmp_path):
    radio = touch(tmp_path / "radio", "Random_L1.mat")
    truth = touch(tmp_path / "truth", "Random_U1.csv")
    with pytest.raises(InputError, match=r"1 radio files have no ground truth.*Random_L1\.mat"):
        pair_files(radio, truth)
    touch(radio, "random_l1.mat")
    with pytest.raises(InputError, match="are both random_l_1"):
        pair_files(radio, truth)
    with pytest.raises(InputError, match=r"holds no \.mat files"):
        pair_files(truth, truth)
    with pytest.raises(InputError, match="no folder"):
        pair_files(tmp_path / "absent", truth)
