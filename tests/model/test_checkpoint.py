"""Checkpoints: every way of being wrong is one line that names the tensor and the remedy."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from golden import command
from golden.errors import InputError
from golden.presets import find_preset
from model import generate_text, load_checkpoint, random_checkpoint
from model.checkpoint import checkpoint_bytes
from model.configuration import MambaConfiguration
from model.mamba import MambaLanguageModel
from tests.model.commands import run

CONFIGURATION = MambaConfiguration(vocab_size=256, d_model=12, n_layer=2, d_state=3, dt_rank=2)
TIED = MambaConfiguration(vocab_size=40, d_model=8, n_layer=1, tie_embeddings=True)
ORIGINAL = {
    "d_model": 12, "n_layer": 2, "vocab_size": 256, "pad_vocab_size_multiple": 8,
    "ssm_cfg": {"d_state": 3, "dt_rank": 2}, "tie_embeddings": False,
}  # fmt: skip
HUGGING_FACE = {
    "model_type": "mamba", "hidden_size": 12, "num_hidden_layers": 2, "vocab_size": 256,
    "state_size": 3, "time_step_rank": 2, "tie_word_embeddings": False,
}  # fmt: skip
A_LOG = "backbone.layers.1.mixer.A_log"


def build(configuration=CONFIGURATION):
    torch.manual_seed(2)
    return MambaLanguageModel(configuration).eval()


def tensors_of(configuration=CONFIGURATION):
    return {name: value.clone() for name, value in build(configuration).state_dict().items()}


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_configuration(folder, fields):
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")


@pytest.mark.parametrize("configuration", [CONFIGURATION, TIED], ids=["untied", "tied"])
def test_own_checkpoints_return_exactly_and_save_to_the_same_bytes(configuration, tmp_path):
    model, path = build(configuration), tmp_path / "own.safetensors"
    path.write_bytes(checkpoint_bytes(model))
    loaded = load_checkpoint(str(path))
    assert loaded.configuration == configuration
    assert not loaded.training
    tokens = torch.arange(30)[None]
    assert torch.equal(loaded(tokens), model(tokens))
    assert checkpoint_bytes(loaded) == path.read_bytes()
    tied = loaded.lm_head.weight is loaded.backbone.embedding.weight
    assert tied == configuration.tie_embeddings


def test_loading_draws_no_random_numbers(tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(checkpoint_bytes(build()))
    before = torch.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_half_precision_is_widened(kind, suffix, tmp_path):
    narrow = {name: value.to(kind) for name, value in tensors_of().items()}
    path = tmp_path / f"narrow{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(narrow, path)
    for name, value in load_checkpoint(path).state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, narrow[name].float())


@pytest.mark.parametrize("fields", [ORIGINAL, HUGGING_FACE, None])
def test_the_configuration_is_read_or_inferred(fields, tmp_path):
    save_file(tensors_of(), tmp_path / "model.safetensors")
    if fields is not None:
        write_configuration(tmp_path, fields)
    assert load_checkpoint(tmp_path).configuration == CONFIGURATION


def test_a_head_that_differs_from_the_embedding_is_not_tied(tmp_path):
    save_file(tensors_of(), tmp_path / "model.safetensors")
    write_configuration(tmp_path, ORIGINAL | {"tie_embeddings": True})
    assert not load_checkpoint(tmp_path).configuration.tie_embeddings


def test_an_untied_head_shares_no_memory(tmp_path):
    tensors = tensors_of()
    tensors["lm_head.weight"] = tensors["backbone.embedding.weight"]
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    write_configuration(tmp_path, ORIGINAL)
    model = load_checkpoint(tmp_path)
    assert model.lm_head.weight.data_ptr() != model.backbone.embedding.weight.data_ptr()


DAMAGE = {
    "missing": (lambda t: t.pop(A_LOG), [A_LOG, "missing", "(24, 3)"]),
    "missing embedding": (
        lambda t: t.pop("backbone.embedding.weight"), ["backbone.embedding.weight", "missing"]
    ),
    "misshapen": (
        lambda t: t.update({A_LOG: torch.zeros(24, 5)}), [A_LOG, "(24, 5)", "(24, 3)"]
    ),
    "scalar": (lambda t: t.update({"backbone.layers.0.mixer.A_log": torch.tensor(0.0)}), ["()"]),
    "unexpected": (
        lambda t: t.update({"backbone.layers.1.attention": torch.zeros(2, 7)}),
        ["1 unexpected", "backbone.layers.1.attention", "(2, 7)"],
    ),
    "not finite": (lambda t: t[A_LOG][3].fill_(torch.nan), [A_LOG, "(24, 3)", "3 NaN"]),
    "infinite": (lambda t: t[A_LOG][0, 0].fill_(-torch.inf), [A_LOG, "1 NaN or infinite"]),
    "integers": (lambda t: t.update({A_LOG: torch.zeros(24, 3).int()}), [A_LOG, "torch.int32"]),
    "double": (lambda t: t.update({A_LOG: t[A_LOG].double()}), [A_LOG, "float64", "float32"]),
    "both names": (
        lambda t: t.update({"backbone.embeddings.weight": torch.zeros(256, 12)}),
        ["backbone.embedding", "twice"],
    ),
    "mamba-2": (
        lambda t: t.update({"backbone.layers.0.mixer.dt_bias": torch.zeros(4)}), ["Mamba-2"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_tensors_are_named(damage, suffix, tmp_path):
    change, words = DAMAGE[damage]
    tensors = tensors_of()
    change(tensors)
    path = tmp_path / f"damaged{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    message = refusal(path)
    for word in [path.name, *words]:
        assert word in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (ORIGINAL | {"d_model": 16}, ["has shape (256, 12)", "asks for (256, 16)", "config.json"]),
        (ORIGINAL | {"n_layer": 1}, ["unexpected", "backbone.layers.1", "1 layers"]),
        (ORIGINAL | {"n_layer": 1 << 20}, ["backbone.layers.2.norm.weight is missing"]),
        (ORIGINAL | {"n_layer": "two"}, ["n_layer is 'two'", "wrong type"]),
        (ORIGINAL | {"n_layer": 0}, ["n_layer is 0"]),
        (ORIGINAL | {"rms_norm": False}, ["rms_norm is False"]),
        (ORIGINAL | {"pad_vocab_size_multiple": 0}, ["pad_vocab_size_multiple is 0"]),
        (ORIGINAL | {"ssm_cfg": {"layer": "Mamba2"}}, ["Mamba-1"]),
        (ORIGINAL | {"ssm_cfg": {"headdim": 64}}, ["headdim"]),
        (ORIGINAL | {"ssm_cfg": 5}, ["ssm_cfg is 5"]),
        (ORIGINAL | {"ssm_cfg": {"dt_rank": "wide"}}, ["dt_rank is 'wide'"]),
        ({"n_layer": 2, "vocab_size": 256}, ["lacks the field 'd_model'"]),
        (HUGGING_FACE | {"state_size": 4}, ["A_log has shape (24, 3)", "(24, 4)"]),
        (HUGGING_FACE | {"expand": float("inf")}, ["expand is inf"]),
        (HUGGING_FACE | {"hidden_act": "relu"}, ["hidden_act is 'relu'"]),
        (HUGGING_FACE | {"model_type": "mamba2"}, ["Mamba-1"]),
        (HUGGING_FACE | {"use_bias": True}, ["in_proj.bias is missing"]),
        ([], ["no JSON object"]),
    ],
)
def test_wrong_configurations_are_explained(fields, words, tmp_path):
    save_file(tensors_of(), tmp_path / "model.safetensors")
    write_configuration(tmp_path, fields)
    message = refusal(tmp_path)
    for word in words:
        assert word in message


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_file_cut_anywhere_is_refused(suffix, tmp_path):
    path = tmp_path / f"cut{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(tensors_of(), path)
    whole = path.read_bytes()
    for length in [*range(0, 200, 13), *range(200, len(whole), len(whole) // 30), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert "cannot be read" in refusal(path)


def test_pickles_with_code_are_refused(tmp_path):
    torch.save({"weights": DamagingClass()}, tmp_path / "code.bin")
    assert "cannot be read" in refusal(tmp_path / "code.bin")
    torch.save([1, 2], tmp_path / "list.bin")
    assert "state_dict()" in refusal(tmp_path / "list.bin")


class DamagingClass:
    """Anything but a tensor."""


def test_wrong_paths_are_explained(tmp_path):
    assert "does not exist" in refusal(tmp_path / "absent.safetensors")
    assert "holds no checkpoint" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    assert "known: .safetensors" in refusal(tmp_path / "notes.txt")
    for name in ("first.safetensors", "second.bin"):
        (tmp_path / name).write_bytes(b"")
    assert "2 checkpoints (first.safetensors, second.bin)" in refusal(tmp_path)


def test_incomplete_shards_are_explained(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "model-1-of-2.safetensors"}}', encoding="utf-8")
    assert "model-1-of-2.safetensors does not exist" in refusal(tmp_path)
    index.write_text('{"weights": 1}', encoding="utf-8")
    assert "no index of shards" in refusal(tmp_path)


def test_bad_metadata_is_explained(tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(checkpoint_bytes(build()))
    tensors = load_file(path)
    for text in ("{", "[]", '{"vocab_size": 256}', '{"width": 1}'):
        save_file(tensors, path, {"configuration": text})
        assert "bad configuration" in refusal(path)
    save_file(tensors, path, {"run": "{}"})
    assert "state of a training run" in refusal(path)


def exit_code(*arguments) -> object:
    with pytest.raises(SystemExit) as caught:
        command.run(generate_text.application, [str(argument) for argument in arguments])
    return caught.value.code


def test_generation_repeats_and_depends_on_the_seed(tmp_path, capsysbinary):
    path = tmp_path / "own.safetensors"
    path.write_bytes(checkpoint_bytes(build()))
    outputs = []
    for seed in (1, 1, 2):
        options = ("--prompt", "né", "--tokens", 40, "--seed", seed)
        assert exit_code("--checkpoint", path, *options) == 0
        outputs.append(capsysbinary.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]
    assert all(output.startswith("né".encode()) for output in outputs)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--checkpoint", "absent.bin"], "absent.bin does not exist"),
        (["--checkpoint", "tied.safetensors"], "vocabulary of 40 tokens"),
        (["--checkpoint", "tied.safetensors", "--temperature", "inf"], "--temperature is inf"),
        (["--checkpoint", "tied.safetensors", "--tokens", "0"], "--tokens"),
        ([], "--checkpoint"),
    ],
)
def test_bad_command_lines_end_with_code_two(options, word, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tied.safetensors").write_bytes(checkpoint_bytes(build(TIED)))
    assert exit_code(*options) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert word in captured.err


def test_importing_the_package_imports_no_torch():
    program = "import sys, model; model.load_checkpoint; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_random_checkpoints_have_the_preset_s_shape_and_repeat(tmp_path, capsys):
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    for path in (first, second):
        done = run(random_checkpoint.application, capsys, "--preset", "micro", "--out", path)
        assert done.returncode == 0
    assert first.read_bytes() == second.read_bytes()
    assert load_checkpoint(first).configuration.d_inner == find_preset("micro").d_inner
