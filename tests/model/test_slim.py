"""Positioning network: against the sources' form, float64 loops, and frames in pieces."""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from golden.errors import InputError
from model.slim import SlimNetwork, moving_average, position_table, sequential_moving_average
from model.slim_configuration import SLIM_PRESETS, SlimConfiguration, slim_preset
from model.slim_state import SlimState

SMALL = {
    "features": 12, "window": 16, "projection": 6, "d_model": 8, "d_inner": 10, "n_layer": 2,
    "patch": 8, "stride": 4,
}  # fmt: skip
CASES = {
    "plain": SMALL,
    "convolution": SMALL | {"d_conv": 4, "patch": 2, "stride": 1},
    "positions": SMALL | {"position_scale": 0.7, "d_model": 7},
    "no gate": SMALL | {"gate": False, "d_conv": 3},
    "mean": SMALL | {"head": "mean", "d_conv": 7, "window": 19},
    "max": SMALL | {"head": "max", "patch": 3, "stride": 2, "window": 9},
    "one frame": SMALL | {"window": 1, "patch": 1, "stride": 1, "d_conv": 5},
    "wide convolution": SMALL | {"d_conv": 9, "window": 5, "patch": 2, "stride": 2},
}
MAMBA = SMALL | {"mixer": "mamba", "d_conv": 4, "d_state": 3, "dt_rank": 2, "patch": 2, "stride": 2}


def network_of(fields, seed=0, scan="parallel"):
    torch.manual_seed(seed)
    network = SlimNetwork(SlimConfiguration(**fields), scan=scan)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


def windows_of(configuration, batch=3, seed=1):
    torch.manual_seed(seed)
    return torch.randn(batch, configuration.window, configuration.features)


def reference(network, features):
    """The sources' network, layout (b, channel, time), in float64 and with loops over time."""
    c = network.configuration
    weights = {k: v.double() for k, v in network.state_dict().items()}

    def norm(x, name):
        scale = torch.rsqrt(x.square().mean(dim=1, keepdim=True) + c.rms_norm_eps)
        return x * scale * weights[name][None, :, None]

    x = features.double().transpose(1, 2)  # b F K
    x = functional.conv1d(x, weights["proj.conv.weight"], weights["proj.conv.bias"])
    embedding = "backbone.patch_embedding.conv."
    x = functional.conv1d(
        x, weights[embedding + "weight"], weights[embedding + "bias"], stride=c.stride
    )
    for column, token in itertools.product(range(c.d_model), range(c.tokens)):
        angle = token / 10000.0 ** (2 * (column // 2) / c.d_model)
        wave = math.sin(angle) if column % 2 == 0 else math.cos(angle)
        x[:, column, token] += c.position_scale * wave
    for index in range(c.n_layer):
        x = x + reference_block(c, weights, f"backbone.blocks.{index}.", x, norm)
    x = norm(x, "backbone.norm_f.weight")
    if c.head == "flat":
        name = "backbone.output_layer_flat."
    else:
        name = "backbone.output_layer_pool.conv."
        x = x.mean(dim=2, keepdim=True) if c.head == "mean" else x.amax(dim=2, keepdim=True)
    x = functional.conv1d(x, weights[name + "weight"], weights[name + "bias"])
    return functional.conv1d(x, weights["head.conv.weight"], weights["head.conv.bias"])[..., 0]


def reference_block(c, weights, prefix, x, norm):
    hidden = functional.conv1d(
        norm(x, prefix + "norm.weight"), weights[prefix + "in_proj.conv.weight"]
    )
    u, z = hidden.split(c.d_inner, dim=1)  # b e T
    if c.d_conv:
        u = functional.conv1d(
            u, weights[prefix + "dw_conv.weight"], weights[prefix + "dw_conv.bias"],
            padding=c.d_conv // 2, groups=c.d_inner,
        )  # fmt: skip
    u = u * torch.sigmoid(u)
    decay = torch.sigmoid(
        functional.conv1d(
            u, weights[prefix + "ssm.dt_proj.weight"], weights[prefix + "ssm.dt_proj.bias"]
        )
    )
    state, states = torch.zeros_like(u[..., 0]), []
    for time in range(u.shape[2]):
        state = decay[..., time] * state + (1 - decay[..., time]) * u[..., time]
        states.append(state)
    y = torch.stack(states, dim=2)
    if c.gate:
        y = y * z * torch.sigmoid(z)
    return functional.conv1d(y, weights[prefix + "out_proj.conv.weight"])


@pytest.mark.parametrize("scan", ["parallel", "sequential"])
@pytest.mark.parametrize("case", CASES)
def test_forward_is_the_sources_network(case, scan):
    network = network_of(CASES[case], scan=scan)
    features = windows_of(network.configuration)
    with torch.no_grad():
        found = network(features)
    expected = reference(network, features)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 100])
