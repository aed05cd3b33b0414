"""Free scales leave a block's function as it is and make its formats fit better."""

import dataclasses

import numpy as np
import pytest

from golden.artifact import to_bytes
from golden.configuration import NetworkShape
from golden.executor import Executor
from golden.scheme import SCHEMES
from model.calibration import FloatBlocks
from model.float_simulation import FloatNetwork
from model.free_scales import scale_norm, scale_read_out
from model.layer_quantization import WeightChoice
from model.network_parameters import extract_parameters, random_network
from model.observers import fraction_by_error, rounding_error
from model.quantizer import QuantizationChoice, quantize_network
from model.rotation import hadamard_columns, random_rotation, rotate_residual
from model.sensitivity import LayerSensitivity
from model.text_windows import inputs_of

SHAPE = NetworkShape(
    vocabulary=48, d_model=32, d_inner=64, d_state=4, d_conv=3, dt_rank=2, n_layer=1
)
SCHEME = SCHEMES["w4a4-h"]


@pytest.fixture
def tokens():
    return np.random.default_rng(7).integers(0, SHAPE.vocabulary, (4, 256))


@pytest.fixture
def parameters():
    own = extract_parameters(random_network(SHAPE, seed=3))
    return rotate_residual(own, random_rotation(SHAPE.d_model, 0))


def observed(parameters, tokens):
    """Return the values of the only block on ``tokens``."""
    return FloatBlocks(FloatNetwork(parameters), inputs_of(tokens)).advance()


def error(values, bits):
    """Return the relative squared error that the best exponent leaves."""
    found = rounding_error(values, int(fraction_by_error(values, bits)), bits).sum()
    return found / np.square(values, dtype=float).sum()


def test_half_an_octave_beside_the_best_step_costs_half_as_much_again():
    values = np.random.default_rng(0).normal(size=(1 << 16, 1)).astype(np.float32)
    errors = [rounding_error(values, eighth / 8, 4).sum() for eighth in range(24)]
    best = int(np.argmin(errors))
    assert min(errors[best - 4], errors[best + 4]) > 1.5 * errors[best]


def test_where_the_gradient_is_known_nothing_is_fitted(parameters, tokens):
    rows = (2 * SHAPE.d_inner, SHAPE.dt_rank + 2 * SHAPE.d_state, SHAPE.d_inner, SHAPE.d_model)
    names = ("in_proj", "x_proj", "dt_proj", "out_proj")
    felt = LayerSensitivity(**{k: np.eye(n) for k, n in zip(names, rows, strict=True)})

    def made(strength, sensitivity):
        weights = WeightChoice(refit_strength=strength)
        choice = QuantizationChoice(weights=weights)
        draft = quantize_network(parameters, SCHEME, tokens, choice, sensitivity=sensitivity)
        return to_bytes(draft.build())

    assert made(0.02, (felt,)) == made(None, (felt,))
    assert made(0.02, None) != made(None, None)


def test_a_narrow_norm_gets_the_best_step(parameters, tokens):
    samples = observed(parameters, tokens).samples
    before = error(samples["norm"], 4)
    layer = scale_norm(parameters.layers[0], samples, 4)
    again = observed(parameters.with_layer(0, layer), tokens).samples
    assert np.allclose(again["norm"], samples["norm"], rtol=1e-4, atol=1e-5)
    # What normal numbers lose to a step half an octave off, less what a search in eighths does.
    assert error(again["norm"], 4) < 0.7 * before
    inputs = inputs_of(tokens)
    exact = FloatNetwork(parameters).forward(inputs)
    assert np.allclose(
        FloatNetwork(parameters.with_layer(0, layer)).forward(inputs), exact, atol=1e-4
    )


def test_b_c_and_what_is_rotated_get_better_steps(parameters, tokens):
    values = observed(parameters, tokens)
    samples, states = values.samples, SHAPE.d_state
    moments = np.eye(SHAPE.dt_rank + 2 * states)
    felt = LayerSensitivity(
        in_proj=np.eye(1), x_proj=moments, dt_proj=np.eye(1), out_proj=np.eye(1)
    )

    def errors(of):
        rotated = of["gated"] @ hadamard_columns(SHAPE.d_inner)
        tensors = ((of["c"], 8), (of["gated"], SCHEME.rotation_bits), (rotated, 4))
        return error(of["b"], 8), sum(error(value, bits) for value, bits in tensors)

    before = errors(samples)
    layer, scaled = scale_read_out(parameters.layers[0], values, samples, SCHEME, felt)
    again = observed(parameters.with_layer(0, layer), tokens)
    for name in ("b", "c", "state", "scan_output", "gated"):
        assert np.allclose(again.samples[name], samples[name], rtol=1e-3, atol=1e-4), name
    for name in ("b", "c", "out"):
        assert np.allclose(again.whole[name], values.whole[name], rtol=1e-3, atol=1e-4), name
    after = errors(samples)
    assert after[0] <= before[0]
    assert after[1] < before[1]
    # An error of a scaled output is felt as much less as the output has become larger.
    factors = np.sqrt(np.diag(scaled.x_proj))
    rows = layer.x_proj[:, 0] / parameters.layers[0].x_proj[:, 0]
    assert np.allclose(factors * rows, 1.0)
    assert not np.allclose(rows, 1.0)


def test_programs_are_nearer_to_the_float_network(parameters, tokens):
    inputs = inputs_of(tokens)
    exact = FloatNetwork(parameters).forward(inputs)

    def distance(choice):
        program = quantize_network(parameters, SCHEME, tokens, choice).build()
        logits, _ = Executor(program).forward(inputs)
        return np.square(np.ldexp(logits.astype(float), -program.logit_fraction) - exact).mean()

    choice = QuantizationChoice()
    assert distance(choice) < distance(dataclasses.replace(choice, scale=False))
