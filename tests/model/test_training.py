"""Training on a tiny shape: repeatable, resumable to the byte, and it learns."""

import itertools
import json
import math
import sys

import numpy as np
import pytest
import torch

from golden import command
from model import load_checkpoint, train
from model.configuration import MambaConfiguration
from model.corpus import Corpus
from model.mamba import MambaLanguageModel
from model.training import Trainer, TrainingOptions, bits_per_byte

SHAPE = MambaConfiguration(vocab_size=256, d_model=8, n_layer=2, d_state=2, dt_rank=1)
WORDS = ["scan", "state", "lane", "mixer", "channel", "token", "stream", "gate"]


def documents() -> list[str]:
    generator = np.random.default_rng(0)
    return [f"{index} " + " ".join(generator.choice(WORDS, 12)) for index in range(300)]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_documents("words", documents())


def options(**changes) -> TrainingOptions:
    given = {"steps": 12, "batch": 2, "length": 32, "warmup": 3, "dropout": 0.1} | changes
    return TrainingOptions(**given)


def trained(corpus: Corpus, **changes) -> Trainer:
    trainer = Trainer(SHAPE, options(**changes), corpus, "cpu")
    for _ in trainer.run():
        pass
    return trainer


def assert_equal(found: Trainer, expected: Trainer) -> None:
    one, other = found.tensors(), expected.tensors()
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("changes", [{}, {"range_penalty": 0.1}, {"precision": "bfloat16"}])
def test_a_resumed_run_equals_an_uninterrupted_one(corpus, changes):
    whole = trained(corpus, **changes)
    first = Trainer(SHAPE, options(**changes), corpus, "cpu")
    for _ in itertools.islice(first.run(), 5):
        pass
    second = Trainer(SHAPE, options(**changes, seed=0), corpus, "cpu")
    second.restore(first.tensors(), first.step, first.seconds)
    for _ in second.run():
        pass
    assert second.step == whole.step == 12
    assert_equal(second, whole)


def test_the_seed_decides_the_weights(corpus):
    assert_equal(trained(corpus), trained(corpus))
    one, other = trained(corpus, seed=1).tensors(), trained(corpus, seed=2).tensors()
    assert not torch.equal(one["model.lm_head.weight"], other["model.lm_head.weight"])


def test_each_step_draws_its_own_dropout(corpus):
    trainer = Trainer(SHAPE, options(), corpus, "cpu")
    assert len({torch.initial_seed() for _ in trainer.run()}) == 12


def test_it_learns(corpus):
    trainer = Trainer(SHAPE, options(steps=150, averaging=0.9), corpus, "cpu")
    before = bits_per_byte(trainer.average, corpus.validation, 64)
    for _ in trainer.run():
        pass
    after = bits_per_byte(trainer.average, corpus.validation, 64)
    assert before > 7.0
    assert after < 4.0


def test_every_window_is_seen_once_in_an_epoch(corpus):
    trainer = Trainer(SHAPE, options(), corpus, "cpu")
    windows = (len(corpus.train) - 1) // 32 - 1
    seen = set()
    for trainer.step in range(windows // 2):
        inputs, targets = trainer._batch()
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        seen |= {tuple(row.tolist()) for row in inputs}
    assert len(seen) == windows // 2 * 2


def test_bits_per_byte_is_the_mean_negative_logarithm():
    torch.manual_seed(0)
    model = MambaLanguageModel(SHAPE)
    stream = np.frombuffer(b"a stream of bytes, cut", dtype=np.uint8)
    total = 0.0
    for piece in (stream[:10], stream[10:20], stream[20:]):
        inputs = torch.tensor([[0, *piece[:-1].tolist()]])
        log = torch.log_softmax(model(inputs)[0], dim=-1).detach()  # l v
        total -= sum(float(log[time, value]) for time, value in enumerate(piece.tolist()))
    expected = total / len(stream) / math.log(2.0)
    assert bits_per_byte(model, stream, 10) == pytest.approx(expected, rel=1e-5)


def test_the_rate_rises_falls_and_ends_at_zero():
    for schedule in ("cosine", "linear"):
        chosen = options(schedule=schedule, warmup=4, learning_rate=1.0)
        rates = [chosen.rate(step, step / 12) for step in range(13)]
        assert rates[0] < rates[1] < rates[2]
        assert rates[4:] == sorted(rates[4:], reverse=True)
        assert rates[12] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": None}, {"minutes": 1.0}, {"batch": 0}, {"dropout": 1.0}, {"schedule": "step"},
        {"learning_rate": math.nan}, {"seed": -1}, {"precision": "float16"},
    ],
)  # fmt: skip
def test_bad_options_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        options(**changes)


