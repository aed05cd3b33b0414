"""Positioning networks to integers: float values, programs near them, training through them."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch

from golden.artifact import load_program, to_bytes
from golden.errors import InputError
from golden.fixed_point import to_real
from golden.frames import FrameExecutor, features_of
from golden.operations.normalization import NORM_EPSILON
from golden.presets import PRESETS
from golden.scheme import SCHEMES
from model.layer_quantization import WeightChoice
from model.positioning.__main__ import application as positioning
from model.positioning.dataset import read_dataset
from model.quantize import application
from model.quantized_slim import QuantizedSlim
from model.quantizer import QuantizationChoice
from model.slim import SlimNetwork
from model.slim_checkpoint import slim_checkpoint_bytes
from model.slim_configuration import SLIM_PRESETS, SlimConfiguration
from model.slim_parameters import SlimValues, extract_slim_parameters, slim_shape
from model.slim_quantizer import quantize_slim
from tests.model.commands import run
from tests.model.positioning.test_pipeline import save_trajectories

SMALL = {
    "features": 12, "window": 16, "projection": 6, "d_model": 8, "d_inner": 16, "n_layer": 2,
    "patch": 8, "stride": 4,
}  # fmt: skip
CASES = {
    "plain": SMALL,
    "convolution": SMALL | {"d_conv": 3, "patch": 4, "stride": 2, "position_scale": 0.5},
    "no gate, mean": SMALL | {"gate": False, "head": "mean"},
    "one frame": SMALL | {"window": 1, "patch": 1, "stride": 1},
}


def network_of(fields, seed=0):
    torch.manual_seed(seed)
    network = SlimNetwork(SlimConfiguration(**fields))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


def windows_of(network, count, seed):
    """Smooth paths: neighbouring frames resemble each other, as those of a drive do."""
    c, random = network.configuration, np.random.default_rng(seed)
    steps = random.normal(size=(count, c.window, c.features))
    return (steps[:, :1] + 0.3 * steps).astype(np.float32)


def noise_ratio(made, wanted):
    """Signal to noise in dB."""
    return 10 * np.log10(
        np.square(wanted - wanted.mean(axis=0)).sum() / np.square(made - wanted).sum()
    )


def outputs_of(program, features):
    integers = FrameExecutor(program).forward(features_of(program, features))
    return to_real(integers, program.logit_fraction)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rotate", [False, True])
def test_values_are_those_of_the_torch_network(name, rotate):
    network = network_of(CASES[name])
    own = extract_slim_parameters(network)
    own = own.rotated(3) if rotate else own
    features, shown = windows_of(network, 5, 1).astype(float), {}
    with torch.no_grad():
        wanted = network.double()(torch.from_numpy(features), tap=shown.__setitem__)
    values = SlimValues.of(own, features)
    np.testing.assert_allclose(values.outputs, wanted, atol=1e-9)
    np.testing.assert_allclose(values.rows, shown["projected"], atol=1e-9)
    for index, block in enumerate(values.blocks):
        for ours, theirs in (("u", "u"), ("dt_raw", "dt_raw"), ("state", "y"), ("gated", "gated")):
            np.testing.assert_allclose(block[ours], shown[f"blocks.{index}.{theirs}"], atol=1e-9)
    assert network.configuration.rms_norm_eps == NORM_EPSILON


@pytest.mark.parametrize(
    ("name", "scheme", "least"),
    [
        ("plain", "w8a8", 33),
        ("convolution", "w8a8", 35),
        ("no gate, mean", "w8a8", 33),
        ("one frame", "w8a8-h", 33),
        ("plain", "w4a8", 23),
        ("plain", "w4a5-se", 22),
        ("plain", "w4a4-h", 18),
        ("plain", "w4a16", 24),
    ],
)
def test_programs_are_near_the_float_network(name, scheme, least):
    """Ideal 8-bit values have 40 dB or more; a wrong exponent or column costs far more than 10."""
    network = network_of(CASES[name])
    own = extract_slim_parameters(network)
    choice = QuantizationChoice()
    program = quantize_slim(own, SCHEMES[scheme], windows_of(network, 400, 2), choice)
    features = windows_of(network, 200, 3)
    wanted = SlimValues.of(own, features).outputs
    assert noise_ratio(outputs_of(program, features), wanted) > least


def test_each_option_changes_the_program_and_equal_ones_do_not():
    network = network_of(SMALL)
    own, features = extract_slim_parameters(network), windows_of(network, 60, 2)
    choices = [QuantizationChoice(), QuantizationChoice(rotate=False), QuantizationChoice(seed=1)]
    made = [to_bytes(quantize_slim(own, SCHEMES["w8a8"], features, c)) for c in choices]
    assert made[0] == to_bytes(quantize_slim(own, SCHEMES["w8a8"], features, choices[0]))
    assert all(one != other for one, other in itertools.combinations(made, 2))


@pytest.mark.parametrize("name", ["slim", "slim-k1", "slim-k2"])
def test_presets_have_one_shape_on_both_sides(name):
    assert slim_shape(SLIM_PRESETS[name]) == PRESETS[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "max"}, "head 'max' has no integer program"),
        ({"mixer": "mamba", "d_conv": 4}, "with mamba blocks .* has no integer program"),
        ({"window": 19}, "fill 16 of the window's 19 frames"),
    ],
)
def test_networks_without_an_integer_program_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        slim_shape(SlimConfiguration(**SMALL | change))


@pytest.mark.parametrize("scheme", ["w8a8", "w4a8-h"])
def test_training_graph_computes_the_program_and_gives_it_back(scheme):
    network = network_of(SMALL)
    own, features = extract_slim_parameters(network), windows_of(network, 200, 2)
    program = quantize_slim(own, SCHEMES[scheme], features, QuantizationChoice())
    graph = QuantizedSlim(program)
    made = graph(torch.from_numpy(features)).detach().numpy()
    exact = outputs_of(program, features)
    # Single roundings may differ by a step, as the module says; a wrong format would by far more.
    assert noise_ratio(made, exact) > noise_ratio(exact, SlimValues.of(own, features).outputs) + 6
    assert to_bytes(graph.to_program({})) == to_bytes(program)


def test_training_lowers_the_integer_networks_error():
    network = network_of(SMALL)
    own, features = extract_slim_parameters(network), windows_of(network, 256, 2)
    # From weights rounded to nearest: what compensation leaves, a few steps need not improve.
    plain = QuantizationChoice(weights=WeightChoice(compensate=False, refit_strength=None))
    program = quantize_slim(own, SCHEMES["w4a8-h"], features, plain)
    wanted = SlimValues.of(own, features).outputs
    graph, target = QuantizedSlim(program), torch.from_numpy(wanted).float()
    optimizer = torch.optim.Adam(graph.parameters(), lr=1e-3)
    for _ in range(60):
        loss = (graph(torch.from_numpy(features)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    trained = graph.to_program({"training": {"steps": 60}})
    assert trained.provenance["training"] == {"steps": 60}
    before, after = (noise_ratio(outputs_of(p, features), wanted) for p in (program, trained))
    assert after > before + 1


def test_what_cannot_be_trained_is_refused():
    network = network_of(SMALL)
    features = windows_of(network, 60, 2)
    program = quantize_slim(
        extract_slim_parameters(network), SCHEMES["w4a5-se"], features, QuantizationChoice()
    )
    with pytest.raises(InputError, match="scheme w4a5-se of this network cannot be trained"):
        QuantizedSlim(program)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --data FOLDER of python -m model.positioning prepare"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_command_refuses_what_it_cannot_use(tmp_path, capsys, arguments, message):
    checkpoint = tmp_path / "slim.safetensors"
    network = SlimNetwork(dataclasses.replace(SLIM_PRESETS["slim-k1"], n_layer=1))
    checkpoint.write_bytes(slim_checkpoint_bytes(network))
    out = tmp_path / "program.safetensors"
    done = run(
        application, capsys, "--preset", "slim-k1", "--scheme", "w8a8", "--checkpoint", checkpoint,
        "--out", out, *arguments,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_commands_quantize_train_and_measure(tmp_path, capsys):
    """From a prepared folder to a trained program that the report has beside its network."""
    paths = save_trajectories(tmp_path / "paths.npz")
    data, checkpoint = tmp_path / "data", tmp_path / "small.safetensors"
    prepared = run(
        positioning, capsys, "prepare", "--trajectories", paths, "--out", data, "--workers", 1
    )
    assert prepared.returncode == 0, prepared.stderr
    small = {"d_model": 8, "d_inner": 8, "projection": 4}
    network = network_of(dataclasses.asdict(SLIM_PRESETS["slim-k2"]) | small)
    constants = read_dataset(data).manifest["constants_sha256"]
    checkpoint.write_bytes(slim_checkpoint_bytes(network, {"constants_sha256": constants}))
    first, trained = tmp_path / "first.safetensors", tmp_path / "trained.safetensors"
    quantized = run(
        application, capsys, "--preset", "slim-k2", "--scheme", "w8a8", "--checkpoint", checkpoint,
        "--data", data, "--calibration-windows", 20, "--out", first,
    )  # fmt: skip
    assert quantized.returncode == 0, quantized.stderr
    done = run(
        positioning, capsys, "qat", "--data", data, "--artifact", first, "--out", trained,
        "--steps", 6, "--evaluate-every", 3, "--batch", 8,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(trained.with_suffix(".training.json").read_text())
    assert record["validation_error"] <= record["validation_error_before"]
    assert load_program(trained).provenance["calibration_windows"] == 20
    measured = run(
        positioning, capsys, "evaluate", "--data", data, "--checkpoint", checkpoint,
        "--artifact", trained, "--out", tmp_path / "report",
    )  # fmt: skip
    assert measured.returncode == 0, measured.stderr
