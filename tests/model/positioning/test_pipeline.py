"""The three commands on small data, synthetic and measured, and what bad input gets."""

import json
import shutil

import numpy as np
import pytest
import torch
from scipy.io import savemat

from golden import command
from golden.command import digest
from model.positioning.__main__ import application
from model.positioning.dataset import read_dataset
from model.positioning.report import BEGIN, END
from model.positioning.room import Room
from model.positioning.simulation import simulated_taps
from model.positioning.trajectories import read_trajectories
from model.quantize import application as quantization
from model.slim import SlimNetwork
from model.slim_checkpoint import load_slim_checkpoint, slim_checkpoint_bytes
from model.slim_configuration import slim_preset
from tests.model.commands import run

ROWS = 24


def save_trajectories(path, change=None):
    """Six short lines and two drives, one with a gap."""
    arrays = {"rate_hz": np.float64(25.0)}
    names = [f"Grid{101 + i}" for i in range(6)] + ["Random_a", "Random_b"]
    for i, name in enumerate(names):
        y = np.linspace(-0.5, 0.5, ROWS)
        arrays[f"xy_{name}"] = np.stack([np.full(ROWS, 0.1 * i), y], axis=1).astype(np.float32)
    arrays["ids"] = np.array(names)
    arrays["kind"] = np.array(["grid"] * 6 + ["random"] * 2)
    arrays["gap_after_row"] = np.array([-1] * 7 + [3])
    if change:
        change(arrays)
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("positioning")
    paths = save_trajectories(folder / "paths.npz")
    arguments = ["prepare", "--trajectories", paths, "--out", folder / "data", "--workers", "1"]
    with pytest.raises(SystemExit) as ended:
        command.run(application, [str(a) for a in arguments])
    assert ended.value.code == 0
    return folder


def test_prepared_taps_are_the_rooms(prepared):
    dataset = read_dataset(prepared / "data")
    assert "synthetic channels" in dataset.origin
    paths, rate = read_trajectories(prepared / "paths.npz")
    assert rate == dataset.manifest["rate_hz"]
    assert np.array_equal(dataset.taps("Grid103"), simulated_taps(Room(), paths[2], 0))
    windows = dataset.windows("test-random")
    assert windows.names == ("Random_a", "Random_b")
    assert windows.ends.tolist() == [*range(15, 24), *(ROWS + end for end in range(19, 24))]
    assert windows.starts.tolist() == [0, 9, 14]
    assert np.array_equal(windows.labels[0], paths[6].xy[15])
    train = dataset.windows("train")
    assert np.allclose(train.features.mean(axis=0), 0.0, atol=1e-3)
    assert np.allclose(train.features.std(axis=0), 1.0, atol=1e-3)


def test_constants_come_from_the_training_part_alone(prepared, tmp_path, capsys):
    """Other places in the test parts leave every feature constant as it is."""

    def move(arrays):
        split = read_dataset(prepared / "data").manifest["split"]
        for name in (*split["test-lines"], *split["test-random"], *split["validate"]):
            arrays[f"xy_{name}"][:, 1] += 0.3

    paths = save_trajectories(tmp_path / "paths.npz", move)
    outcome = run(application, capsys, "prepare", "--trajectories", paths, "--out",
                  tmp_path / "data", "--workers", "1")  # fmt: skip
    assert outcome.returncode == 0
    own = (tmp_path / "data" / "constants.safetensors").read_bytes()
    assert own == (prepared / "data" / "constants.safetensors").read_bytes()


def test_an_interrupted_preparation_goes_on(prepared, capsys):
    folder = prepared / "data"
    kept, missing = folder / "taps" / "Grid101.npy", folder / "taps" / "Grid102.npy"
    content, time = missing.read_bytes(), kept.stat().st_mtime_ns
    missing.unlink()
    arguments = ("prepare", "--trajectories", prepared / "paths.npz", "--out", folder)
    assert run(application, capsys, *arguments, "--workers", "2").returncode == 0
    assert missing.read_bytes() == content
    assert kept.stat().st_mtime_ns == time
    outcome = run(application, capsys, *arguments, "--seed", "1")
    assert outcome.returncode == 2
    assert "holds taps made with other parameters" in outcome.stderr


