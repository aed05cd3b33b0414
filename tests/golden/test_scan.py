"""The integer selective scan against an exact float64 recurrence, within a derived bound."""

from itertools import pairwise

import numpy as np
import pytest

from golden.fixed_point import to_real
from golden.operations.scan import ScanConstants, scan_step, selective_scan
from golden.random_program import standard_tables
from tests.golden import float_network

E, N, LENGTH = 12, 5, 300
DELTA, U, BC, RATE = 10, 5, 5, 6  # fraction bits of the inputs


def constants(state_bits: int, decay_bits: int, output_bits: int, random) -> ScanConstants:
    state = state_bits - 4  # fraction bits; the state stays below 8
    output = output_bits - 6
    return ScanConstants(
        rate=random.integers(8, 1 << 10, (E, N)),
        skip=random.integers(-(1 << 6), 1 << 6, E) << max(state - U, 0),
        argument_shift=DELTA + RATE - 12,
        update_shift=np.full(E, DELTA + U + BC - state - decay_bits),
        output_shift=np.full(E, BC + state - output),
        decay_bits=decay_bits,
        state_bits=state_bits,
        update_bits=state_bits + decay_bits + 2,
        output_bits=output_bits,
        table=standard_tables().exponent,
    )


def stimulus(random):
    delta = np.round(np.exp(random.normal(-3.0, 1.0, (1, LENGTH, E))) * 2**DELTA).astype(int)
    u = random.integers(-64, 64, (1, LENGTH, E))
    b, c = random.integers(-32, 32, (2, 1, LENGTH, N))
    return delta.clip(0, 1023), u, b, c


def derived_bound(own: ScanConstants, delta, states, c) -> np.ndarray:
    """Largest possible |y error| for every token: the sum of every rounding's worst case.

    e_t <= decay e_{t-1} + |h_{t-1}| err(decay) + half a step of the update and of the state. The
    decay's error is the exponent unit's (1.2e-4 and half a step), the argument's rounding times
    the slope ln 2 of ``2**-x``, and ``2**-16`` where the argument saturates.
    """
    step = 0.5 ** (own.state_bits - 4)
    decay_error = 1.2e-4 + 0.5 ** (own.decay_bits + 1) + np.log(2.0) * 0.5**13 + 0.5**16
    rounding = 0.5 * step * (1.0 + 0.5**own.decay_bits)
    error, before = np.zeros((E, N)), np.zeros((E, N))
    bound = np.empty((LENGTH, E))
    for t in range(LENGTH):
        decay = np.exp2(-delta[t, :, None] * to_real(own.rate, RATE))
        # The integer state differs from the exact one by the error so far.
        error = decay * error + (np.abs(before) + error) * decay_error + rounding
        before = states[t]
        bound[t] = error @ np.abs(c[t]) + 0.5 * 0.5 ** (own.output_bits - 6)
    return bound


@pytest.mark.parametrize(("state_bits", "decay_bits"), [(10, 8), (12, 12), (16, 14), (18, 16)])
def test_scan_is_within_the_derived_bound_of_float64(state_bits, decay_bits):
    random = np.random.default_rng(3)
    own = constants(state_bits, decay_bits, 16, random)
    delta, u, b, c = stimulus(random)
    y, state = selective_scan(np.zeros((1, E, N), int), delta, u, b, c, own)
    real = [to_real(v[0], f) for v, f in ((delta, DELTA), (u, U), (b, BC), (c, BC))]
    skip = to_real(own.skip, BC + state_bits - 4 - U)
    exact, states = float_network.scan(*real, to_real(own.rate, RATE), skip, np.zeros((E, N)))
    assert np.abs(states).max() < 7.5  # nothing saturates, so rounding is all there is
    error = np.abs(to_real(y[0], 16 - 6) - exact)
    bound = derived_bound(own, real[0], states, real[3])
    assert (error <= bound).all()
    assert error.max() > 0.0
    assert np.sqrt((bound**2).mean()) < 0.4 * np.sqrt((exact**2).mean())  # it says something
    assert np.abs(to_real(state[0], state_bits - 4) - states[-1]).max() <= bound.max()


def test_error_falls_as_widths_grow():
    errors = []
    for bits in (8, 10, 12, 14):
        random = np.random.default_rng(3)
        own = constants(bits, bits, 18, random)
        delta, u, b, c = stimulus(random)
        y, _ = selective_scan(np.zeros((1, E, N), int), delta, u, b, c, own)
        real = [to_real(v[0], f) for v, f in ((delta, DELTA), (u, U), (b, BC), (c, BC))]
        skip = to_real(own.skip, BC + bits - 4 - U)
        exact, _ = float_network.scan(*real, to_real(own.rate, RATE), skip, np.zeros((E, N)))
        errors.append(np.sqrt(((to_real(y[0], 12) - exact) ** 2).mean()))
    assert all(later < 0.5 * earlier for earlier, later in pairwise(errors))


def test_state_and_output_saturate_at_their_widths():
    own = constants(8, 8, 8, np.random.default_rng(0))
    full = np.full((E,), 127)
    y, state = scan_step(
        np.full((E, N), 127), np.full(E, 1023), full, np.full(N, 127), np.full(N, 127), own
    )
    assert state.max() == 127
    assert y.max() == 127
