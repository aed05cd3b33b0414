"""Ternary projections and the gated MLP: the definition in float64, gradients, checkpoints."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from golden.errors import InputError
from golden.executor import Executor
from golden.scheme import SCHEMES
from model.bit_linear import BitLinear, round_rates, round_token, weight_of
from model.checkpoint import checkpoint_bytes, load_checkpoint
from model.configuration import MambaConfiguration, preset
from model.float_simulation import FloatNetwork
from model.mamba import MambaLanguageModel
from model.network_parameters import extract_parameters
from model.quantizer import QuantizationChoice, quantize_network
from model.simulated_program import SimulatedProgram
from model.text_windows import inputs_of

SHAPE = MambaConfiguration(
    vocab_size=31, d_model=8, n_layer=2, d_state=3, dt_rank=2, d_intermediate=12
)
SCALES = ["mean", "power-of-two"]


def model_of(ternary=None, seed=0):
    torch.manual_seed(seed)
    configuration = dataclasses.replace(SHAPE, ternary=ternary)
    model = MambaLanguageModel(configuration).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # weights of one would hide a norm that is left out
                parameter.uniform_(0.5, 1.5)
    return model


def defined_product(layer, x):
    """BitNet b1.58 in float64: gamma round(clamp(W / gamma)), activations absmax / 127."""
    weight, x = layer.weight.detach().double().numpy(), x.double().numpy()
    gamma = np.abs(weight).mean()
    if layer.ternary_scale == "power-of-two":
        gamma = 2.0 ** np.rint(np.log2(np.abs(weight).mean(axis=1, keepdims=True)))
    codes = np.rint(np.clip(weight / gamma, -1, 1))
    scale = np.abs(x).max(axis=-1, keepdims=True) / 127
    return scale * np.rint(x / scale) @ (gamma * codes).T, codes


@pytest.mark.parametrize("scale", SCALES)
def test_a_product_is_the_published_one(scale):
    torch.manual_seed(1)
    layer = BitLinear(40, 24, bias=False, scale=scale)
    with torch.no_grad():
        layer.weight *= torch.logspace(-2, 1, 24)[:, None]
    x = torch.randn(3, 5, 40)
    wanted, codes = defined_product(layer, x)
    assert set(np.unique(codes)) == {-1.0, 0.0, 1.0}
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-5, atol=1e-5)
    used = weight_of(layer).numpy()
    np.testing.assert_array_equal(np.sign(used), codes)
    if scale == "power-of-two":
        rows = np.abs(used).max(axis=1)
        assert (np.frexp(rows[rows > 0])[0] == 0.5).all()


def test_gradients_pass_both_roundings():
    torch.manual_seed(2)
    layer = BitLinear(16, 4, bias=True, scale="mean")
    x = torch.randn(6, 16, requires_grad=True)
    upstream = torch.randn(6, 4)
    (layer(x) * upstream).sum().backward()
    with torch.no_grad():
        scale = x.abs().amax(dim=-1, keepdim=True) / 127
        rounded = (x / scale).round() * scale
    torch.testing.assert_close(layer.weight.grad, upstream.T @ rounded)
    torch.testing.assert_close(x.grad, upstream @ weight_of(layer))
    torch.testing.assert_close(layer.bias.grad, upstream.sum(dim=0))


def test_silent_tokens_and_rows_stay_finite():
    layer = BitLinear(8, 3, bias=False, scale="power-of-two")
    nn.init.zeros_(layer.weight)
    assert torch.equal(layer(torch.zeros(2, 8)), torch.zeros(2, 3))
    assert torch.equal(round_token(torch.zeros(2, 8)), torch.zeros(2, 8))


def test_rates_are_rounded_to_the_scan_s_steps_and_saturate():
    rates = torch.tensor([0.02, 1.0, 5.0, 16.0], requires_grad=True)
    rounded = round_rates(rates)
    steps = rounded.detach().double() * np.log2(np.e) * 64
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert float(rounded.detach().max() * np.log2(np.e)) == pytest.approx(1023 / 64)
    rounded.sum().backward()
    torch.testing.assert_close(rates.grad, torch.ones(4))


@pytest.mark.parametrize("ternary", [None, *SCALES])
def test_a_step_at_a_time_equals_the_whole(ternary):
    model, tokens = model_of(ternary), torch.randint(0, 31, (2, 9))
    with torch.no_grad():
        state = model.initial_state(2)
        steps = [model.step(tokens[:, i], state) for i in range(9)]
        torch.testing.assert_close(torch.stack(steps, 1), model(tokens), rtol=1e-4, atol=1e-5)


def test_the_mlp_is_swiglu_behind_its_own_norm():
    """``mamba_ssm``'s ``Block`` and ``GatedMLP`` written out in float64."""
    model, seen = model_of(), {}
    with torch.no_grad():
        model(torch.randint(0, 31, (1, 7)), None, lambda name, value: seen.update({name: value}))
    for i, block in enumerate(model.backbone.blocks):
        mixed = (seen[f"layers.{i}.residual"] + seen[f"layers.{i}.out"]).double()
        norm = mixed * (mixed.square().mean(dim=-1, keepdim=True) + 1e-5).rsqrt()
        norm = norm * block.norm2.weight.double()
        up, z = (norm @ block.mlp.fc1.weight.double().T).chunk(2, dim=-1)
        gated = up * z / (1 + torch.exp(-z))
        following = seen["residual" if i == 1 else "layers.1.residual"].double()
        wanted = mixed + gated @ block.mlp.fc2.weight.double().T
        for name, value in (("mlp_norm", norm), ("up", up), ("mlp_z", z), ("mlp_gated", gated)):
            torch.testing.assert_close(
                seen[f"layers.{i}.{name}"].double(), value, rtol=1e-4, atol=1e-6
            )
        torch.testing.assert_close(following, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ternary", [None, *SCALES])
def test_a_checkpoint_keeps_mlp_and_scale(tmp_path, ternary):
    model, tokens = model_of(ternary), torch.randint(0, 31, (1, 5))
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint_bytes(model))
    loaded = load_checkpoint(path)
    assert loaded.configuration == model.configuration
    with torch.no_grad():
        assert torch.equal(loaded(tokens), model(tokens))


