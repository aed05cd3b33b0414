"""Real factors that a block's function does not notice, chosen so that powers of two fit better.

A format's step is a power of two, and the best step of a tensor lies up to half an octave beside
it: 4 bits of normal numbers have half as much squared error again where it is half an octave off.
Some tensors may have any factor, as weights before them multiply by it and weights behind them
divide: the norm's output (its weight, in_proj), B and C (rows of x_proj, and the state between
them), and with their product y (the skip D, out_proj).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.scheme import Scheme
from model.calibration import BlockValues
from model.network_parameters import LayerParameters
from model.observers import fraction_by_error, rounding_error
from model.rotation import hadamard_columns
from model.sensitivity import LayerSensitivity

__all__ = ["scale_norm", "scale_read_out"]

Array = npt.NDArray[Any]

_STEPS = 8
"""Factors tried an octave."""
_ELEMENTS = 1 << 19
"""Values that decide a factor."""


def _part(values: Array) -> Array:
    """Return evenly spaced rows of ``values`` (rows, channels), at most so many values."""
    return values[:: -(-values.size // _ELEMENTS)]


def _best_exponent(error: Callable[[float], float], octave: int) -> float:
    """Return the exponent of least error, in parts of an octave, about the best whole one."""
    candidates = octave + np.arange(1 - _STEPS, _STEPS) / _STEPS
    return float(min(candidates, key=error))


def _factor(exponent: float) -> float:
    """Return what to multiply a tensor by so that a whole exponent is as good as ``exponent``."""
    return float(2.0 ** (exponent - np.rint(exponent)))


def scale_norm(layer: LayerParameters, samples: dict[str, Array], bits: int) -> LayerParameters:
    """Return the block whose norm's output suits ``bits``, and scale ``samples``."""
    values = _part(samples["norm"])

    def error(exponent: float) -> float:
        return float(rounding_error(values, exponent, bits).sum())

    factor = _factor(_best_exponent(error, int(fraction_by_error(values, bits))))
    samples["norm"] = samples["norm"] * np.float32(factor)
    return dataclasses.replace(
        layer, norm_weight=layer.norm_weight * factor, in_proj=layer.in_proj / factor
    )


def _relative_error(values: Array, exponent: float, bits: int) -> float:
    """Return the squared error of a format with the best whole exponents moved by a fraction."""
    scaled = values * np.float32(2.0**exponent)
    whole = int(fraction_by_error(scaled, bits))
    return float(rounding_error(scaled, whole, bits).sum() / np.square(scaled, dtype=float).sum())


def scale_read_out(
    layer: LayerParameters,
    values: BlockValues,
    samples: dict[str, Array],
    scheme: Scheme,
    sensitivity: LayerSensitivity | None,
) -> tuple[LayerParameters, LayerSensitivity | None]:
    """Return a Mamba-1 block whose B, C and rotated y SiLU(z) suit their formats.

    B alone decides its factor. That of y has the least sum of relative errors of C, of what is
    rotated and of what the rotation makes. ``values`` and ``samples`` are scaled as the block is.
    """
    assert scheme.rotation_bits is not None  # else channels have exponents of their own
    bits, b = scheme.activation_bits, _part(samples["b"])
    own = _best_exponent(
        lambda exponent: float(rounding_error(b, exponent, bits).sum()),
        int(fraction_by_error(b, bits)),
    )
    of_b = own - np.rint(own)
    gated, c = _part(samples["gated"]), _part(samples["c"])
    rotated = (gated @ hadamard_columns(gated.shape[1])).astype(np.float32)
    tensors = ((gated, scheme.rotation_bits), (rotated, scheme.projection_input_bits))

    def error(exponent: float) -> float:
        found = sum(_relative_error(tensor, exponent, width) for tensor, width in tensors)
        return found + _relative_error(c, exponent - of_b, bits)

    of_y = min((np.arange(_STEPS) / _STEPS - 0.5).tolist(), key=error)
    return _scaled(layer, values, samples, sensitivity, 2.0**of_b, 2.0 ** (of_y - of_b))


def _scaled(
    layer: LayerParameters, values: BlockValues, samples: dict[str, Array],
    sensitivity: LayerSensitivity | None, b: float, c: float,
) -> tuple[LayerParameters, LayerSensitivity | None]:  # fmt: skip
    """Multiply B by ``b`` and C by ``c``."""
    factors = {"b": b, "c": c, "state": b, "scan_output": b * c, "gated": b * c}
    for name, factor in factors.items():
        samples[name] = samples[name] * np.float32(factor)
        if name in values.whole:
            values.whole[name] = values.whole[name] * np.float32(factor)
    states = samples["b"].shape[1]
    rows = np.ones(len(layer.x_proj))
    rows[-2 * states : -states], rows[-states:] = b, c
    layer = dataclasses.replace(
        layer,
        x_proj=layer.x_proj * rows[:, None],
        skip=layer.skip * (b * c),
        out_proj=layer.out_proj / (b * c),
    )
    if sensitivity is not None:
        felt = sensitivity.x_proj / np.outer(rows, rows)
        sensitivity = dataclasses.replace(sensitivity, x_proj=felt)
    return layer, sensitivity
