"""Streaming: any chunking of a sequence gives the logits of one pass; a state can be kept."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from golden.errors import InputError
from model.configuration import MambaConfiguration
from model.mamba import MambaLanguageModel
from model.state import MambaState

TOLERANCE = 1e-5  # of the largest logit: float32 sums in another order

SHAPES = [
    MambaConfiguration(vocab_size=256, d_model=16, n_layer=1, d_state=4, dt_rank=2),
    MambaConfiguration(vocab_size=31, d_model=12, n_layer=3, d_inner=36, d_state=5, d_conv=3),
    MambaConfiguration(vocab_size=7, d_model=5, n_layer=2, d_conv=1, use_bias=True),
]


def build(configuration: MambaConfiguration) -> MambaLanguageModel:
    torch.manual_seed(3)
    return MambaLanguageModel(configuration).eval()


@pytest.fixture(scope="module", params=SHAPES, ids=["micro", "odd", "no window"])
def model(request):
    return build(request.param)


def feed(model: MambaLanguageModel, tokens: torch.Tensor, state: MambaState) -> torch.Tensor:
    """Logits (b, l, v) of a chunk; a single token takes the ``step`` path."""
    if tokens.shape[1] == 1:
        return model.step(tokens[:, 0], state)[:, None]
    return model(tokens, state)


@torch.no_grad()
def check_chunks(model: MambaLanguageModel, chunks: list[int], batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vocabulary = model.configuration.vocab_size
    tokens = torch.randint(vocabulary, (batch, sum(chunks)), generator=generator)  # b l
    state, whole_state = model.initial_state(batch), model.initial_state(batch)
    whole = model(tokens, whole_state)  # b l v
    pieces = torch.cat([feed(model, part, state) for part in tokens.split(chunks, dim=1)], dim=1)
    limit = TOLERANCE * max(1.0, float(whole.abs().max()))
    assert float((whole - pieces).abs().max()) <= limit
    torch.testing.assert_close(state.ssm, whole_state.ssm, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(
        state.convolution, whole_state.convolution, rtol=TOLERANCE, atol=TOLERANCE
    )


@settings(max_examples=25)
@given(
    chunks=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    batch=st.integers(1, 3),
    seed=st.integers(0, 1 << 30),
)
def test_every_chunking_equals_one_pass(model, chunks, batch, seed):
    check_chunks(model, chunks, batch, seed)


def test_token_by_token_equals_one_pass(model):
    check_chunks(model, [1] * 50, batch=2, seed=0)


@torch.no_grad()
def test_a_saved_state_continues_exactly(model, tmp_path):
    tokens = torch.randint(model.configuration.vocab_size, (2, 30))
    state = model.initial_state(2)
    model(tokens[:, :17], state)
    state.save(tmp_path / "state.safetensors")
    restored = MambaState.load(tmp_path / "state.safetensors", model.configuration)
    assert torch.equal(model(tokens[:, 17:], state), model(tokens[:, 17:], restored))
    assert torch.equal(model.step(tokens[:, 0], state), model.step(tokens[:, 0], restored))


def test_save_load_save_gives_the_same_bytes(model, tmp_path):
    state = model.initial_state(1)
    model(torch.randint(model.configuration.vocab_size, (1, 9)), state)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    state.save(first)
    MambaState.load(first, model.configuration).save(second)
    assert first.read_bytes() == second.read_bytes()


@torch.no_grad()
def test_reset_and_clone(model):
    tokens = torch.randint(model.configuration.vocab_size, (1, 20))
    state = model.initial_state(1)
    start = model(tokens, state)
    copy = state.clone()
    later = model(tokens, state)
    assert torch.equal(model(tokens, copy), later)
    state.reset()
    assert torch.equal(model(tokens, state), start)


def test_a_state_of_another_model_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    build(SHAPES[0]).initial_state(1).save(path)
    with pytest.raises(InputError, match=r"convolution has shape .*expected") as caught:
        MambaState.load(path, SHAPES[1])
    assert "\n" not in str(caught.value)
    save_file({"ssm": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="a state holds"):
        MambaState.load(path, SHAPES[0])
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot read the state"):
        MambaState.load(path, SHAPES[0])


def test_tokens_of_a_wrong_shape_are_refused(model):
    with pytest.raises(ValueError, match=r"must be \(b, l\)"):
        model(torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="not empty"):
        model(torch.zeros(1, 0, dtype=torch.long))
