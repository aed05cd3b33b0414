"""Rounding, saturation and formats against Python's Fraction and against APyTypes."""

from fractions import Fraction

import numpy as np
import pytest
from apytypes import APyFixedArray, OverflowMode, QuantizationMode
from hypothesis import given
from hypothesis import strategies as st

from golden.errors import InputError
from golden.fixed_point import (
    bits_for,
    fraction_bits_for,
    integer_range,
    requantize,
    round_half_even_shift,
    saturate,
    to_fixed_point,
    to_real,
)

WIDE = st.integers(-(1 << 46), (1 << 46) - 1)


@given(WIDE, st.integers(-12, 50))
def test_shift_rounds_as_fractions_do(value, shift):
    # Python rounds a Fraction half to even.
    expected = round(Fraction(value) / Fraction(2) ** shift)
    assert round_half_even_shift(value, shift) == expected


@given(st.integers(-(1 << 20), 1 << 20), st.integers(1, 12))
def test_every_tie_goes_to_the_even_neighbour(quotient, shift):
    tie = (quotient << shift) + (1 << (shift - 1))
    result = int(round_half_even_shift(tie, shift))
    assert result % 2 == 0
    assert abs((result << shift) - tie) == 1 << (shift - 1)


@pytest.mark.parametrize("shift", range(1, 12))
@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("signed", [True, False])
def test_requantize_equals_apytypes(shift, bits, signed):
    values = np.arange(-(1 << 13), 1 << 13)
    if not signed:
        values = values - values.min()
    judge = APyFixedArray(values.tolist(), bits=20, frac_bits=shift).cast(
        int_bits=bits if signed else bits + 1,
        frac_bits=0,
        quantization=QuantizationMode.TIES_EVEN,
        overflow=OverflowMode.SAT,
    )
    # APyTypes' format is signed: one more bit holds the unsigned range, clipped by its maximum.
    expected = np.minimum(judge.to_numpy(), (1 << bits) - 1) if not signed else judge.to_numpy()
    assert np.array_equal(requantize(values, shift, bits, signed=signed), expected)


@given(WIDE, st.integers(1, 40), st.booleans())
def test_saturation_is_the_nearest_value_of_the_format(value, bits, signed):
    low, high = integer_range(bits, signed=signed)
    assert saturate(value, bits, signed=signed) == min(max(value, low), high)


@given(st.lists(WIDE, min_size=1, max_size=5), st.integers(0, 30))
def test_shift_broadcasts_per_element(values, shift):
    shifts = [shift + i for i in range(len(values))]
    single = [int(round_half_even_shift(v, s)) for v, s in zip(values, shifts, strict=True)]
    assert round_half_even_shift(values, shifts).tolist() == single


@given(st.floats(-1e6, 1e6, allow_nan=False), st.integers(-4, 12))
def test_real_numbers_quantize_as_fractions_do(value, fraction_bits):
    expected = round(Fraction(value) * Fraction(2) ** fraction_bits)
    assert to_fixed_point(value, fraction_bits, 40) == expected
    assert to_real(expected, fraction_bits) == float(Fraction(expected) / 2**fraction_bits)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_numbers_are_refused(value):
    with pytest.raises(ValueError, match="NaN or infinite"):
        to_fixed_point([0.0, value], 4, 8)


@pytest.mark.parametrize("bits", [0, -1, 64])
def test_width_outside_the_machine_is_refused(bits):
    with pytest.raises(ValueError, match=rf"{bits} bits is outside 1\.\.63"):
        integer_range(bits)


@given(st.lists(st.integers(-(1 << 40), 1 << 40), min_size=1, max_size=6))
def test_narrowest_width_holds_the_values_and_one_less_does_not(values):
    bits = bits_for(values)
    assert np.array_equal(saturate(values, bits), values)
    assert bits == 1 or not np.array_equal(saturate(values, bits - 1), values)


def test_unsigned_width_of_a_negative_value_is_refused():
    with pytest.raises(ValueError, match="-3 is negative"):
        bits_for([1, -3], signed=False)
    assert bits_for([0, 255], signed=False) == 8
    assert bits_for([0], signed=False) == 1


@given(st.floats(1e-6, 1e6), st.integers(2, 18))
def test_fraction_bits_are_the_most_that_do_not_clip(magnitude, bits):
    fraction = int(fraction_bits_for(magnitude, bits))
    limit = (1 << (bits - 1)) - 1
    assert round(Fraction(magnitude) * Fraction(2) ** fraction) <= limit
    assert round(Fraction(magnitude) * Fraction(2) ** (fraction + 1)) > limit


def test_bad_input_is_told_apart_from_a_defect():
    assert issubclass(InputError, ValueError)
