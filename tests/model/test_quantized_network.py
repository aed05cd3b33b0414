"""The network that is trained equals the golden model, and its gradients those of the real one."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from golden.artifact import load_program, save_program
from golden.configuration import HeadShape, NetworkShape
from golden.errors import InputError
from golden.operations.dual_scale import decode, unpack
from golden.operations.scan import scan_step
from golden.presets import find_preset
from golden.random_program import random_program
from golden.reference import ReferenceExecutor
from golden.scheme import SCHEMES
from model import qat
from model.checkpoint import checkpoint_bytes, load_checkpoint
from model.network_parameters import random_network
from model.quantization_training import (
    QuantizationTrainer,
    QuantizationTraining,
    TrainingText,
)
from model.quantized_network import QuantizedNetwork
from model.quantized_scan import ScanScales, quantized_scan
from model.straight_through import exact_with_gradient_of, fake_quantize
from tests.model.commands import run as run_command

SHAPE = NetworkShape(
    vocabulary=48, d_model=12, d_inner=20, d_state=4, d_conv=3, dt_rank=2, n_layer=2
)
SHAPES = {
    "mamba": SHAPE,
    "mlp": dataclasses.replace(SHAPE, mlp=18),
    "heads": dataclasses.replace(SHAPE, dt_rank=0, heads=HeadShape(size=5)),
    "groups": dataclasses.replace(SHAPE, dt_rank=0, heads=HeadShape(size=5, groups=2)),
    "heads of one": dataclasses.replace(SHAPE, dt_rank=0, heads=HeadShape(size=1, groups=4)),
}


def fractions(program):
    """Return the exponents of every probe's integers."""
    found = {("logits", -1): program.logit_fraction, ("norm", -1): program.final_norm_fraction}
    found["residual", -1] = program.residual_fraction
    for index, layer in enumerate(program.layers):
        own, shape = layer.formats, program.shape
        counts = (shape.dt_rank, shape.d_state, shape.d_state)
        behind = own.gated + own.gated_channel
        found |= {
            ("norm", index): own.norm,
            ("x", index): own.x,
            ("convolution", index): 12,
            ("u", index): own.u + own.u_channel,
            ("scan_u", index): own.scan_u,
            ("gate", index): own.gate,
            ("dt", index): 12,
            ("projected", index): np.repeat([own.dt, own.b, own.c], counts),
            ("delta", index): own.delta,
            ("decay", index): program.scheme.decay_bits,
            ("scan_output", index): own.scan_output,
            ("gated", index): own.before_rotation,
            ("normed", index): own.before_rotation,
            ("rotated", index): behind,
            ("residual", index): program.residual_fraction,
        }
        if shape.heads is not None:
            found["gated", index] = layer.head_selection.product
    for index, mlp in enumerate(program.mlps or ()):
        own = mlp.formats
        found |= {
            ("mlp_norm", index): own.norm,
            ("mlp_gate", index): own.gate,
            ("up", index): own.up,
            ("mlp_gated", index): own.gated + own.gated_channel,
            ("mlp_residual", index): program.residual_fraction,
        }
    return found


def golden_values(program, tokens):
    """Return every probe of the golden model in real units."""
    exponents, values = fractions(program), {}

    def probe(name, layer, integers):
        if name == "token":
            return
        dual = program.scheme.dual_scale
        if name == "scan_u" and dual is not None:
            integers = decode(*unpack(integers, dual), dual)
        values[name, layer] = np.ldexp(integers.astype(float), -exponents[name, layer])

    ReferenceExecutor(program).forward(tokens, None, probe)
    return values


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_value_is_goldens_integer_times_its_scale(name, shape):
    seed = list(SHAPES).index(shape)
    assert_goldens_values(random_program(SHAPES[shape], SCHEMES[name], seed=seed), seed)


