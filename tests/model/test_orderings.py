"""The orderings that the literature reports appear: live on a small network, and in the records."""

import numpy as np
import pytest

from golden.configuration import NetworkShape
from golden.executor import Executor
from model.accuracy_page import AccuracyFigures
from model.accuracy_plan import COMPARED, SEEDS
from model.accuracy_studies import PLANTED, PeersRow, VariantRow
from model.accuracy_table import RECORDS, TRAINED
from model.float_simulation import FloatNetwork
from model.layer_quantization import WeightChoice
from model.network_parameters import extract_parameters, random_network
from model.outlier_study import VARIANTS
from model.outliers import plant_outliers, plant_scan_outliers
from model.peers import OURS
from model.qat_page import read_reports
from model.quantizer import QuantizationChoice, quantize_network
from model.text_windows import inputs_of

SHAPE = NetworkShape(
    vocabulary=48, d_model=32, d_inner=64, d_state=4, d_conv=3, dt_rank=2, n_layer=2
)
BY_NAME = {variant.name: variant for variant in VARIANTS}


@pytest.fixture(scope="module")
def planted():
    """Parameters with outlier channels, text, and the float network's logits."""
    trained = extract_parameters(random_network(SHAPE, seed=3))
    parameters = plant_scan_outliers(plant_outliers(trained, 2, seed=0), 2, seed=0)
    tokens = np.random.default_rng(7).integers(0, SHAPE.vocabulary, (4, 96))
    return parameters, tokens, FloatNetwork(parameters).forward(inputs_of(tokens), None)


def error(planted, name, choice=None):
    """Return the root mean square difference of a variant's logits."""
    parameters, tokens, exact = planted
    variant = BY_NAME[name]
    choice = choice or variant.choice
    draft = quantize_network(parameters, variant.scheme, tokens, choice)
    program = draft.build(simulated=choice.weights.group is not None)
    logits, _ = Executor(program).forward(inputs_of(tokens))
    found = np.ldexp(logits.astype(float), -program.logit_fraction)
    return float(np.sqrt(np.square(found - exact).mean()) / exact.std())


def test_rotation_beats_levelling_and_that_beats_one_range_a_tensor(planted):
    rotated, levelled, plain = (
        error(planted, f"w4a4-{name}") for name in ("rotated", "levelled", "plain")
    )
    assert rotated < levelled < plain
    assert plain > 1.5 * rotated


def test_a_flag_is_worth_more_than_no_flag(planted):
    whole, flagged, four = (error(planted, f"w4a8-u-{name}") for name in ("8", "4-and-flag", "4"))
    assert whole < flagged < four


def test_a_scale_for_a_group_beats_a_scale_for_a_row(planted):
    group = QuantizationChoice(weights=WeightChoice(group=8))
    assert error(planted, "w4a8-u-8", group) < error(planted, "w4a8-u-8")


@pytest.fixture(scope="module")
def figures():
    return AccuracyFigures(RECORDS, read_reports(TRAINED))


@pytest.mark.parametrize("planted", [False, True])
def test_variants_of_the_trained_network_are_ordered_alike(figures, planted):
    losses = {
        name: figures.record(VariantRow(variant, planted))["percent"]
        for name, variant in BY_NAME.items()
    }
    rotated = losses.pop("w4a4-rotated")
    assert all(3 * rotated < losses[f"w4a4-{name}"] for name in ("residual", "levelled", "plain"))
    if planted:
        assert losses["w4a4-levelled"] < losses["w4a4-plain"]
    assert losses["w4a8-u-8"] < losses["w4a8-u-4-and-flag"] < losses["w4a8-u-4"]


@pytest.mark.parametrize("seed", SEEDS)
def test_narrow_numbers_cost_more_and_fine_scales_less(figures, seed):
    losses = [figures.quantized(scheme, seed) for scheme in COMPARED]
    assert losses == sorted(losses)
    assert 2 * figures.quantized("w8a8-h", seed) < figures.quantized("w4a8-h", seed)
    # At 8 bits nothing is left to gain: what is measured is the intervals' half width.
    for measure in (figures.quantized, figures.any_scale, figures.trained):
        assert abs(measure("w8a8-h", seed)) < 0.15
    for scheme in COMPARED[1:]:
        assert figures.any_scale(scheme, seed) < figures.quantized(scheme, seed)
        assert figures.trained(scheme, seed) < figures.quantized(scheme, seed)


@pytest.mark.parametrize("outliers", [0, PLANTED])
def test_our_4_bit_weights_lose_at_most_half_of_what_the_best_peer_does(figures, outliers):
    rows = figures.record(PeersRow("w4a8-h", outliers))["methods"]
    losses = {row["method"]: row["percent"] for row in rows}
    ours = losses.pop(OURS)
    peers = [loss for method, loss in losses.items() if not method.startswith("ours")]
    assert 2 * ours <= min(peers)
    assert losses["Quamba, weights a row"] < losses["Quamba, weights a tensor"]