@pytest.mark.parametrize("preset", ["slim", "mamba-k2"])
def test_train_and_evaluate(preset, prepared, tmp_path, capsys):
    outcome = run(application, capsys, "train", "--data", prepared / "data", "--preset", preset,
                  "--steps", "3", "--batch", "4", "--evaluate-every", "2", "--out",
                  tmp_path)  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    record = json.loads((tmp_path / f"{preset}.training.json").read_text())
    assert [entry["step"] for entry in record["curve"]] == [2, 3]
    assert record["validation_error"] == min(entry["validate"] for entry in record["curve"])
    checkpoint = tmp_path / f"{preset}.safetensors"
    assert load_slim_checkpoint(checkpoint).configuration == slim_preset(preset)
    outcome = run(application, capsys, "evaluate", "--data", prepared / "data", "--checkpoint",
                  checkpoint, "--out", tmp_path / "report")  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert "synthetic channels" in outcome.stdout
    report = json.loads((tmp_path / "report" / "positioning.json").read_text())
    errors = report["networks"][preset]["float"]["test-lines"]
    assert 0.0 < errors["median"] <= errors["p80"] <= errors["p90"]
    for figure in ("trajectories", "cdf", "heat-map"):
        assert (tmp_path / "report" / f"positioning-{figure}.svg").stat().st_size > 1000


def test_an_integer_program_stands_beside_its_network(prepared, tmp_path, capsys):
    torch.manual_seed(0)
    checkpoint, program = tmp_path / "slim-k1.safetensors", tmp_path / "program.safetensors"
    checkpoint.write_bytes(slim_checkpoint_bytes(SlimNetwork(slim_preset("slim-k1"))))
    outcome = run(quantization, capsys, "--preset", "slim-k1", "--scheme", "w8a8", "--data",
                  prepared / "data", "--checkpoint", checkpoint, "--calibration-windows", "16",
                  "--out", program)  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    arguments = ("evaluate", "--data", prepared / "data", "--artifact", program, "--out",
                 tmp_path / "report")  # fmt: skip
    outcome = run(application, capsys, *arguments, "--checkpoint", checkpoint)
    assert outcome.returncode == 0, outcome.stderr
    own = json.loads((tmp_path / "report" / "positioning.json").read_text())["networks"]["slim-k1"]
    exact, rounded = own["float"]["all"], own["programs"]["w8a8"]["all"]
    assert rounded["mean"] != exact["mean"]
    assert rounded["mean"] == pytest.approx(exact["mean"], rel=0.2)
    assert rounded["loss_percent"] == pytest.approx(100 * (rounded["mean"] / exact["mean"] - 1))
    other = tmp_path / "other.safetensors"
    other.write_bytes(slim_checkpoint_bytes(SlimNetwork(slim_preset("slim-k1"))))
    outcome = run(application, capsys, *arguments, "--checkpoint", other)
    assert outcome.returncode == 2
    assert "was quantized from none of the checkpoints given" in outcome.stderr