def test_a_short_corpus_is_refused(corpus):
    with pytest.raises(ValueError, match=r"training bytes, batch 2 of length 100000"):
        Trainer(SHAPE, options(length=100_000), corpus, "cpu")


def run_train(*arguments) -> object:
    with pytest.raises(SystemExit) as caught:
        command.run(train.application, [str(argument) for argument in arguments])
    return caught.value.code


@pytest.fixture
def recipe(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(documents()), encoding="utf-8")
    return [
        "--preset", "micro", "--data", text, "--steps", 8, "--batch", 2, "--length", 32,
        "--warmup", 2, "--evaluate-every", 3,
    ]  # fmt: skip


def test_a_killed_command_resumes_to_the_same_bytes(recipe, tmp_path, monkeypatch, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_train(*recipe, "--out", whole) == 0
    train_step = Trainer._train_step

    def dying_step(trainer):
        if trainer.step == 5:
            raise KeyboardInterrupt
        return train_step(trainer)

    monkeypatch.setattr(Trainer, "_train_step", dying_step)
    assert run_train(*recipe, "--out", killed) == command.EXIT_INTERRUPTED
    monkeypatch.undo()
    assert run_train(*recipe, "--out", killed, "--resume") == 0
    name = "micro.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
    reports = [
        json.loads((f / "training.json").read_text(encoding="utf-8")) for f in (whole, killed)
    ]
    assert reports[0]["results"] == reports[1]["results"]
    assert [entry["step"] for entry in reports[1]["curve"]] == [3, 6]
    assert load_checkpoint(whole).configuration.d_model == 16
    capsys.readouterr()


def test_bad_command_lines_end_with_code_two(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "model.scan_triton", None)  # as without triton
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cases = [
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--steps", "-1"], "steps is -1"),
        (["--minutes", "1"], "exactly one of steps and minutes"),
        (["--data", "absent"], "neither a known name"),
        (["--corpus-file", "absent.whl"], "absent.whl does not exist"),
        (["--scan", "serial"], "unknown scan 'serial'"),
        (["--scan", "triton", "--length", "16"], "--scan triton"),
        (["--check-scan"], "--check-scan"),
        (["--resume"], "resume.safetensors does not exist"),
        (["--length", "1000000"], "training bytes"),
        (["--device", "cuda"], "no CUDA device"),
        (["--device", "abacus"], "--device abacus"),
        (["--evaluate-every", "0"], "--evaluate-every"),
    ]
    for options_given, words in cases:
        assert run_train(*recipe, "--out", tmp_path / "new", *options_given) == 2, words
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert words in error


def test_a_run_of_another_corpus_or_shape_is_not_resumed(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_train(*recipe, "--out", out) == 0
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(documents()[:290]), encoding="utf-8")
    capsys.readouterr()
    assert run_train(*recipe, "--data", other, "--out", out, "--resume") == 2
    assert "another corpus" in capsys.readouterr().err
    assert run_train(*recipe, "--preset", "bytelm", "--out", out, "--resume") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "another shape" in error


@pytest.mark.parametrize("interval", [3, 100])
def test_divergence_is_reported_and_nothing_is_written(interval, recipe, tmp_path, capsys):
    wild = ["--learning-rate", 1e30, "--evaluate-every", interval, "--out", tmp_path / "out"]
    assert run_train(*recipe, *wild) == 2
    assert "diverged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
