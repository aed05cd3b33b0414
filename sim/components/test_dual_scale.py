"""Dual-scale encoder and decoder equal golden: every stored word, edges of the codes, ties."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.operations import dual_scale as golden
from golden.scheme import DualScale
from hw.dual_scale import DualScaleDecoder, DualScaleEncoder
from hw.shift_plan import ShiftPlan
from sim.components.pipes import run_combinational, run_pipe

INPUT_WIDTH = 20


def draw_values(dual_scale: DualScale, shift: int, seed: int) -> np.ndarray:
    """Values about every code's edge and tie in both scales, and random ones."""
    limit = dual_scale.code_limit + 2
    codes = np.arange(-limit * 2, limit * 2 + 1)
    halves = codes << max(shift - 1, 0)
    coarse = codes << max(shift + dual_scale.ratio_log2 - 1, 0)
    near = (np.concatenate([halves, coarse])[:, None] + np.arange(-2, 3)).ravel()
    top = 1 << (INPUT_WIDTH - 1)
    random = np.random.default_rng(seed).integers(-top, top, 100)
    return np.clip(np.concatenate([near, random, [-top, top - 1]]), -top, top - 1)


@settings(max_examples=12)
@given(
    code_bits=st.integers(2, 8),
    ratio_log2=st.integers(0, 4),
    shifts=st.lists(st.integers(-3, 18), min_size=1, max_size=3),
    seed=st.integers(0, 1 << 16),
)
def test_encoder_equals_golden(code_bits, ratio_log2, shifts, seed):
    dual_scale = DualScale(code_bits=code_bits, ratio_log2=ratio_log2)
    plan = ShiftPlan.covering([shifts])
    unit = DualScaleEncoder(dual_scale=dual_scale, input_width=INPUT_WIDTH, plan=plan)
    values, amounts = [], []
    for shift in shifts:
        drawn = draw_values(dual_scale, shift, seed)
        values.append(drawn)
        amounts.append(np.full(len(drawn), shift))
    value, amount = np.concatenate(values), np.concatenate(amounts)
    results = run_pipe(
        Simulator(unit), unit, unit.latency, i=value.tolist(), shift=plan.stored(amount)
    )
    code, flag = golden.encode(value, amount, dual_scale)
    np.testing.assert_array_equal(results, golden.pack(code, flag, dual_scale))


@pytest.mark.parametrize("ratio_log2", range(5))
@pytest.mark.parametrize("code_bits", [2, 4, 8])
def test_decoder_equals_golden_for_every_word(code_bits, ratio_log2):
    dual_scale = DualScale(code_bits=code_bits, ratio_log2=ratio_log2)
    words = np.arange(1 << (code_bits + 1))
    results = run_combinational(DualScaleDecoder(dual_scale=dual_scale), i=words.tolist())
    code, flag = golden.unpack(words, dual_scale)
    np.testing.assert_array_equal(results, golden.decode(code, flag, dual_scale))