def test_training_repeats(prepared, tmp_path, capsys):
    for name in ("one", "two"):
        outcome = run(application, capsys, "train", "--data", prepared / "data", "--preset",
                      "slim-k1", "--steps", "2", "--batch", "8", "--out",
                      tmp_path / name)  # fmt: skip
        assert outcome.returncode == 0
    files = [tmp_path / name / "slim-k1.safetensors" for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_training_goes_on_with_a_checkpoint(prepared, tmp_path, capsys):
    arguments = ("train", "--data", prepared / "data", "--steps", "1", "--batch", "8",
                 "--learning-rate", "1e-12", "--out")  # fmt: skip
    torch.manual_seed(7)
    begun = SlimNetwork(slim_preset("slim-k1"))
    file = tmp_path / "begun.safetensors"
    file.write_bytes(slim_checkpoint_bytes(begun))
    outcome = run(application, capsys, *arguments, tmp_path, "--preset", "slim-k1",
                  "--checkpoint", file)  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    record = json.loads((tmp_path / "slim-k1.training.json").read_text())
    assert record["checkpoint_sha256"] == digest(file.read_bytes())
    after = load_slim_checkpoint(tmp_path / "slim-k1.safetensors").state_dict()
    for name, weight in begun.state_dict().items():
        assert torch.equal(after[name], weight.half().float()), name
    outcome = run(application, capsys, *arguments, tmp_path, "--preset", "slim-k2",
                  "--checkpoint", file)  # fmt: skip
    assert outcome.returncode == 2
    assert "has not the shape of slim-k2; give its own --preset" in outcome.stderr


def test_other_constants_are_refused(prepared, tmp_path, capsys):
    file = tmp_path / "slim-k1.safetensors"
    notes = {"constants_sha256": "0" * 64}
    file.write_bytes(slim_checkpoint_bytes(SlimNetwork(slim_preset("slim-k1")), notes))
    outcome = run(application, capsys, "evaluate", "--data", prepared / "data", "--checkpoint",
                  file, "--out", tmp_path)  # fmt: skip
    assert outcome.returncode == 2
    assert "was trained with other feature constants" in outcome.stderr


def save_measured(folder, frames=30):
    """LuViRA's layout: three lines and a drive whose ground truth is a second longer."""
    for part in ("radio", "truth"):
        (folder / part).mkdir()
    room = Room(scatterers=0, order=0)
    for i, name in enumerate(("Grid101", "Grid102", "Grid103", "Random_L")):
        extra = 100 if name.startswith("Random") else 0
        y = np.linspace(-0.2, 0.2, frames + extra)
        places = np.stack([np.full(len(y), 0.1 * i), y], axis=1)
        channel = room.channel(places[:frames])
        savemat(folder / "radio" / f"{name}.mat", {"H_ueprocess": channel})
        rows = [f"{9.0 + 0.01 * t:.3f},{1000 * a},{1000 * b}" for t, (a, b) in enumerate(places)]
        text = "\n".join(["timestamps,X,Y", *rows])
        (folder / "truth" / f"{name}.csv").write_text(text, encoding="utf-8")


def test_measured_channels_become_a_data_set(tmp_path, capsys):
    save_measured(tmp_path)
    arguments = ("prepare", "--radio", tmp_path / "radio", "--truth", tmp_path / "truth", "--out",
                 tmp_path / "data")  # fmt: skip
    outcome = run(application, capsys, *arguments)
    assert outcome.returncode == 2
    assert "say which ends belong together, --align start|middle|end" in outcome.stderr
    outcome = run(application, capsys, *arguments, "--align", "start", "--every", "2")
    assert outcome.returncode == 0, outcome.stderr
    assert "measured channels" in outcome.stdout
    dataset = read_dataset(tmp_path / "data")
    assert dataset.manifest["rate_hz"] == 50.0
    assert dataset.taps("Grid102").shape == (15, 10, 100)
    assert np.allclose(dataset.trajectories["Grid102"].xy[3], [0.1, -0.2 + 0.4 * 6 / 29])


def drop_kind(arrays):
    del arrays["kind"]


def not_a_number(arrays):
    arrays["xy_Grid102"][3, 0] = np.nan


def flat(arrays):
    arrays["xy_Grid102"] = arrays["xy_Grid102"][:, 0]


def leave(arrays):
    arrays["xy_Grid102"][:, 0] = 40.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_kind, "kind is not a file in the archive"),
        (not_a_number, "Grid102: 1 of 24 positions are NaN"),
        (flat, "Grid102: positions have shape (24,)"),
        (leave, "Grid102 leaves the room"),
    ],
)
def test_bad_paths_end_in_one_line(change, words, tmp_path, capsys):
    paths = save_trajectories(tmp_path / "paths.npz", change)
    outcome = run(application, capsys, "prepare", "--trajectories", paths, "--out",
                  tmp_path / "data", "--workers", "1")  # fmt: skip
    assert outcome.returncode == 2
    assert words in outcome.stderr
    assert outcome.stderr.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prepare", "--out", "x"], "give --trajectories FILE, or --radio DIR and --truth DIR"),
        (["prepare", "--out", "x", "--trajectories", "absent.npz"], "no file absent.npz"),
        (["prepare", "--out", "x", "--radio", "r", "--truth", "t"], "no folder r"),
        (["prepare", "--out", "x", "--radio", "r", "--truth", "t", "--align", "both"],
         "--align both is unknown"),
        (["prepare", "--out", "x", "--trajectories", "PATHS", "--split", "thirds"],
         "unknown split 'thirds'"),
        (["prepare", "--out", "x", "--trajectories", "PATHS", "--every", "0"], "--every 0"),
        (["train", "--data", "absent", "--out", "x", "--steps", "1"],
         "absent is no prepared data set"),
        (["train", "--data", "DATA", "--out", "x"], "give steps or minutes"),
        (["train", "--data", "DATA", "--out", "x", "--steps", "1", "--preset", "slimmer"],
         "unknown preset 'slimmer'"),
        (["train", "--data", "DATA", "--out", "x", "--steps", "1", "--noise", "-1"],
         "noise is -1.0"),
        (["train", "--data", "DATA", "--out", "x", "--steps", "1", "--device", "tpu"],
         "--device tpu is unknown"),
        (["evaluate", "--data", "DATA", "--checkpoint", "absent.safetensors", "--out", "x"],
         "no checkpoint at absent.safetensors"),
        (["evaluate", "--data", "DATA", "--checkpoint", "a.pt", "--checkpoint", "a.pt", "--out",
          "x"], "share a name"),
    ],
)  # fmt: skip
def test_bad_arguments_end_in_one_line(arguments, words, prepared, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"DATA": prepared / "data", "PATHS": prepared / "paths.npz"}
    outcome = run(application, capsys, *(places.get(a, a) for a in arguments))
    assert outcome.returncode == 2
    assert words in outcome.stderr
    assert outcome.stderr.strip().count("\n") == 0
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["taps/Grid101.npy", "constants.safetensors", "places.npz"])
def test_a_damaged_data_set_ends_in_one_line(name, prepared, tmp_path, capsys):
    shutil.copytree(prepared / "data", tmp_path / "data")
    for path in (tmp_path / "data").rglob("*.npy" if name.startswith("taps") else name):
        path.write_bytes(b"nothing")
    outcome = run(application, capsys, "train", "--data", tmp_path / "data", "--out", tmp_path,
                  "--steps", "1")  # fmt: skip
    assert outcome.returncode == 2
    assert "python -m model.positioning prepare" in outcome.stderr


