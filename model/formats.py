"""Chooses the exponents of one block from the float network's values on calibration text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.fixed_point import Integers, fraction_bits_for, integer_range
from golden.layer import SHIFT_LIMITS, LayerFormats
from golden.operations import dual_scale as dual_scale_operation
from golden.piecewise import ACTIVATION_INPUT_FRACTION, ACTIVATION_OUTPUT_FRACTION
from golden.scheme import DualScale, Scheme
from model.network_parameters import LayerParameters
from model.observers import fraction_by_error, fraction_by_range, zero_points
from model.range_observers import layer_alpha, make_observer
from model.rotation import hadamard_columns

__all__ = [
    "FormatChoice", "choose_formats", "dual_scale_error", "dual_scale_fractions", "split_channels",
]  # fmt: skip

Array = npt.NDArray[Any]
Samples = Mapping[str, Array]
"""Values of one block by stage name, each (samples, channels); ``state`` is (samples, e, n)."""

_FRACTION_LIMITS = (-6, 14)
_DUAL_SCALE_QUANTILE = 0.99
_DECAY_SAMPLES = 48
_SLOWEST = 1e-3
"""Decays nearer to one than this count as that near: the text is not longer."""


@dataclass(frozen=True, kw_only=True)
class FormatChoice:
    """How exponents are chosen.

    Parameters
    ----------
    observer : ``mse`` (least squared error of exponents) or one of model.range_observers
    per_layer_alpha : Q1's alpha by depth instead of the preset's
    dual_scale_rule : ``mse``, or ``quantile`` for the texts' .99 quantile over the code's limit
    gated_surplus : by how many bits a channel of out_proj's input may be finer than the coarsest;
        more would cost the columns of out_proj more than the input gains
    common : the channels of x_proj's and out_proj's inputs have one exponent, as columns of
        matrices that stay as they are cannot be made coarser
    """

    observer: str = "mse"
    per_layer_alpha: bool = False
    dual_scale_rule: str = "mse"
    gated_surplus: int = 2
    common: bool = False

    def fraction(
        self, values: Array, bits: int, depth: tuple[int, int], *,
        signed: bool = True, per_channel: bool = False,
    ) -> Any:  # fmt: skip
        """Return the exponent of ``values`` (samples, channels); depth is (layer, layers)."""
        if self.observer == "mse":
            found = fraction_by_error(values, bits, signed=signed, per_channel=per_channel)
        else:
            alpha = layer_alpha(*depth) if self.per_layer_alpha else None
            levels = integer_range(bits, signed=signed)[1]
            columns = values.T[..., None] if per_channel else [values]
            found = np.array([
                fraction_by_range(
                    column, bits, make_observer(self.observer, levels, alpha), signed=signed
                )
                for column in columns
            ])  # fmt: skip
        limited = np.clip(found, *_FRACTION_LIMITS).astype(np.int64)
        return limited if per_channel else int(limited.reshape(-1)[0])

    def channels(
        self, values: Array, bits: int, depth: tuple[int, int], most: int = 8
    ) -> tuple[int, Integers]:
        """Return the common exponent of a matrix's input, and by how much channels are finer."""
        if self.common:
            return self.fraction(values, bits, depth), np.zeros(values.shape[1], np.int64)
        return split_channels(self.fraction(values, bits, depth, per_channel=True), most)

    def codes(
        self, values: Array, bits: int, depth: tuple[int, int]
    ) -> tuple[int, Integers, Integers]:
        """Return what :meth:`channels` does for unsigned codes, and the channels' zero points."""
        if self.observer == "mse":
            found = fraction_by_error(values, bits, per_channel=not self.common, offset=True)
            found = np.clip(found, *_FRACTION_LIMITS)
        else:
            # Codes reach as far up as a signed format of one bit more, but for the zero point.
            found = self.fraction(values, bits + 1, depth, per_channel=not self.common)
        common, surplus = split_channels(np.broadcast_to(found, values.shape[1]))
        return common, surplus, zero_points(values, common + surplus, bits)


def dual_scale_error(values: Array, fraction: int, dual: DualScale) -> float:
    """Return the mean squared error of the two-scale code with that fine step's exponent."""
    fine = np.rint(np.ldexp(values, ACTIVATION_OUTPUT_FRACTION)).astype(np.int64)
    code, flag = dual_scale_operation.encode(fine, ACTIVATION_OUTPUT_FRACTION - fraction, dual)
    decoded = np.ldexp(dual_scale_operation.decode(code, flag, dual).astype(float), -fraction)
    return float(np.square(decoded - values).mean())


def dual_scale_fractions(values: Array, dual: DualScale, rule: str) -> Integers:
    """Return the exponent of each channel's fine step, (e,), for values (samples, e)."""
    return np.array([_dual_scale_fraction(column, dual, rule) for column in values.T])


def _dual_scale_fraction(values: Array, dual: DualScale, rule: str) -> int:
    magnitude = np.abs(values)
    if rule == "quantile":
        step = float(np.quantile(magnitude, _DUAL_SCALE_QUANTILE)) / dual.code_limit
        return int(np.clip(-np.rint(np.log2(max(step, 1e-6))), *_FRACTION_LIMITS))
    first = int(fraction_bits_for(magnitude.max(), dual.value_bits))
    candidates = range(max(first, -6), min(first + 6, 14) + 1)
    return min(candidates, key=lambda fraction: dual_scale_error(values, fraction, dual))


