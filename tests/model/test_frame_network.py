"""The frame network from training to integers, on a small file in the data set's layout."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from golden.artifact import file_digest, load_program
from golden.builtin import FRAME_SCHEMES, builtin_path, load_builtin
from golden.errors import InputError
from golden.presets import PRESETS
from golden.scheme import SCHEMES
from model import evaluate, quantize, train
from model.float_simulation import FloatNetwork, FloatState
from model.frame_evaluate import integer_outputs
from model.frame_parameters import extract_frame_parameters
from model.frame_quantizer import quantize_frames
from model.frame_training import FrameTrainer, FrameTrainingOptions, augmented, predict
from model.frames import FrameNetwork, frame_checkpoint_bytes, load_frame_checkpoint
from model.quantizer import QuantizationChoice
from model.radar import read_radar, root_mean_square_error
from model.sources import CHECKPOINTS, find_network
from tests.model import radar_file
from tests.model.commands import run

MARS = PRESETS["mars"]
COMMITTED = CHECKPOINTS / "mars.safetensors"
OPTIONS = FrameTrainingOptions(steps=60, batch=64, warmup=5, averaging=0.9)


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    return radar_file.write(tmp_path_factory.mktemp("radar") / "radar.npz")


@pytest.fixture(scope="module")
def data(data_file):
    return read_radar(data_file)


@pytest.fixture(scope="module")
def trained(data) -> FrameTrainer:
    trainer = FrameTrainer(MARS, OPTIONS, data, "cpu")
    for _ in trainer.run():
        pass
    trainer.validate()
    return trainer


def test_training_learns_where_people_stand(trained, data):
    labels = data["validate"].labels
    mean = np.broadcast_to(data["train"].labels.mean(axis=0), labels.shape)
    assert trained.best_error < 0.8 * root_mean_square_error(mean, labels)


def test_the_same_seed_gives_the_same_weights(trained, data):
    again = FrameTrainer(MARS, OPTIONS, data, "cpu")
    for _ in again.run():
        pass
    assert frame_checkpoint_bytes(again.average) == frame_checkpoint_bytes(trained.average)
    other = FrameTrainer(MARS, dataclasses.replace(OPTIONS, seed=1), data, "cpu")
    assert frame_checkpoint_bytes(other.network) != frame_checkpoint_bytes(
        FrameTrainer(MARS, OPTIONS, data, "cpu").network
    )


def test_augmented_points_stay_sorted_and_move_with_their_joints(data):
    points = torch.from_numpy(data["train"].points)
    labels = torch.from_numpy(data["train"].labels)
    torch.manual_seed(0)
    options = FrameTrainingOptions(point_dropout=0.3, jitter=0.0, shift=0.5)
    moved, moved_labels = augmented(points, labels, options)
    before, after = points[..., 4] != 0, moved[..., 4] != 0
    share = after.sum() / before.sum()
    assert 0.6 < share < 0.8
    assert after.any(dim=1).all()
    for row in range(len(moved)):
        used = moved[row, after[row]]
        assert not moved[row, len(used) :].any()
        assert (used[:, 0].diff() >= 0).all()
        shift = (moved_labels[row] - labels[row]).reshape(3, 19)
        assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-5)
        original = used[0] - torch.nn.functional.pad(shift[:, 0], (0, 2))
        assert (points[row] - original).abs().sum(dim=1).min() < 1e-4


def test_a_frame_of_one_point_keeps_it():
    points = torch.zeros(64, 64, 5)
    points[:, 0] = 1.0
    moved, _ = augmented(points, torch.zeros(64, 57), FrameTrainingOptions(point_dropout=0.9))
    assert (moved[..., 4] != 0).sum(dim=1).tolist() == [1] * 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0, must be positive"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"jitter": -1.0}, "jitter is -1.0, must not be negative"),
        ({"point_dropout": 1.0}, r"point_dropout is 1.0, must lie in \[0, 1\)"),
    ],
)
def test_bad_options_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FrameTrainingOptions(**changes)


def test_a_shape_without_a_frame_is_refused():
    with pytest.raises(ValueError, match="the shape has no frame"):
        FrameNetwork(PRESETS["micro"])


def test_a_checkpoint_round_trips_and_damage_is_refused(trained, tmp_path):
    path = tmp_path / "mars.safetensors"
    path.write_bytes(frame_checkpoint_bytes(trained.best))
    restored = load_frame_checkpoint(path)
    assert frame_checkpoint_bytes(restored) == path.read_bytes()
    for content in (
        path.read_bytes()[:-9],
        b"text",
        (CHECKPOINTS / "bytelm.safetensors").read_bytes(),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no frame network's checkpoint"):
            load_frame_checkpoint(path)
    with pytest.raises(InputError, match=r"no checkpoint at .*; train one: python -m model\.train"):
        load_frame_checkpoint(tmp_path / "absent")
    with torch.no_grad():
        network = FrameNetwork(MARS)
        network.head.bias[3] = float("nan")
    path.write_bytes(frame_checkpoint_bytes(network))
    with pytest.raises(InputError, match=r"head\.bias holds NaN"):
        load_frame_checkpoint(path)


def test_the_parameters_in_numpy_are_the_same_function(data):
    network = load_frame_checkpoint(COMMITTED)
    for parameters in (
        extract_frame_parameters(network),
        extract_frame_parameters(network).rotated(3),
    ):
        features = data["test"].features(network.frame)
        residual = (features @ parameters.projection.T + parameters.position).astype(np.float32)
        state = FloatState.zeros(parameters.network, len(residual))
        blocks = FloatNetwork(parameters.network)
        for index in range(MARS.n_layer):
            residual = blocks.layer(index, residual, state)
        pooled = residual.mean(axis=1)
        scale = np.sqrt((pooled**2).mean(axis=-1, keepdims=True) + 1e-5)
        _, outputs = parameters.outputs(pooled / scale * parameters.network.final_norm_weight)
        assert np.abs(outputs - predict(network, data["test"]).numpy()).max() < 1e-4


@pytest.mark.parametrize("rotate", [True, False])
@pytest.mark.parametrize(("scheme", "centimetres"), [("w8a8", 0.5), ("w4a8", 1.5)])
def test_the_integer_program_follows_the_float_network(scheme, centimetres, rotate, trained, data):
    program = quantize_frames(
        extract_frame_parameters(trained.best),
        SCHEMES[scheme],
        data["train"].features(trained.best.frame),
        QuantizationChoice(rotate=rotate),
    )
    outputs = integer_outputs(program, data["test"])
    exact = predict(trained.best, data["test"]).numpy()
    assert root_mean_square_error(outputs, exact) < centimetres
    assert not np.array_equal(outputs, exact)


def test_the_commands_train_quantize_and_evaluate(data_file, tmp_path, capsys):
    words = ["--preset", "mars", "--data", data_file]
    out = tmp_path / "run"
    options = ["--steps", 4, "--batch", 32, "--out", out, "--seed", 3]
    assert run(train.application, capsys, *words, *options).returncode == 0
    report = json.loads((out / "training.json").read_text())
    assert report["options"]["seed"] == 3
    assert report["rows"] == radar_file.ROWS
    assert [entry["step"] for entry in report["curve"]] == [1, 2, 3, 4]
    checkpoint, artifact = out / "mars.safetensors", tmp_path / "mine.safetensors"
    own = ["--checkpoint", checkpoint, "--scheme", "w4a8", "--calibration-frames", 64]
    digests = set()
    for _ in range(2):
        made = run(quantize.application, capsys, *words, *own, "--out", artifact)
        assert made.returncode == 0, made.stderr
        digests.add(file_digest(artifact))
    assert len(digests) == 1
    assert load_program(artifact).provenance["calibration_frames"] == 64
    own = [*words, "--checkpoint", checkpoint, "--artifact", artifact]
    result = json.loads(run(evaluate.application, capsys, *own, "--json").stdout)
    assert result["float"]["rmse"] == pytest.approx(report["results"]["test_rmse"])
    assert set(result["float"]["rmse_by_subject"]) == {"2", "3", "4"}
    mine = result["schemes"]["mine"]
    assert mine["loss"] == pytest.approx(mine["rmse"] - result["float"]["rmse"])
    assert "errors in cm on 48 test frames" in run(evaluate.application, capsys, *own).stdout


@pytest.mark.parametrize(
    ("application", "words", "message"),
    [
        (train.application, ["--minutes", 3], "--minutes is for language models"),
        (train.application, ["--resume"], "--resume is for language models"),
        (train.application, ["--jitter", -1], "jitter is -1.0, must not be negative"),
        (quantize.application, ["--calibration-frames", 0], "= 0 is outside 1..160"),
        (quantize.application, ["--report", "x.json"], "--report measures language models"),
        (evaluate.application, ["--bytes", 3], "--modes and --bytes are for language models"),
    ],
)
def test_misplaced_options_are_one_line(application, words, message, data_file, tmp_path, capsys):
    given = ["--preset", "mars", "--data", data_file, *words]
    if application is quantize.application:
        given += ["--scheme", "w8a8", "--out", tmp_path / "x.safetensors"]
    outcome = run(application, capsys, *given)
    assert outcome.returncode == 2
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_frame_option_is_refused_for_a_language_model(tmp_path, capsys):
    text = tmp_path / "text"
    text.write_text("a\n\nb")
    words = ["--preset", "micro", "--steps", 1, "--shift", 0.1, "--data", text]
    outcome = run(train.application, capsys, *words)
    assert outcome.returncode == 2
    assert "is for the preset mars alone" in outcome.stderr


def test_language_model_commands_refuse_the_frame_preset():
    with pytest.raises(InputError, match="preset mars is a frame network"):
        find_network("mars", None, 0)


@pytest.mark.parametrize("scheme", FRAME_SCHEMES)
def test_the_committed_programs_belong_to_the_committed_checkpoint(scheme):
    program = load_builtin("mars", SCHEMES[scheme])
    assert program.shape == MARS
    assert program.scheme == SCHEMES[scheme]
    assert program.provenance["checkpoint_sha256"] == file_digest(COMMITTED)
    assert builtin_path("mars", scheme).stat().st_size < 200_000
