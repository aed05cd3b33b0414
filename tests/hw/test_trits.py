"""Balanced ternary digits of the head's weights."""

import numpy as np
import pytest

from golden.fixed_point import integer_range
from golden.scheme import Scheme
from hw.trits import balanced_trits


def test_digits_are_exact_over_the_whole_range():
    weight = np.arange(-364, 365).reshape(27, 27)
    digits = balanced_trits(weight, 6).reshape(27, 27, 6)
    assert set(np.unique(digits)) == {-1, 0, 1}
    np.testing.assert_array_equal((digits * 3 ** np.arange(6)).sum(axis=-1), weight)


@pytest.mark.parametrize(("bits", "trits"), [(4, 3), (8, 6), (16, 11)])
def test_a_scheme_has_the_digits_that_its_head_needs(bits, trits):
    scheme = Scheme(name="own", weight_bits=2, ternary=True, head_bits=bits)
    assert scheme.head_trits == trits
    limits = np.array([integer_range(bits)])
    digits = balanced_trits(limits, trits).reshape(2, trits)
    np.testing.assert_array_equal((digits * 3 ** np.arange(trits)).sum(axis=-1), limits[0])
    with pytest.raises(ValueError, match=f"more than {trits - 1} ternary digits"):
        balanced_trits(limits, trits - 1)


@pytest.mark.parametrize("value", [-365, 365])
def test_larger_weights_are_refused(value):
    with pytest.raises(ValueError, match="weights beyond 364 have more than 6 ternary digits"):
        balanced_trits(np.array([[0, value]]), 6)