@pytest.mark.parametrize(
    ("name", "options", "widths"),
    [
        ("w4a8", {"embedding_bits": 16, "head_bits": 12}, ()),
        ("w8a8", {}, (None, 5)),
        ("w4a8-h", {}, (6, 4)),
        ("w4a16", {}, (9,)),
        ("w4a4-h", {"asymmetric": True}, ()),
        ("w8a8", {"asymmetric": True}, (7, None)),
        ("w4a5-se", {"asymmetric": True}, (None, 4)),
        ("w4a8-h", {"weight_group": 4}, ()),
    ],
)
@pytest.mark.parametrize("shape", ["mamba", "mlp", "groups"])
def test_every_option_of_a_scheme_is_goldens(name, options, widths, shape):
    if options.get("asymmetric") and SHAPES[shape].heads is not None:
        shape = "mamba"
    scheme = dataclasses.replace(SCHEMES[name], **options)
    assert_goldens_values(random_program(SHAPES[shape], scheme, 3, widths), 3)


def assert_goldens_values(program, seed):
    """Compare every value of the twin with the golden model's."""
    tokens = np.random.default_rng(seed).integers(0, SHAPE.vocabulary, (2, 24))
    wanted, found = golden_values(program, tokens), {}
    network = QuantizedNetwork(program)
    network(
        torch.from_numpy(tokens),
        lambda name, layer, values: found.update({(name, layer): values.detach().numpy()}),
    )
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        assert np.array_equal(found[key], values), key


def test_frame_networks_are_refused():
    program = random_program(find_preset("mars"), SCHEMES["w8a8"], seed=0)
    with pytest.raises(InputError, match="only language models are trained as programs here"):
        QuantizedNetwork(program)