def test_moving_average_is_a_float64_loop(length):
    torch.manual_seed(length)
    decay, u = torch.rand(2, length, 5), torch.randn(2, length, 5)
    decay[:, ::3] = 1.0
    decay[:, 1::4] = 0.0
    state = torch.randn(2, 5)
    expected = sequential_moving_average(decay.double(), u.double(), state.double())
    found = moving_average(decay, u, state)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_both_scans_agree():
    torch.manual_seed(0)
    raw, u, state = torch.randn(2, 21, 4), torch.randn(2, 21, 4), torch.randn(2, 4)
    gradients = []
    for scan in (moving_average, sequential_moving_average):
        inputs = [tensor.clone().requires_grad_() for tensor in (raw, u, state)]
        scan(torch.sigmoid(inputs[0]), inputs[1], inputs[2]).square().sum().backward()
        gradients.append([tensor.grad for tensor in inputs])
    for parallel, sequential in zip(*gradients, strict=True):
        torch.testing.assert_close(parallel, sequential, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", [*CASES, "mamba"])
def test_frames_in_pieces_give_the_forward_pass(case):
    fields = MAMBA if case == "mamba" else CASES[case]
    network = network_of(fields)
    window = network.configuration.window
    features = windows_of(network.configuration)
    with torch.no_grad():
        expected = network(features)
        for sizes in ([1] * window, [window], [max(1, window // 3), window]):
            state, start, outputs = network.initial_state(3), 0, None
            for size in sizes:
                piece = features[:, start : start + size]
                if piece.shape[1]:
                    outputs = network.advance(piece, state)
                start += size
                assert (outputs is None) == (start < window)
            torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["convolution", "mamba"])
def test_saved_state_continues_and_the_next_window_starts_anew(case, tmp_path):
    network = network_of(MAMBA if case == "mamba" else CASES[case])
    c = network.configuration
    features = windows_of(c)
    with torch.no_grad():
        state = network.initial_state(3)
        network.advance(features[:, :5], state)
        state.save(tmp_path / "state.safetensors")
        kept = state.clone()
        first = network.advance(features[:, 5:], state)
        assert torch.equal(network.advance(features[:, 5:], kept), first)
        restored = SlimState.load(tmp_path / "state.safetensors", c)
        assert torch.equal(network.advance(features[:, 5:], restored), first)
        assert torch.equal(network.advance(features, state), network(features))
        network.advance(features[:, :7], state)
        network.reset_state(state)
        assert torch.equal(network.advance(features, state), network(features))


def test_one_step_takes_one_frame():
    network = network_of(SMALL | {"window": 2, "patch": 1, "stride": 1})
    features = windows_of(network.configuration)
    state = network.initial_state(3)
    assert network.step(features[:, 0], state) is None
    torch.testing.assert_close(network.step(features[:, 1], state), network(features))


def test_taps_see_and_replace():
    network = network_of(CASES["convolution"])
    features, seen = windows_of(network.configuration), {}

    def watch(name, value):
        seen[name] = value

    plain = network(features, watch)
    assert seen["blocks.1.lambda"].shape == (3, network.configuration.tokens, 10)
    torch.testing.assert_close(
        seen["blocks.0.y"],
        sequential_moving_average(seen["blocks.0.lambda"], seen["blocks.0.u"], torch.zeros(3, 10)),
    )
    assert torch.equal(seen["outputs"], plain)
    swapped = network(features, lambda name, value: 2 * value if name == "hidden" else None)
    torch.testing.assert_close(swapped, network.head(2 * seen["hidden"]))


def test_positions_are_sines_and_cosines():
    table = position_table(5, 7)
    assert table.shape == (5, 7)
    assert torch.equal(table[0], torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]))


def test_original_mamba_has_as_many_parameters():
    counts = {
        name: sum(p.numel() for p in SlimNetwork(shape).parameters())
        for name, shape in SLIM_PRESETS.items()
    }
    for mamba, slim in (("mamba", "slim"), ("mamba-k1", "slim-k1"), ("mamba-k2", "slim-k2")):
        assert abs(counts[mamba] / counts[slim] - 1) < 0.01


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": 4}, "patch is 8, exceeds the window of 4"),
        ({"stride": 9}, "stride is 9, exceeds the patch of 8"),
        ({"d_model": 0}, "d_model is 0"),
        ({"d_conv": -1}, "d_conv is -1"),
        ({"head": "sum"}, "head is 'sum'"),
        ({"mixer": "gru"}, "mixer is 'gru'"),
        ({"mixer": "mamba", "d_conv": 0}, "d_conv >= 1"),
        ({"position_scale": math.nan}, "position_scale is nan"),
        ({"rms_norm_eps": 2.0}, "rms_norm_eps is 2.0"),
    ],
)
def test_bad_shapes_name_value_and_limit(change, words):
    with pytest.raises(ValueError, match=words):
        SlimConfiguration(**SMALL | change)


