"""The selective scan in integers: recurrence, read-out and skip (Gu and Dao 2023; Dao and Gu 2024).

``h = decay h + delta B u`` and ``y = sum_n C h + D u``, decay from :mod:`exponent`. The state has
one exponent a channel; every rounding is half to even.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden.fixed_point import Integers, requantize
from golden.operations.exponent import decay, exponent_argument
from golden.piecewise import LinearTable


@dataclass(frozen=True, kw_only=True)
class ScanConstants:
    """What the scan of one layer needs besides its inputs.

    Parameters
    ----------
    rate : ``-A log2(e)``, unsigned (e, n), or (e, 1) where all states of a channel decay alike
    skip : D in the scale of C times h over u (e,)
    argument_shift : bits dropped from ``delta rate`` (may be negative)
    update_shift : bits dropped from ``delta u B`` to align with ``decay h`` (e,)
    output_shift : bits dropped from the read-out sum (e,)
    decay_bits, state_bits, update_bits, output_bits : widths, see :class:`Scheme`
    table : of ``2**-x``
    """

    rate: Integers
    skip: Integers
    argument_shift: int
    update_shift: Integers
    output_shift: Integers
    decay_bits: int
    state_bits: int
    update_bits: int
    output_bits: int
    table: LinearTable


def scan_step(
    state: Integers, delta: Integers, u: Integers, b: Integers, c: Integers, own: ScanConstants
) -> tuple[Integers, Integers]:
    """Return ``(y, new state)`` for one token.

    Shapes: state (..., e, n), delta and u (..., e), y (..., e); b and c (..., n), or (..., e, n)
    where they are not the same for all channels.
    """
    if b.ndim == delta.ndim:
        b, c = b[..., None, :], c[..., None, :]
    argument = exponent_argument(delta[..., :, None], own.rate, own.argument_shift)  # e n
    factor = decay(argument, own.table, own.decay_bits)  # e n
    update = requantize(
        (delta * u)[..., :, None] * b, own.update_shift[:, None], own.update_bits
    )  # e n
    state = requantize(factor * state + update, own.decay_bits, own.state_bits)  # e n
    total = (state * c).sum(axis=-1) + own.skip * u  # e
    return requantize(total, own.output_shift, own.output_bits), state


def selective_scan(
    state: Integers, delta: Integers, u: Integers, b: Integers, c: Integers, own: ScanConstants
) -> tuple[Integers, Integers]:
    """Return ``(y, last state)`` of a sequence: :func:`scan_step` token by token.

    Shapes: state (b, e, n), delta and u (b, l, e), y (b, l, e); b and c (b, l, n) or (b, l, e, n).
    """
    y = np.empty_like(delta)
    for t in range(delta.shape[1]):
        y[:, t], state = scan_step(state, delta[:, t], u[:, t], b[:, t], c[:, t], own)
    return y, state
