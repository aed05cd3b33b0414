"""Balanced ternary digits of the head's weights."""

import numpy as np
import pytest

from golden.scheme import HEAD_TRITS
from hw.trits import balanced_trits


def test_digits_are_exact_over_the_whole_range():
    weight = np.arange(-364, 365).reshape(27, 27)
    digits = balanced_trits(weight).reshape(27, 27, HEAD_TRITS)
    assert set(np.unique(digits)) == {-1, 0, 1}
    np.testing.assert_array_equal((digits * 3 ** np.arange(HEAD_TRITS)).sum(axis=-1), weight)


@pytest.mark.parametrize("value", [-365, 365])
def test_larger_weights_are_refused(value):
    with pytest.raises(ValueError, match="weights beyond 364 have more than 6 ternary digits"):
        balanced_trits(np.array([[0, value]]))