def decay_rate_fraction(rate: Array, delta: Array, state: Array, bits: int) -> int:
    """Return the exponent of the rates ``-A log2(e)`` that disturbs the state least.

    An error ``d'`` of the decay ``d`` disturbs a state of size h by about ``d' h / (1 - d)``.
    Trained rates span five decades, and those whose decay is zero anyway may saturate.

    Parameters
    ----------
    rate : ``-A`` (e, n)
    delta : samples (rows, e)
    state : samples (rows, e, n)
    """
    steps = delta[:: max(1, len(delta) // _DECAY_SAMPLES)][:, :, None]  # rows e 1
    binary = rate * np.log2(np.e)  # e n
    exact = np.exp2(-steps * binary)  # rows e n
    weight = np.square(state).mean(axis=0) / np.square(1.0 - exact + _SLOWEST)  # rows e n
    limit = (1 << bits) - 1

    def error(fraction: int) -> float:
        rounded = np.ldexp(np.minimum(np.rint(np.ldexp(binary, fraction)), limit), -fraction)
        return float((weight * np.square(np.exp2(-steps * rounded) - exact)).sum())

    return min(range(-4, bits + 3), key=error)


def _by_rate(state: Array, rate: Array) -> Array:
    """Return states (rows, e, n), one root mean square for all that share a rate."""
    if state.shape[1:] == rate.shape:
        return state
    heads = state.reshape(len(state), len(rate), -1)  # rows h pn
    return np.asarray(np.sqrt(np.square(heads).mean(axis=2, keepdims=True)))


def split_channels(fractions: Integers, most: int = 8) -> tuple[int, Integers]:
    """Return the common exponent and each channel's surplus of wanted exponents (e,).

    The coarsest channel sets the common exponent; the others are finer by up to ``most`` bits.
    """
    common = int(fractions.min())
    return common, np.minimum(fractions - common, most)


def choose_formats(
    samples: Samples,
    parameters: LayerParameters,
    scheme: Scheme,
    choice: FormatChoice,
    depth: tuple[int, int],
) -> LayerFormats:
    """Return the exponents of one block.

    ``samples`` holds norm, x, u, dt, b, c, delta, state, scan_output, gate and gated, with heads
    also normed.
    """
    heads = parameters.gate_norm_weight is not None

    def find(name: str, bits: int, *, signed: bool = True, per_channel: bool = False) -> Any:
        return choice.fraction(samples[name], bits, depth, signed=signed, per_channel=per_channel)

    bits, projection = scheme.activation_bits, scheme.projection_input_bits
    b, c, e = find("b", bits), find("c", bits), len(parameters.skip)
    inner = {"u": samples["u"][:, :e]}  # with heads B and C are behind
    u_zero: Integers | None = None
    if scheme.asymmetric:
        u, u_channel, u_zero = choice.codes(inner["u"], projection, depth)
    else:
        u, u_channel = choice.channels(inner["u"], bits if heads else projection, depth)
    dual = scheme.dual_scale
    scan_u = u + u_channel
    if heads:
        states = (samples["u"].shape[1] - e) // 2
        u_channel = np.concatenate([u_channel, np.repeat([b - u, c - u], states)])
    if dual is not None:
        scan_u = dual_scale_fractions(inner["u"], dual, choice.dual_scale_rule)
    elif (projection != bits or scheme.asymmetric) and not heads:
        scan_u = find("u", scheme.scan_input_bits, per_channel=True)
    states = np.moveaxis(samples["state"], 1, 2)  # samples n e
    state = choice.fraction(
        states.reshape(-1, states.shape[2]), scheme.state_bits, depth, per_channel=True
    )
    # The skip D has the scale of C h over u and must fit its own width.
    widest = fraction_bits_for(np.abs(parameters.skip), scheme.skip_bits)
    state = np.minimum(state, widest - c + scan_u)
    # A state much finer than its update, which narrow activations make coarse, gains nothing.
    delta = find("delta", scheme.delta_bits, signed=False)
    state = np.minimum(state, delta + scan_u + b - scheme.decay_bits - SHIFT_LIMITS[0])
    mixed = "normed" if heads else "gated"
    rotation, inputs = None, samples[mixed]
    if scheme.rotation_bits is not None:
        rotation = find(mixed, scheme.rotation_bits)
        inputs = inputs @ hadamard_columns(inputs.shape[1])
    # The gated norm's weight levels its channels; only a rotation stands behind it.
    surplus = 0 if heads and rotation is None else choice.gated_surplus
    gated, gated_channel = choice.channels(inputs, projection, depth, surplus)
    if heads and rotation is None:
        gated = choice.fraction(inputs, projection, depth)
    return LayerFormats(
        norm_weight=0,  # follows from the weight when building
        norm=find("norm", projection),
        x=find("x", bits, per_channel=True),
        u=u,
        u_channel=u_channel,
        scan_u=scan_u,
        dt=ACTIVATION_INPUT_FRACTION if heads else find("dt", bits),
        b=b,
        c=c,
        decay_rate=decay_rate_fraction(
            parameters.rate,
            samples["delta"],
            _by_rate(samples["state"], parameters.rate),
            scheme.decay_rate_bits,
        ),
        delta=delta,
        state=state,
        scan_output=find("scan_output", scheme.scan_output_bits, per_channel=True),
        gate=find("gate", scheme.gate_bits),
        gated=gated,
        gated_channel=gated_channel,
        rotation=rotation,
        u_zero=u_zero,
    )