def test_the_page_is_written_from_the_report(tmp_path, capsys):
    errors = {"mean": 0.0123, "median": 0.01, "p80": 0.02, "p90": 0.03}
    report = {
        "origin": "real paths, synthetic channels", "rate_hz": 25.0, "split": "block",
        "parts": {
            "test-lines": {"windows": 5210, "trajectories": 5, "nearest_training_place": 0.022}
        },
        "networks": {
            "slim": {
                "window": 16, "parameters": 303298, "float": {"test-lines": errors},
                "programs": {"w8a8": {"test-lines": errors | {"loss_percent": 1.234}}},
            }
        },
    }  # fmt: skip
    (tmp_path / "report.json").write_text(json.dumps(report))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    arguments = ("page", "--update", page, "--report", tmp_path / "report.json")
    assert run(application, capsys, *arguments).returncode == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "5,210 windows of 5 trajectories, in the median 2.2 cm" in text
    assert "| slim | 16 | 303,298 | float | held-out lines | 1.23 | 1.00 | 2.00 | 3.00 |  |" in text
    assert "| w8a8 | held-out lines | 1.23 | 1.00 | 2.00 | 3.00 | +1.23 % |" in text
    assert run(application, capsys, *arguments).returncode == 0
    assert page.read_text() == text
    page.write_text("no markers")
    assert "lacks the line" in run(application, capsys, *arguments).stderr
