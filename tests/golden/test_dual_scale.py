"""W4A5-SE encode and decode against requirement Q6 in exact fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.errors import InputError
from golden.operations.dual_scale import decode, encode, pack, unpack
from golden.scheme import DualScale

SCALES = st.builds(DualScale, code_bits=st.integers(2, 8), ratio_log2=st.integers(0, 4))


def definition(x: int, shift: int, dual: DualScale) -> tuple[int, int, Fraction]:
    """Q6 word by word: code q, flag f, dequantized value in input units."""
    limit = dual.code_limit
    s1, rho = Fraction(2) ** shift, 2**dual.ratio_log2
    f = int(abs(round(x / s1)) > limit)
    step = s1 * rho if f else s1
    q = min(max(round(x / step), -limit), limit)
    return q, f, q * step


@given(st.integers(-(1 << 30), 1 << 30), st.integers(0, 24), SCALES)
def test_encode_and_decode_are_the_definition(x, shift, dual):
    code, flag = encode(x, shift, dual)
    q, f, value = definition(x, shift, dual)
    assert (int(code), int(flag)) == (q, f)
    assert Fraction(2) ** shift * int(decode(code, flag, dual)) == value


@given(SCALES)
def test_every_stored_word_survives_packing(dual):
    words = np.arange(1 << (dual.code_bits + 1))
    code, flag = unpack(words, dual)
    assert code.min() == -(1 << (dual.code_bits - 1))
    assert np.array_equal(pack(code, flag, dual), words)


@given(st.integers(-(1 << 12), 1 << 12))
def test_the_decoded_value_fits_its_width(x):
    dual = DualScale()
    value = int(decode(*encode(x, 4, dual), dual))
    assert abs(value) < 1 << (dual.value_bits - 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"code_bits": 1}, r"code_bits = 1 is outside 2\.\.8"),
        ({"code_bits": 9}, r"code_bits = 9 is outside 2\.\.8"),
        ({"ratio_log2": -1}, r"ratio_log2 = -1 is outside 0\.\.4"),
        ({"ratio_log2": 5}, r"ratio_log2 = 5 is outside 0\.\.4"),
    ],
)
def test_bad_formats_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        DualScale(**arguments)


def test_only_ratios_that_shift_are_hardware():
    assert DualScale.of_ratio(4.0) == DualScale(ratio_log2=2)
    assert DualScale.of_ratio(16, code_bits=5).value_bits == 9
    for ratio in (3.0, 2025.0, 32.0, 0.5, float("nan")):
        with pytest.raises(InputError, match="which hardware can shift by"):
            DualScale.of_ratio(ratio)
