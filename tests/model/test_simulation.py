"""The float simulation against the golden model, the storages, the modes and their intervals."""

import dataclasses
import json

import numpy as np
import pytest

from golden.artifact import save_program
from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.executor import Executor
from golden.operations import dual_scale
from golden.random_program import random_program
from golden.scheme import SCHEMES, DualScale
from model import evaluate as evaluation
from model.checkpoint import checkpoint_bytes
from model.document_statistics import PairedBootstrap, document_numbers
from model.network_parameters import extract_parameters, random_network
from model.quantizer import QuantizationChoice, quantize_network
from model.scan_input import (
    DualScaleInput,
    ThreeSegmentInput,
    UniformInput,
    float_input,
    three_segment_levels,
)
from model.simulated_program import SimulatedProgram, SimulatedState
from model.simulation_modes import choose_modes, compare_modes
from model.text_windows import cut_windows, integer_bits, integer_start, token_bits
from tests.model.commands import run

SHAPE = NetworkShape(
    vocabulary=40, d_model=20, d_inner=24, d_state=5, d_conv=3, dt_rank=2, n_layer=2
)
SCHEME_NAMES = sorted(SCHEMES)


def both(program, tokens):
    """Return logits and states, integers of the golden model and of the simulation."""
    wanted, state = Executor(program).forward(tokens)
    simulated = SimulatedState.zeros(program, len(tokens))
    logits = SimulatedProgram(program).forward(tokens, simulated)
    exponents = np.stack([layer.formats.state for layer in program.layers])[:, None, :, None]
    return (wanted, state.scan), (
        np.ldexp(logits, program.logit_fraction),
        np.ldexp(simulated.scan, exponents),
    )


@pytest.mark.parametrize("name", SCHEME_NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_simulation_equals_the_golden_model_in_every_bit(name, seed):
    program = random_program(SHAPE, SCHEMES[name], seed=seed)
    tokens = np.random.default_rng(seed).integers(0, SHAPE.vocabulary, (3, 200))
    for wanted, found in zip(*both(program, tokens), strict=True):
        assert np.array_equal(wanted, found)


def test_simulation_follows_every_width():
    narrow = dataclasses.replace(
        SCHEMES["w8a8"], name="narrow", delta_bits=7, decay_bits=6, state_bits=8,
        scan_output_bits=7, gate_bits=8, activation_bits=6, weight_bits=3,
    )  # fmt: skip
    program = random_program(SHAPE, narrow, seed=5)
    tokens = np.random.default_rng(5).integers(0, SHAPE.vocabulary, (2, 150))
    for wanted, found in zip(*both(program, tokens), strict=True):
        assert np.array_equal(wanted, found)


def test_simulation_continues_from_its_state():
    program = random_program(SHAPE, SCHEMES["w8a8"], seed=2)
    tokens = np.random.default_rng(2).integers(0, SHAPE.vocabulary, (2, 90))
    step = SimulatedProgram(program).start(2)
    parts = [step(tokens[:, part]) for part in (slice(0, 1), slice(1, 40), slice(40, 90))]
    whole = SimulatedProgram(program).start(2)(tokens)
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_dual_scale_of_a_power_of_two_is_the_hardware_s():
    values = np.random.default_rng(0).normal(0, 4, (1, 500, 1))
    dual = DualScale(code_bits=4, ratio_log2=2)
    fine = np.ldexp(1.0, -3)
    code, flag = dual_scale.encode(np.rint(np.ldexp(values, 20)).astype(np.int64), 17, dual)
    wanted = dual_scale.decode(code, flag, dual) * fine
    exact = np.rint(np.ldexp(values, 20)) * 2.0**-20
    assert np.array_equal(DualScaleInput(np.array([[fine]]), 4.0)(0, exact), wanted)


@pytest.mark.parametrize("ratio", [1.0, 3.0, np.pi, 2025.0])
def test_dual_scale_of_any_ratio_follows_its_definition(ratio):
    values = np.random.default_rng(1).normal(0, 3, (2, 300, 2))
    steps = np.array([[0.25, 0.7]])
    stored = DualScaleInput(steps, ratio, 7)
    for x, s, y in zip(values.ravel(), np.tile(steps, (600, 1)).ravel(), stored(0, values).ravel(),
                       strict=True):  # fmt: skip
        flag = abs(round(x / s)) > 7
        scale = s * ratio if flag else s
        assert y == max(-7, min(7, round(x / scale))) * scale


def test_margin_flags_earlier():
    values = np.linspace(-10, 10, 401).reshape(1, -1, 1)
    wide = DualScaleInput(np.ones((1, 1)), 4.0)
    early = DualScaleInput(np.ones((1, 1)), 4.0, margin=0.5)
    assert np.array_equal(wide.flag(0, values), np.abs(np.rint(values)) > 7)
    assert np.array_equal(early.flag(0, values), np.abs(np.rint(values)) > 3.5)


def test_three_segments_round_to_the_nearest_published_level():
    levels = three_segment_levels()
    assert (len(levels), levels[63], levels[64], levels[191], levels[-1]) == (
        256,
        15.75,
        16,
        143,
        395,
    )
    values = np.concatenate(
        [np.linspace(0, 420, 9001), np.random.default_rng(0).uniform(0, 30, 999)]
    )
    stored = ThreeSegmentInput(np.full((1, 1), 0.5))(0, 0.5 * values[:, None])[:, 0] / 0.5
    nearest = np.abs(values[:, None] - levels).min(axis=1)
    assert np.isin(stored, levels).all()
    assert np.allclose(np.abs(stored - values), nearest, rtol=0, atol=1e-9)
    negative = ThreeSegmentInput(np.full((1, 1), 0.5))(0, -0.5 * values[:, None])[:, 0]
    assert np.array_equal(negative, -0.5 * stored)


def test_storages_without_loss_leave_the_program_alone():
    program = random_program(SHAPE, SCHEMES["w8a8"], seed=3)
    tokens = np.random.default_rng(3).integers(0, SHAPE.vocabulary, (1, 60))
    own = np.ldexp(1.0, -np.stack([layer.formats.scan_u for layer in program.layers]))
    plain = SimulatedProgram(program).start(1)(tokens)
    same = SimulatedProgram(program, scan_input=UniformInput(own, 8)).start(1)(tokens)
    exact = SimulatedProgram(program, scan_input=float_input).start(1)(tokens)
    assert np.array_equal(plain, same)
    assert not np.array_equal(plain, exact)


@pytest.mark.parametrize("broken", [0.0, np.inf, np.nan, -1.0])
def test_scales_that_are_no_scales_are_refused(broken):
    with pytest.raises(InputError, match="scales are positive and finite"):
        UniformInput(np.array([[1.0, broken]]), 8)


def test_every_token_has_its_cost():
    program = random_program(SHAPE, SCHEMES["w8a8"], seed=0)
    pieces = cut_windows(np.random.default_rng(0).integers(0, 40, 500), 64)
    costs = token_bits(integer_start(program), pieces)
    assert costs.shape == (500,)
    assert integer_bits(program, pieces) == costs.mean()
    alone = token_bits(integer_start(program), [pieces[0][1:2]])
    assert np.array_equal(costs[64:128], alone)


def test_documents_end_with_their_separator():
    stream = np.frombuffer(b"ab\x00c\x00\x00de", np.uint8)
    assert document_numbers(stream).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]


