"""The selective scan of a program in reals, with any width for each kind of number in it.

The recurrence is that of :mod:`golden.operations.scan`. A width of None leaves the kind unrounded:
its step is then ``2**-40``, below that of float32 for everything above ``2**-16``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from golden.fixed_point import to_real
from golden.layer import Layer
from golden.piecewise import EXPONENT_BITS, EXPONENT_FRACTION
from golden.program import Program
from golden.scheme import Scheme
from model.unit_tables import UnitTables, look_up

__all__ = ["RoundingWatch", "ScanWidths", "SimulatedScan"]

Array = npt.NDArray[Any]

RoundingWatch = Callable[[Array, Array, Array], None]
"""Shown values before and after a requantizer (b, t, channels), and its steps (channels,)."""

_FREE_FRACTION = 40
_FREE_LIMIT = float(1 << 52)
_ELEMENTS = 1 << 18
"""Decays computed at once, for a cache to hold."""
_ARGUMENT_SCALE = float(1 << EXPONENT_FRACTION)
_ARGUMENT_LIMIT = float((1 << EXPONENT_BITS) - 1)


@dataclass(frozen=True, kw_only=True)
class ScanWidths:
    """Bits of the numbers inside the scan; None is not rounded, so the default is a float scan.

    Parameters
    ----------
    delta : step size, unsigned
    decay : fraction bits of ``exp(delta A)``
    state : h
    scan_output : y
    """

    delta: int | None = None
    decay: int | None = None
    state: int | None = None
    scan_output: int | None = None

    @classmethod
    def of(cls, scheme: Scheme) -> ScanWidths:
        """Return the widths of a scheme."""
        return cls(
            delta=scheme.delta_bits,
            decay=scheme.decay_bits,
            state=scheme.state_bits,
            scan_output=scheme.scan_output_bits,
        )


def _scale(fraction: Any, own_bits: int, bits: int | None, channels: int) -> tuple[Array, float]:
    """Return ``1 / step`` (channels,) and the limit of a format that keeps its range.

    ``fraction`` belongs to ``own_bits``; a bit less halves the number of steps in that range.
    """
    if bits is None:
        return np.full(channels, 2.0**_FREE_FRACTION), _FREE_LIMIT
    exponents = np.broadcast_to(np.asarray(fraction, np.int64), (channels,)) + bits - own_bits
    return np.ldexp(1.0, exponents), float((1 << (bits - 1)) - 1)


@numba.njit(cache=True, nogil=True)
def _unsigned(values: Array, scale: float, limit: float) -> None:  # pragma: no cover - compiled
    for i in range(len(values)):
        values[i] = min(max(np.rint(values[i] * scale), 0.0), limit) / scale


@numba.njit(cache=True, nogil=True)
def _table_decay(
    delta: Array, rate: Array, table: Array, out: Array
) -> None:  # pragma: no cover - compiled code
    """Write the decay of delta (b, t, e) and rate (e, n) by table look-up, (b, t, e, n)."""
    states = rate.shape[1]
    entry = np.empty(states, np.int32)
    for i in range(out.shape[0]):
        for t in range(out.shape[1]):
            for e in range(len(rate)):
                for n in range(states):
                    argument = np.rint(delta[i, t, e] * rate[e, n] * _ARGUMENT_SCALE)
                    entry[n] = np.int32(min(argument, _ARGUMENT_LIMIT))
                for n in range(states):
                    out[i, t, e, n] = table[np.uint32(entry[n])]


@numba.njit(cache=True, nogil=True, fastmath={"reassoc"})
def _recurrence(
    decay: Array, delta: Array, u: Array, bc: Array, skip: Array, update_scale: Array,
    update_limit: float, state_scale: Array, state_limit: float, state: Array, y: Array,
) -> None:  # pragma: no cover - compiled code  # fmt: skip
    """Advance the state (b, e, n) and write the read-out (b, t, e), not yet rounded.

    Shapes: decay (b, t, e, n), delta and u (b, t, e), bc (b, t, 2n), scales and skip (e,). Sums of
    the program's numbers are exact in any order.
    """
    states = state.shape[2]
    for i in range(state.shape[0]):
        for t in range(decay.shape[1]):
            for e in range(state.shape[1]):
                drive = delta[i, t, e] * u[i, t, e]
                up, down = update_scale[e], 1.0 / update_scale[e]
                fine, step = state_scale[e], 1.0 / state_scale[e]
                total = 0.0
                for n in range(states):
                    raw = np.rint(drive * bc[i, t, n] * up)
                    update = min(max(raw, -update_limit - 1.0), update_limit) * down
                    new = np.rint((decay[i, t, e, n] * state[i, e, n] + update) * fine)
                    new = min(max(new, -state_limit - 1.0), state_limit) * step
                    state[i, e, n] = new
                    total += new * bc[i, t, states + n]
                y[i, t, e] = total + skip[e] * u[i, t, e]


class SimulatedScan:
    """Softplus, discretization, recurrence and read-out of one layer.

    Parameters
    ----------
    program, layer : the integers, of which the scan's weights and exponents are used
    widths : of delta, decay, state and y
    tables : softplus and the exponential
    watch : shown y before and after its requantizer
    """

    def __init__(
        self,
        program: Program,
        layer: Layer,
        widths: ScanWidths,
        tables: UnitTables,
        watch: RoundingWatch | None = None,
    ) -> None:
        scheme, formats, e = program.scheme, layer.formats, program.shape.d_inner
        self._softplus, self._watch = tables.softplus, watch
        self._delta: tuple[float, float] | None = None
        if widths.delta is not None:
            exponent = formats.delta + widths.delta - scheme.delta_bits
            self._delta = 2.0**exponent, float((1 << widths.delta) - 1)
        self._rate = to_real(layer.decay_rate, formats.decay_rate)  # e n
        self._decay = tables.decay
        if self._decay is not None and widths.decay is not None:
            scale = 2.0**widths.decay
            self._decay = np.rint(self._decay * scale) / scale
        self._skip = to_real(layer.skip, formats.c + formats.state - formats.scan_u)
        self._state_scale, self._state_limit = _scale(
            formats.state, scheme.state_bits, widths.state, e
        )
        self._update_scale, self._update_limit = np.full(e, 2.0**_FREE_FRACTION), _FREE_LIMIT
        if widths.state is not None and widths.decay is not None:
            # As in the contract: aligned to decay h, with two guard bits.
            self._update_scale = self._state_scale * 2.0**widths.decay
            self._update_limit = float((1 << (widths.state + widths.decay + 1)) - 1)
        self._output = _scale(formats.scan_output, scheme.scan_output_bits, widths.scan_output, e)

    def _decays(self, delta: Array) -> Array:
        """Return ``exp(delta A)`` (b, t, e, n)."""
        if self._decay is None:
            return np.exp2(-(delta[..., None] * self._rate).astype(np.float32)).astype(np.float64)
        out = np.empty((*delta.shape, self._rate.shape[1]))
        _table_decay(delta, self._rate, self._decay, out)
        return out

    def advance(self, raw: Array, u: Array, bc: Array, state: Array) -> Array:
        """Return y (b, t, e) and advance ``state`` (b, e, n).

        ``raw`` is softplus' input (b, t, e), ``u`` the scan's input (b, t, e), ``bc`` (b, t, 2n).
        """
        delta = look_up(self._softplus, raw)
        if self._delta is not None:
            _unsigned(delta.reshape(-1), *self._delta)
        y = np.empty_like(u)
        stretch = max(1, _ELEMENTS // state.size)
        for start in range(0, u.shape[1], stretch):
            part = slice(start, start + stretch)
            _recurrence(
                self._decays(np.ascontiguousarray(delta[:, part])), delta[:, part], u[:, part],
                bc[:, part], self._skip, self._update_scale, self._update_limit,
                self._state_scale, self._state_limit, state, y[:, part],
            )  # fmt: skip
        scale, limit = self._output
        rounded: Array = np.clip(np.rint(y * scale), -limit - 1.0, limit) / scale
        if self._watch:
            self._watch(y, rounded, 1.0 / scale)
        return rounded