def test_the_mlp_s_width_follows_from_tensors_and_from_the_original_configuration(tmp_path):
    """``GatedMLP`` rounds the width it is asked for up to 128."""
    wide = dataclasses.replace(SHAPE, d_intermediate=128)
    model = MambaLanguageModel(wide)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert load_checkpoint(tmp_path).configuration.d_intermediate == 128
    fields = {
        "d_model": 8, "n_layer": 2, "vocab_size": 31, "d_intermediate": 100,
        "tie_embeddings": False, "pad_vocab_size_multiple": 1,
        "ssm_cfg": {"d_state": 3, "dt_rank": 2},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert load_checkpoint(tmp_path).configuration.d_intermediate == 128


def test_the_preset_has_the_size_of_bytelm():
    sizes = {
        name: sum(p.numel() for p in MambaLanguageModel(preset(name)).parameters())
        for name in ("bytelm", "bitbyte")
    }
    assert sizes == {"bytelm": 648704, "bitbyte": 637056}


@pytest.mark.parametrize("value", [0, -3, 2.5])
def test_bad_widths_are_refused(value):
    with pytest.raises((ValueError, TypeError), match="d_intermediate is"):
        dataclasses.replace(SHAPE, d_intermediate=value)


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="ternary is 'half', known: None, mean, power-of-two"):
        dataclasses.replace(SHAPE, ternary="half")


TEXT = np.random.default_rng(5).integers(0, 31, (4, 96))


def quantized(model, scheme):
    """Return float network, program, and the deviation of its logits from the float ones."""
    parameters = extract_parameters(model)
    program = quantize_network(parameters, SCHEMES[scheme], TEXT, QuantizationChoice()).build()
    exact = FloatNetwork(parameters).forward(inputs_of(TEXT))
    logits = np.ldexp(Executor(program).forward(inputs_of(TEXT))[0].astype(float),
                      -program.logit_fraction)  # fmt: skip
    return parameters, program, float(np.std(logits - exact) / np.std(exact))


def test_the_float_twin_in_numpy_has_the_mlp():
    model = model_of()
    with torch.no_grad():
        wanted = model(torch.from_numpy(TEXT)).numpy()
    found = FloatNetwork(extract_parameters(model)).forward(TEXT)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("scheme", "bound"), [("w8a8", 0.1), ("w4a8", 0.4)])
def test_an_mlp_becomes_integers(scheme, bound):
    """Bounds are three times what the schemes cost without training."""
    _, program, deviation = quantized(model_of(), scheme)
    assert program.mlps is not None
    assert deviation < bound


def test_a_network_trained_with_ternary_weights_keeps_them():
    model = model_of("power-of-two")
    parameters, program, deviation = quantized(model, "ternary")
    assert deviation < 0.1
    for own, layer in zip(parameters.layers, program.layers, strict=True):
        for name in ("in_proj", "x_proj", "dt_proj", "out_proj"):
            linear = getattr(layer, name)
            real = np.ldexp(linear.weight.astype(float), -linear.fraction_bits[:, None])
            np.testing.assert_array_equal(real, getattr(own, name))
    for own, mlp in zip(parameters.mlps, program.mlps, strict=True):
        for name in ("gate", "up", "down"):
            linear = getattr(mlp, name)
            real = np.ldexp(linear.weight.astype(float), -linear.fraction_bits[:, None])
            np.testing.assert_array_equal(real, getattr(own, name))


def test_the_simulation_of_modes_refuses_mlps():
    program = quantized(model_of(), "w8a8")[1]
    with pytest.raises(InputError, match="has MLPs, which the simulation of scan inputs"):
        SimulatedProgram(program)