@pytest.mark.parametrize("change", [{"window": 2.5}, {"n_layer": True}, {"gate": 1}])
def test_wrong_types_are_refused(change):
    with pytest.raises(TypeError):
        SlimConfiguration(**SMALL | change)


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="slim-k1"):
        slim_preset("slimmest")
    with pytest.raises(ValueError, match="unknown configuration field 'heads'"):
        SlimConfiguration.from_mapping({"heads": 2})
    with pytest.raises(ValueError, match="unknown scan 'triton', known: parallel, sequential"):
        SlimNetwork(SlimConfiguration(**SMALL), scan="triton")
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        SlimNetwork(SlimConfiguration(**SMALL), dropout=1.0)


def test_wrong_frames_are_refused():
    network = network_of(SMALL)
    with pytest.raises(ValueError, match=r"must be \(b, 16, 12\)"):
        network(torch.zeros(1, 15, 12))
    with pytest.raises(ValueError, match=r"must be \(b, l, 12\)"):
        network.advance(torch.zeros(1, 2, 11), network.initial_state(1))
    state = network.initial_state(1)
    network.advance(torch.zeros(1, 10, 12), state)
    with pytest.raises(ValueError, match="7 frames exceed the 6 that are left"):
        network.advance(torch.zeros(1, 7, 12), state)


def test_a_state_of_another_network_is_refused(tmp_path):
    network = network_of(SMALL)
    network.initial_state(2).save(tmp_path / "state.safetensors")
    with pytest.raises(InputError, match="give a state of the same network"):
        SlimState.load(tmp_path / "state.safetensors", SlimConfiguration(**SMALL | {"d_model": 9}))
    with pytest.raises(InputError, match="a state holds"):
        SlimState.load(tmp_path / "state.safetensors", SlimConfiguration(**MAMBA))
    with pytest.raises(InputError, match="cannot read the state"):
        SlimState.load(tmp_path / "absent.safetensors", network.configuration)