@pytest.mark.parametrize("shape", ["mamba", "mlp", "groups"])
def test_training_moves_the_integers_and_lowers_the_loss(shape):
    program = random_program(SHAPES[shape], SCHEMES["w4a5-se"], seed=2)
    tokens = torch.from_numpy(np.random.default_rng(3).integers(0, SHAPE.vocabulary, (2, 24)))
    network = QuantizedNetwork(program)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    losses = []
    for _ in range(12):
        logits = network(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    trained = network.build({"source": "test"})
    logits, _ = ReferenceExecutor(trained).forward(tokens[:, :-1].numpy())
    found = network(tokens[:, :-1]).detach().numpy()
    assert np.array_equal(np.ldexp(logits.astype(float), -trained.logit_fraction), found)
    assert (
        dataclasses.replace(trained, provenance={}).layers[0].formats is program.layers[0].formats
    )


def states_of(scales, inputs):
    """Return golden's states (b, l, e, n) in real units."""
    delta, u, b, c, skip = (value.detach() for value in inputs)
    constants = dataclasses.replace(
        scales.golden, skip=(skip * scales.c * scales.state / scales.u).long().numpy()
    )
    integers = [
        (value * scale).long().numpy()
        for value, scale in ((delta, scales.delta), (u, scales.u), (b, scales.b), (c, scales.c))
    ]
    integers[2:] = (np.repeat(value, 20 // value.shape[2], axis=2) for value in integers[2:])
    state, states = np.zeros((2, 20, 4), np.int64), []
    for t in range(delta.shape[1]):
        _, state = scan_step(state, *(value[:, t] for value in integers), constants)
        states.append(np.ldexp(state.astype(float), -program_state(scales)))
    return torch.from_numpy(np.stack(states, axis=1))


def program_state(scales):
    return np.log2(scales.state.numpy()).astype(int)[:, None]


def hold(values, integers, bits):
    """Stop the gradients of ``values`` that lead further out where ``integers`` saturate."""
    limit = (1 << (bits - 1)) - 1
    up, down = integers >= limit, integers <= -limit - 1
    values.register_hook(lambda g: torch.where((up & (g < 0)) | (down & (g > 0)), 0.0, g))


def test_a_saturated_value_only_comes_back():
    values = torch.tensor([-9.0, -9.0, 0.4, 9.0, 9.0], requires_grad=True)
    fake_quantize(values, 1.0, 4).backward(torch.tensor([1.0, -1.0, 2.0, 1.0, -1.0]))
    assert values.grad.tolist() == [0.0, -1.0, 2.0, 1.0, 0.0]


@pytest.mark.parametrize("shape", ["mamba", "groups"])
def test_the_scans_gradient_is_that_of_the_real_recurrence_at_the_rounded_values(shape):
    program = random_program(SHAPES[shape], SCHEMES["w8a8"], seed=4)
    formats, constants = program.layers[0].formats, program.scan_constants(0)
    scales = ScanScales.of(constants, formats, torch.device("cpu"))
    random = np.random.default_rng(5)

    def draw(shape, low, high, fraction):
        values = np.ldexp(random.integers(low, high, shape).astype(float), -fraction)
        return torch.tensor(values, requires_grad=True)

    delta = draw((2, 9, 20), 0, 4096, formats.delta)
    u = draw((2, 9, 20), -128, 128, formats.scan_u)
    maps = (2, 9, program.shape.groups, 4)
    b, c = (draw(maps, -128, 128, fraction) for fraction in (formats.b, formats.c))
    skip = draw((20,), -2000, 2000, formats.c + formats.state - formats.scan_u)
    inputs = (delta, u, b, c, skip)
    weight = torch.from_numpy(random.normal(size=(2, 9, 20)))
    y = quantized_scan(scales, *inputs)
    found = torch.autograd.grad((y * weight).sum(), inputs)

    wide_b, wide_c = (v.repeat_interleave(20 // v.shape[2], dim=2) for v in (b, c))  # b l e n
    rate = scales.rate * scales.natural * scales.delta
    state, states = torch.zeros(2, 20, 4, dtype=torch.float64), states_of(scales, inputs)
    total = 0.0
    for t in range(9):
        argument = (delta[:, t, :, None] * scales.delta * scales.rate * scales.argument).round()
        exact = scales.decay_table.double()[argument.detach().clamp(max=65535).long()]
        smooth = torch.exp(-delta[:, t, :, None] * rate)
        # The derivative of the decay is taken at its rounded value.
        decay = exact_with_gradient_of(
            smooth * (exact * 2.0**-constants.decay_bits / smooth).detach(),
            exact * 2.0**-constants.decay_bits,
        )
        drive = (delta[:, t] * u[:, t])[..., None] * wide_b[:, t]
        state = exact_with_gradient_of(decay * state + drive, states[:, t])
        hold(state, states[:, t] * scales.state[:, None], constants.state_bits)
        out = (state * wide_c[:, t]).sum(-1) + skip * u[:, t]
        out = exact_with_gradient_of(out, y[:, t].detach())
        hold(out, y[:, t].detach() * scales.y, constants.output_bits)
        total = total + (out * weight[:, t]).sum()
    wanted = torch.autograd.grad(total, inputs)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()))


def trainer(**options):
    """Return a trainer of a small program; its text is random."""
    program = random_program(SHAPE, SCHEMES["w4a8"], seed=6)
    text = np.random.default_rng(7).integers(0, SHAPE.vocabulary, 400)
    chosen = QuantizationTraining(batch=2, length=8, warmup=1, steps=6, **options)
    teacher = random_network(SHAPE, seed=6)
    streams = TrainingText(real=text[:200], generated=text[200:])
    return QuantizationTrainer(QuantizedNetwork(program), teacher, streams, chosen, "cpu")


@pytest.mark.parametrize("freezing", [0.0, 1e-4])
def test_a_resumed_run_equals_an_uninterrupted_one(freezing):
    # At this rate weights jump over several integers, so that some turn back at once.
    options = {"freezing": freezing, "learning_rate": 0.2}
    whole, half, rest = trainer(**options), trainer(**options), trainer(**options)
    losses = [float(loss) for loss in whole.run()]
    run = half.run()
    for _ in range(3):
        next(run)
    rest.restore(half.tensors(), half.step, half.seconds)
    assert [float(loss) for loss in rest.run()] == losses[3:]
    for network in ("network", "average"):
        pairs = zip(
            getattr(whole, network).parameters(), getattr(rest, network).parameters(), strict=True
        )
        assert all(torch.equal(one, other) for one, other in pairs)
    if freezing:
        assert 0.0 < whole.freezing.share < 1.0
        for name, value in whole.freezing.state.items():
            assert torch.equal(value, rest.freezing.state[name])


def test_a_gradient_far_above_its_usual_size_is_scaled_down_and_a_broken_one_dropped():
    training = trainer()
    run = training.run()
    next(run)
    first, second, *_ = training.network.parameters()
    usual = training.usual.clone()
    first.grad.fill_(100.0)
    second.grad[0] = float("nan")
    training._clip()
    assert float(first.grad.norm()) == pytest.approx(3.0 * float(usual[0]), rel=1e-5)
    assert not second.grad.any()
    assert training.usual[1] == usual[1]


@pytest.fixture
def command(tmp_path, capsys, request):
    """Return what runs the training command on a small random network, and its files."""
    shape = SHAPES[getattr(request, "param", "mamba")]
    checkpoint, start = tmp_path / "net.safetensors", tmp_path / "start.safetensors"
    checkpoint.write_bytes(checkpoint_bytes(random_network(shape, seed=3)))
    save_program(random_program(shape, SCHEMES["w4a8-h"], seed=3), start)

    def run(*arguments):
        common = ("--preset", "own", "--checkpoint", checkpoint, "--artifact", start)
        size = ("--batch", 2, "--length", 16, "--generated-tokens", 64, "--validate-every", 2)
        return run_command(qat.application, capsys, *common, *size, *arguments)

    return run


def test_command_keeps_the_best_program_and_goes_on(command, tmp_path):
    out, long = tmp_path / "out", tmp_path / "long"
    done = command("--steps", 4, "--out", long)
    assert done.returncode == 0, done.stderr
    report = json.loads((long / "training.json").read_text())
    assert [entry["step"] for entry in report["curve"]] == [0, 2, 4]
    assert report["held_out"].keys() == {"float", "start", "trained"}
    assert report["best"] == min(report["curve"], key=lambda entry: entry["validation"])
    provenance = load_program(long / "start.safetensors").provenance
    assert (provenance["source"], provenance["best"]) == ("model.qat", report["best"])
    # A finished run that goes on has nothing left to do.
    done = command("--steps", 4, "--out", long, "--resume")
    assert done.returncode == 0, done.stderr
    assert json.loads((long / "training.json").read_text()) == report
    done = command("--steps", 4, "--out", out, "--resume")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "resume.safetensors does not exist" in done.stderr
    done = command("--steps", 5, "--out", long, "--resume")
    assert done.returncode == 2
    assert "started from something else" in done.stderr


@pytest.mark.parametrize("command", ["mlp", "groups"], indirect=True)
def test_command_trains_other_families(command, tmp_path):
    done = command("--steps", 2, "--freezing", 0.002, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    curve = json.loads((tmp_path / "out" / "training.json").read_text())["curve"]
    assert [entry["frozen"] for entry in curve] == [0.0, 0.0]  # nothing has turned back yet
    trained = load_program(tmp_path / "out" / "start.safetensors")
    start = load_program(tmp_path / "start.safetensors")
    assert trained.shape == start.shape
    assert trained.provenance["source"] == "model.qat"


def test_command_trains_a_float_control(command, tmp_path):
    done = command("--steps", 2, "--out", tmp_path, "--distillation", 0, "--network", "float")
    assert done.returncode == 0, done.stderr
    trained = load_checkpoint(tmp_path / "own.safetensors")
    assert trained.configuration.d_model == SHAPE.d_model


def test_command_trains_the_ternary_peer(command, tmp_path):
    done = command("--steps", 2, "--out", tmp_path, "--network", "ternary-float")
    assert done.returncode == 0, done.stderr
    trained = load_checkpoint(tmp_path / "own.safetensors")
    for block in trained.backbone.blocks:
        for name in ("in_proj", "x_proj", "dt_proj", "out_proj"):
            levels = getattr(block.mixer, name).weight.unique()
            assert len(levels) == 3
            assert levels[0] == -levels[2]
        assert len(block.mixer.conv1d.weight.unique()) > 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (("--steps", 0), "steps is 0; give a positive number"),
        ((), "give exactly one of --steps and --minutes"),
        (("--steps", 1, "--device", "abacus"), "device 'abacus' is not available"),
        (
            ("--steps", 1, "--network", "net"),
            "unknown network 'net'; choose one",
        ),
        (("--steps", 1, "--distillation", 2), "distillation is 2.0, outside 0..1"),
        (("--steps", 1, "--freezing", 2), "freezing is 2.0, outside 0..1"),
        (("--steps", 1, "--network", "float", "--freezing", 0.01), "no weight has 16 integers"),
    ],
)
def test_command_refuses_with_one_line(command, tmp_path, bad, message):
    done = command(*bad, "--out", tmp_path / "none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (tmp_path / "none").exists()
