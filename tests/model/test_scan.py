"""The parallel scan against the sequential one, values and gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from model.configuration import MambaConfiguration
from model.mamba import MambaLanguageModel
from model.scan import linear_recurrence, parallel_states, read_out, sequential_states
from model.scan_check import compare_scans

TOLERANCE = 1e-5  # of the largest value


def arguments(batch, length, channels, states, seed, spread):
    """u, delta, A, B and the initial state; a large ``spread`` makes decays underflow to 0."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return [
        draw(batch, length, channels),  # u: b l e
        draw(batch, length, channels).abs() * spread,  # delta: b l e
        -draw(channels, states).abs() * 4 - 0.01,  # A: e n
        draw(batch, length, states),  # B: b l n
        draw(batch, channels, states),  # initial: b e n
    ]


def outcome(scan, values, weight):
    """States and the gradients of a weighted sum of them."""
    leaves = [value.clone().requires_grad_() for value in values]
    states = scan(*leaves)  # b l e n
    return [states.detach(), *torch.autograd.grad((states * weight).sum(), leaves)]


def assert_near(found, expected):
    limit = TOLERANCE * max(1.0, float(expected.abs().max()))
    assert float((found - expected).abs().max()) <= limit


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 1 << 30),
    spread=st.sampled_from([0.0, 0.02, 0.5, 100.0]),
)
def test_states_and_gradients_equal_the_sequential_ones(sizes, seed, spread):
    values = arguments(*sizes, seed, spread)
    weight = torch.randn(*sizes, generator=torch.Generator().manual_seed(seed + 1))
    pairs = zip(
        outcome(parallel_states, values, weight),
        outcome(sequential_states, values, weight),
        strict=True,
    )
    for found, expected in pairs:
        assert_near(found, expected)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 255, 256, 257, 300, 1000])
def test_lengths_around_the_chunk_boundaries(length):
    values = arguments(1, length, 3, 2, seed=length, spread=0.1)
    assert_near(parallel_states(*values), sequential_states(*values))


def test_gradients_equal_finite_differences():
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 19, 2), (2, 19, 2), (2, 2))  # decay, drive, initial
    leaves = [
        torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]
    assert torch.autograd.gradcheck(linear_recurrence, leaves)


def test_read_out_is_the_sum_over_states_and_the_skip():
    states = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])  # b l e n
    y = read_out(states, torch.tensor([[[10.0, 1.0]]]), torch.ones(1, 1, 2), torch.tensor([5, 6]))
    assert y.tolist() == [[[17.0, 40.0]]]


class Counter(TorchDispatchMode):
    """Counts tensor operations."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, _types, positional=(), keywords=None):
        self.count += 1
        return function(*positional, **(keywords or {}))


def operations(length: int) -> int:
    values = arguments(1, length, 1, 1, seed=0, spread=0.1)
    with Counter() as counter:
        parallel_states(*values)
    return counter.count


def test_operations_grow_with_the_logarithm_of_the_length():
    short, long, longer = operations(64), operations(1024), operations(16384)
    assert long - short == longer - long  # equal cost for each factor of 16
    assert longer < 400


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_whole_model_trains_alike_with_both_scans(dropout):
    configuration = MambaConfiguration(vocab_size=19, d_model=10, n_layer=2, d_state=3)
    tokens = torch.randint(19, (2, 45), generator=torch.Generator().manual_seed(5))
    results = []
    for scan in ("parallel", "sequential"):
        torch.manual_seed(7)
        model = MambaLanguageModel(configuration, scan=scan, dropout=dropout)
        logits = model(tokens)  # b l v
        logits.square().mean().backward()
        results.append([logits.detach(), *(p.grad for p in model.parameters())])
    for found, expected in zip(*results, strict=True):
        assert_near(found, expected)


def test_bad_options_are_refused():
    configuration = MambaConfiguration(vocab_size=4, d_model=4, n_layer=1)
    with pytest.raises(ValueError, match="unknown scan 'serial', known: parallel"):
        MambaLanguageModel(configuration, scan="serial")
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        MambaLanguageModel(configuration, dropout=1.0)


@pytest.mark.gpu
def test_the_triton_scan_equals_the_parallel_one():
    assert "agrees" in compare_scans("cuda")