def test_bootstrap_covers_the_truth_and_is_exact_for_equal_costs():
    random = np.random.default_rng(0)
    numbers = np.repeat(np.arange(200), 50)
    reference = random.gamma(2.0, 1.0, 10_000)
    own = reference * 1.02 + random.normal(0, 0.05, 10_000)
    bootstrap = PairedBootstrap(numbers, seed=1)
    found = bootstrap.compare(own, reference)
    assert found.low < 2.0 < found.high
    assert found.high - found.low < 0.5
    assert found.significant
    assert found == PairedBootstrap(numbers, seed=1).compare(own, reference)
    equal = bootstrap.compare(reference, reference)
    assert (equal.percent, equal.low, equal.high) == (0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="at least 2"):
        PairedBootstrap(np.zeros(9), seed=0)


def test_a_simulation_that_differs_is_an_error():
    costs = {"float": np.ones(4), "int8": np.ones(4), "float-sim-int8": np.array([1, 1, 1.5, 1])}
    with pytest.raises(AssertionError, match="differs from int8 in 1 of 4 tokens"):
        compare_modes(costs, np.arange(4), seed=0)


def test_modes_are_chosen_by_name():
    assert choose_modes("three-segment") == ("int8", "three-segment")
    assert len(choose_modes("all")) == 5
    with pytest.raises(InputError, match="unknown mode 'int9'"):
        choose_modes("int8,int9")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modes")
    network = random_network(SHAPE, seed=3)
    (folder / "net.safetensors").write_bytes(checkpoint_bytes(network))
    tokens = np.random.default_rng(7).integers(0, SHAPE.vocabulary, (4, 96))
    for name in ("w8a8", "w4a5-se"):
        draft = quantize_network(
            extract_parameters(network), SCHEMES[name], tokens, QuantizationChoice()
        )
        save_program(draft.build(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def evaluate(files, capsys):
    def measure(*arguments, scheme="w8a8"):
        return run(
        evaluation.application, capsys, "--checkpoint", files / "net.safetensors", "--artifact",
        files / f"{scheme}.safetensors", "--bytes", 4096, *arguments,
        )  # fmt: skip

    return measure


def test_the_command_runs_every_mode_on_the_same_text(evaluate):
    done = evaluate("--modes", "all", "--ratio", 3.0, "--ratio", 2025, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = {row["mode"]: row for row in report["modes"]}
    assert list(rows) == [
        "float", "int8", "fp32-ssm-input", "float-sim-int8", "research-se ratio 3",
        "research-se ratio 2025", "three-segment",
    ]  # fmt: skip
    zero = {"percent": 0.0, "low": 0.0, "high": 0.0}
    assert rows["float-sim-int8"]["against_int8"] == zero
    assert report["documents"] == 8
    for row in rows.values():
        assert row["against_float"]["low"] <= row["against_float"]["high"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--modes", "fp16"), "unknown mode 'fp16'"),
        (("--modes", "all", "--ratio", "0.5"), "ratio = 0.5 is not a finite number"),
        (("--modes", "all", "--ratio", "nan"), "ratio = nan is not a finite number"),
        (("--modes", "all", "--quantile", "0.5"), "quantile = 0.5 is not one of"),
        (("--modes", "all", "--code-bits", "9"), "code bits = 9 is outside 2..8"),
        (("--modes", "all", "--margin", "0"), "margin = 0.0 is outside (0, 1]"),
    ],
)
def test_bad_input_is_one_line(evaluate, arguments, message):
    done = evaluate(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_program_without_int8_input_is_refused(evaluate):
    done = evaluate("--modes", "all", scheme="w4a5-se")
    assert done.returncode == 2
    assert "give an artifact without dual scale" in done.stderr
