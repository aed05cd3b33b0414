"""The quantizer: artifacts, determinism, closeness to float, and what bad input gets."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from golden.artifact import from_bytes, load_program, to_bytes
from golden.builtin import TRAINED_SCHEMES
from golden.configuration import HeadShape, NetworkShape
from golden.errors import InputError
from golden.executor import Executor
from golden.fixed_point import offset_range
from golden.scheme import SCHEMES, Scheme
from golden.validation import validate
from model.checkpoint import checkpoint_bytes
from model.float_simulation import FloatNetwork
from model.formats import FormatChoice
from model.layer_widths import LayerWidths
from model.network_parameters import extract_parameters, random_network
from model.observers import fraction_by_error
from model.quantization_report import stage_losses, stage_names
from model.quantizer import QuantizationChoice, quantize_network, smooth_norm
from model.range_observers import OBSERVERS, PercentileObserver
from model.rotation import random_rotation, rotate_residual
from model.text_windows import choose_windows, float_bits, inputs_of, integer_bits

SHAPE = NetworkShape(
    vocabulary=48, d_model=12, d_inner=20, d_state=4, d_conv=3, dt_rank=2, n_layer=2
)


@pytest.fixture(scope="module")
def network():
    return random_network(SHAPE, seed=3)


@pytest.fixture(scope="module")
def parameters(network):
    return extract_parameters(network)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(7).integers(0, SHAPE.vocabulary, (4, 96))


def distance(parameters, tokens, scheme, choice=None):
    """Return the root mean square difference of the logits, and the program."""
    draft = quantize_network(parameters, scheme, tokens, choice or QuantizationChoice())
    program = draft.build()
    inputs = inputs_of(tokens)
    exact = FloatNetwork(parameters).forward(inputs, None)
    logits, _ = Executor(program).forward(inputs)
    found = np.ldexp(logits.astype(float), -program.logit_fraction)
    assert not np.array_equal(found, exact)
    return float(np.sqrt(np.square(found - exact).mean())), program


_DISTANCES = {
    "w8a8": 0.04, "w4a8": 0.16, "w4a16": 0.16, "w4a5-se": 0.18,
    "w8a8-h": 0.04, "w4a8-h": 0.16, "w4a6-se-h": 0.16, "w4a5-se-h": 0.18, "w4a4-h": 0.25,
}  # fmt: skip
"""Errors in deviations of the logits, about twice the largest of the networks here."""


@pytest.mark.parametrize("name", TRAINED_SCHEMES)
def test_integer_logits_follow_the_float_ones(parameters, tokens, name):
    error, program = distance(parameters, tokens, SCHEMES[name])
    deviation = FloatNetwork(parameters).forward(inputs_of(tokens), None).std()
    assert error < _DISTANCES[name] * deviation
    assert program.scheme.name == name


@pytest.fixture(scope="module", params=[1, 2, 4])
def heads(request):
    shape = dataclasses.replace(
        SHAPE, d_inner=24, dt_rank=0, heads=HeadShape(size=6, groups=request.param)
    )
    return random_network(shape, seed=3)


@pytest.mark.parametrize("name", ["w8a8", "w4a5-se", "w4a8-h", "w4a4-h"])
def test_integer_logits_of_mamba2_follow_the_float_ones(heads, tokens, name):
    parameters = extract_parameters(heads)
    error, program = distance(parameters, tokens, SCHEMES[name])
    exact = FloatNetwork(parameters).forward(inputs_of(tokens), None)
    assert error < _DISTANCES[name] * exact.std()
    assert to_bytes(from_bytes(to_bytes(program), Path("own"))) == to_bytes(program)


@torch.no_grad()
def test_the_float_simulation_of_mamba2_is_the_network(heads, tokens):
    inputs = inputs_of(tokens)
    exact = heads(torch.from_numpy(inputs)).numpy()
    found = FloatNetwork(extract_parameters(heads)).forward(inputs, None)
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("limit", [(0.0, 0.05), (0.5, math.inf), (0.02, 0.2)])
def test_the_limits_of_the_step_size_become_integers(tokens, limit):
    shape = dataclasses.replace(SHAPE, d_inner=24, dt_rank=0, heads=HeadShape(size=6))
    parameters = extract_parameters(random_network(shape, seed=3))
    layers = tuple(dataclasses.replace(own, dt_limit=limit) for own in parameters.layers)
    parameters = dataclasses.replace(parameters, layers=layers)
    error, program = distance(parameters, tokens, SCHEMES["w8a8"])
    exact = FloatNetwork(parameters).forward(inputs_of(tokens), None)
    assert error < _DISTANCES["w8a8"] * exact.std()
    for layer in program.layers:
        own, scale = layer.head_selection, 2.0**layer.formats.delta
        assert own.delta_low == round(limit[0] * scale)
        assert own.delta_high == min(round(min(limit[1], 1e6) * scale), (1 << 12) - 1)


def test_wider_numbers_come_nearer(parameters, tokens):
    narrow = dataclasses.replace(SCHEMES["w8a8"], weight_bits=3)
    errors = [
        distance(parameters, tokens, s)[0] for s in (narrow, SCHEMES["w4a8"], SCHEMES["w8a8"])
    ]
    assert errors == sorted(errors, reverse=True)


def test_same_seed_gives_the_same_bytes_and_survives_the_file(parameters, tokens, tmp_path):
    first, second = (
        quantize_network(parameters, SCHEMES["w4a5-se"], tokens, QuantizationChoice()).build()
        for _ in range(2)
    )
    data = to_bytes(first)
    assert data == to_bytes(second)
    assert to_bytes(from_bytes(data, tmp_path)) == data


def test_smoothing_the_norm_keeps_the_function(parameters):
    layer = parameters.layers[0]
    rows = np.random.default_rng(1).normal(0.0, np.geomspace(0.1, 8.0, SHAPE.d_model), (64, 12))
    smoothed, samples = smooth_norm(layer, rows, 8)
    assert np.array_equal(samples @ smoothed.in_proj.T, rows @ layer.in_proj.T)
    assert np.ptp(np.log2(np.abs(samples).max(axis=0))) < np.ptp(np.log2(np.abs(rows).max(axis=0)))


def test_rotating_the_residual_keeps_the_function_and_levels_its_channels(parameters, tokens):
    rows = np.random.default_rng(2).normal(size=parameters.embedding.shape)
    rows[:, 5] *= 40.0  # an outlier channel, which the norm would hand to in_proj
    planted = dataclasses.replace(parameters, embedding=rows)
    rotated = rotate_residual(planted, random_rotation(SHAPE.d_model, seed=1))
    inputs = inputs_of(tokens)
    exact = FloatNetwork(planted).forward(inputs)
    assert np.abs(FloatNetwork(rotated).forward(inputs) - exact).max() < 1e-4 * np.abs(exact).max()
    spread = [np.std(p.embedding, axis=0).max() / np.std(p.embedding) for p in (planted, rotated)]
    assert spread[1] < 0.8 * spread[0]


def test_rotation_beats_none_with_a_planted_outlier_channel(parameters, tokens):
    outlier = parameters.embedding * np.where(np.arange(SHAPE.d_model) == 5, 40.0, 1.0)
    layers = tuple(
        dataclasses.replace(
            own, in_proj=own.in_proj * np.where(np.arange(SHAPE.d_model) == 5, 0.1, 1.0)
        )
        for own in parameters.layers
    )
    planted = dataclasses.replace(parameters, embedding=outlier, layers=layers)
    errors = [
        distance(planted, tokens, SCHEMES["w4a8"], QuantizationChoice(rotate=rotate))[0]
        for rotate in (False, True)
    ]
    assert errors[1] < errors[0]


def test_every_observer_gives_a_valid_program(parameters, tokens):
    for observer in OBSERVERS:
        choice = QuantizationChoice(formats=FormatChoice(observer=observer))
        _, program = distance(parameters, tokens, SCHEMES["w8a8"], choice)
        assert validate(program) is program
    rule = QuantizationChoice(formats=FormatChoice(dual_scale_rule="quantile"))
    _, by_quantile = distance(parameters, tokens, SCHEMES["w4a5-se"], rule)
    _, by_error = distance(parameters, tokens, SCHEMES["w4a5-se"])
    assert to_bytes(by_quantile) != to_bytes(by_error)


def test_percentile_observer_follows_its_formula():
    observer = PercentileObserver(alpha=0.5, sigma=0.25)
    observer.observe(np.array([-4.0, 1.0, 2.0]))
    assert observer.magnitude == 2.0
    observer.observe(np.array([8.0, 6.0, -10.0]))
    assert observer.magnitude == 2.0 + 0.25 * (8.0 - 2.0)


def test_exponent_of_least_error_clips_a_lone_outlier():
    values = np.concatenate([np.linspace(-1, 1, 4000), [40.0]])[:, None]
    # Range 40 needs one fraction bit; clipping the outlier would cost more than it gains.
    assert fraction_by_error(values, 8) == 1
    values[-1] = 1.3
    assert fraction_by_error(values, 8) == 6


def test_stage_report_names_every_stage(parameters, tokens):
    draft = quantize_network(parameters, SCHEMES["w4a5-se"], tokens, QuantizationChoice())
    losses = stage_losses(draft, parameters, [tokens])
    assert [loss.stage for loss in losses] == ["float", *stage_names(blocks=SHAPE.n_layer)]
    assert losses[0].bits_per_byte == float_bits(FloatNetwork(parameters), [tokens])
    assert losses[-1].bits_per_byte == integer_bits(draft.build(), [tokens])


def test_stage_report_of_mamba2_names_its_stages(heads, tokens):
    parameters = extract_parameters(heads)
    draft = quantize_network(parameters, SCHEMES["w8a8-h"], tokens, QuantizationChoice())
    losses = stage_losses(draft, parameters, [tokens])
    assert [loss.stage for loss in losses] == [
        "float",
        *stage_names(blocks=heads.configuration.n_layer, heads=True),
    ]
    assert max(abs(loss.loss_percent) for loss in losses) < 2


def test_too_little_text_is_refused():
    with pytest.raises(InputError, match="has 100 tokens, 4 windows of 32 need 128"):
        choose_windows(np.zeros(100, np.uint8), 4, 32, 0)


def run(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_quantize_and_measure_a_checkpoint_of_any_shape(network, tmp_path):
    checkpoint, artifact = tmp_path / "net.safetensors", tmp_path / "net-w4a8.safetensors"
    checkpoint.write_bytes(checkpoint_bytes(network))
    done = run(
        "model.quantize", "--preset", "own", "--scheme", "w4a8", "--checkpoint", checkpoint,
        "--calibration-bytes", 2048, "--out", artifact,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    program = load_program(artifact)
    assert program.shape == SHAPE
    assert program.provenance["data"] == "random tokens"
    done = run(
        "model.evaluate", "--preset", "own", "--checkpoint", checkpoint, "--artifact", artifact,
        "--bytes", 4096, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schemes"].keys() == {"net-w4a8"}
    assert abs(report["loss_percent"]["net-w4a8"]) < 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "nosuch", "--scheme", "w8a8"), "unknown preset 'nosuch'"),
        (("--preset", "micro", "--scheme", "w9a9"), "unknown scheme 'w9a9'"),
        (("--preset", "micro", "--scheme", "w8a8", "--observer", "best"), "unknown observer"),
        (("--scheme", "w4a5-se", "--ratio", "3"), "ratio = 3 is none of 1, 2, 4, 8, 16"),
        (("--scheme", "w8a8", "--ratio", "4"), "scheme w8a8 has none"),
        (("--preset", "micro", "--scheme", "w8a8", "--calibration-bytes", "9"), "= 9 is below"),
        (("--preset", "mamba-130m", "--scheme", "w8a8"), "no trained network"),
        (("--preset", "mars", "--scheme", "w8a8", "--asymmetric"), "--asymmetric is for language"),
        (
            ("--preset", "mars", "--scheme", "w8a8", "--weight-groups", "8"),
            "--weight-groups is for",
        ),
        (("--scheme", "w8a8", "--weight-groups", "100"), "weight_group = 100 of scheme w8a8 is no"),
        (
            ("--scheme", "ternary", "--weight-groups", "128"),
            "is ternary, a row of such weights has",
        ),
        (("--scheme", "w8a8", "--embedding-bits", "20"), "embedding_bits = 20 of scheme w8a8 is"),
        (("--checkpoint", "missing.bin", "--scheme", "w8a8"), "missing.bin"),
        (
            ("--preset", "micro", "--scheme", "w8a8", "--layers", "none.json"),
            "no file none.json; map layer",
        ),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, message, tmp_path):
    out = tmp_path / "out.safetensors"
    done = run("model.quantize", *arguments, "--out", out)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--table", "--bytes", "4096"), "--table measures all built-in programs on"),
        (("--only", "bytelm-float-0"), "--second-checkpoint and --only are for --table"),
        (("--table", "--only", "bytelm-float"), "nearest are bytelm-float-"),
        (("--preset", "micro", "--window", "0"), "window = 0 is no length"),
    ],
)
def test_evaluating_what_cannot_be_is_one_line(arguments, message):
    done = run("model.evaluate", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


def test_a_layer_file_narrows_only_its_layers(parameters, tokens):
    scheme = SCHEMES["w8a8"]
    own, widest = LayerWidths(weights=3, activations=5), LayerWidths(weights=8, activations=8)
    choice = QuantizationChoice(widths=(own, widest))
    program = quantize_network(parameters, scheme, tokens, choice).build()
    highest = [
        max(int(np.abs(getattr(layer, name).weight).max()) for name in ("in_proj", "out_proj"))
        for layer in program.layers
    ]
    assert highest[0] <= 4
    assert highest[1] > 64
    seen = {}
    Executor(program).forward(
        inputs_of(tokens), None, lambda *key: seen.update({key[:2]: np.abs(key[2]).max()})
    )
    for tensor in ("norm", "u", "gated"):
        assert seen[tensor, 0] <= 16
        assert seen[tensor, 1] > 64
    assert seen["scan_u", 0] > 64
    assert to_bytes(from_bytes(to_bytes(program), Path("own"))) == to_bytes(program)


@pytest.mark.parametrize("mlp", [None, 18])
def test_groups_of_weights_come_nearer_than_rows(tokens, mlp):
    network = random_network(dataclasses.replace(SHAPE, mlp=mlp), seed=3)
    with torch.no_grad():
        # Columns of very different size, which one scale a row cannot hold.
        for layer in network.backbone.layers:
            layer.mixer.out_proj.weight[:, 8:] *= 0.1
    parameters, narrow = extract_parameters(network), Scheme(name="narrow", weight_bits=3)
    grouped = dataclasses.replace(narrow, weight_group=4)
    error, program = distance(parameters, tokens, grouped)
    assert error < distance(parameters, tokens, narrow)[0]
    shift = program.layers[0].out_proj.group_shift
    assert shift.shape == (12, 5)
    assert shift[:, 0].mean() > shift[:, 2:].mean() + 1
    assert program.layers[0].dt_proj.group_shift is None
    assert to_bytes(from_bytes(to_bytes(program), Path("own"))) == to_bytes(program)


def test_zero_points_make_skewed_values_finer():
    raw = np.random.default_rng(4).normal(0.5, 2.0, (2000, 3)) * [0.5, 1.0, 2.0]
    values = raw / (1.0 + np.exp(-raw))  # SiLU
    choice = FormatChoice()
    common, surplus, zero = choice.codes(values, 4, (0, 1))
    fractions = common + surplus
    low, high = offset_range(4, zero)
    made = np.clip(np.rint(np.ldexp(values, fractions)), low, high) * 0.5**fractions
    plain = choice.fraction(values, 4, (0, 1), per_channel=True)
    usual = np.clip(np.rint(np.ldexp(values, plain)), -8, 7) * 0.5**plain
    left, before = (np.square(own - values).sum(axis=0) for own in (made, usual))
    assert np.all(left < 0.6 * before)
    assert np.all((zero > 0) | (fractions < 1))


def test_zero_points_are_just_above_the_least_value(parameters, tokens):
    scheme = dataclasses.replace(SCHEMES["w4a4-h"], asymmetric=True)
    _, program = distance(parameters, tokens, scheme)
    seen = {}
    Executor(program).forward(inputs_of(tokens), None, lambda *key: seen.update({key[:2]: key[2]}))
    for index, layer in enumerate(program.layers):
        zero = layer.formats.u_zero
        assert np.all(seen["u", index] >= -zero)
        assert np.all(seen["u", index] <= 15 - zero)
        assert seen["u", index].max() > 7
        # SiLU's least value is -0.2785; no zero point is above it by more than the rounding.
        assert np.all(zero <= 0.279 * 2.0 ** (layer.formats.u + layer.formats.u_channel) + 0.5)
    assert to_bytes(from_bytes(to_bytes(program), Path("own"))) == to_bytes(program)


def test_zero_points_are_for_mamba1(heads, tokens):
    scheme = dataclasses.replace(SCHEMES["w8a8"], asymmetric=True)
    with pytest.raises(InputError, match="is asymmetric, which is for Mamba-1 language models"):
        distance(extract_parameters(heads), tokens, scheme)


def test_embedding_and_head_keep_the_precision_that_is_asked_for(parameters, tokens):
    usual = quantize_network(parameters, SCHEMES["w4a8"], tokens, QuantizationChoice()).build()
    scheme = dataclasses.replace(SCHEMES["w4a8"], embedding_bits=16, head_bits=12)
    program = quantize_network(parameters, scheme, tokens, QuantizationChoice()).build()
    assert 1 << 10 <= np.abs(program.head.weight).max() < 1 << 11
    assert np.all(usual.front.shift >= program.front.shift)
    assert np.abs(program.front.table).max() >= 1 << 7
    assert to_bytes(from_bytes(to_bytes(program), Path("own"))) == to_bytes(program)
    assert "head_bits" not in to_bytes(usual).decode("latin1")


def test_nan_weights_are_refused(tmp_path):
    broken = random_network(SHAPE, seed=3)
    with torch.no_grad():
        broken.backbone.layers[0].mixer.in_proj.weight[0, 0] = float("nan")
    path = tmp_path / "nan.safetensors"
    path.write_bytes(checkpoint_bytes(broken))
    done = run("model.quantize", "--scheme", "w8a8", "--checkpoint", path, "--out", tmp_path / "x")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "in_proj" in done.stderr


def test_unknown_width_is_refused():
    with pytest.raises(InputError, match=r"state_bits = 40 of scheme x is outside 6\.\.18"):
        Scheme(name="x", state_bits=40)
