"""Post-training quantization of a frame network: float weights in, integer program out.

Front and head are quantized like the blocks: each matrix is fitted to what the integer network
really feeds it, then rounded, and its bias takes the mean error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.fixed_point import (
    Integers,
    fraction_bits_for,
    integer_range,
    requantize,
    saturate,
    to_fixed_point,
    to_real,
)
from golden.layer import Layer, Linear
from golden.operations.activation import silu
from golden.operations.linear import accumulate
from golden.operations.normalization import NORMALIZED_FRACTION, epsilon_integer, rms_norm
from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_INPUT_FRACTION
from golden.program import FeatureEmbedding, PooledHead, Program
from golden.random_program import standard_tables
from golden.scheme import Scheme
from golden.validation import validate
from model.calibration import BlockValues
from model.float_simulation import FloatNetwork, FloatState
from model.float_simulation import rms_norm as float_rms_norm
from model.formats import choose_formats, split_channels
from model.frame_parameters import FrameParameters
from model.frames import FEATURE_LIMIT
from model.layer_quantization import LayerQuantizer
from model.linear_fit import BIAS_BITS, fit_biased
from model.observers import fraction_by_error
from model.program_builder import norm_weight_integers
from model.quantizer import QuantizationChoice, smooth_norm
from model.weight_rounding import round_rows

__all__ = ["quantize_frames"]

Array = npt.NDArray[Any]

_HEADROOM = 1.3
"""The residual stream and the outputs may grow by that much beyond the calibration frames'."""
_TABLES = standard_tables()


class FrameQuantizer:
    """Quantizes one frame network on calibration frames.

    Parameters
    ----------
    parameters, scheme, choice : weights, widths and options
    features : real features (frames, T, F)
    """

    def __init__(
        self,
        parameters: FrameParameters,
        scheme: Scheme,
        features: Array,
        choice: QuantizationChoice,
    ) -> None:
        self._scheme, self._choice = scheme, choice
        self._parameters = parameters.rotated(choice.seed) if choice.rotate else parameters
        self._shape = parameters.network.shape
        self._features = np.clip(features, -FEATURE_LIMIT, FEATURE_LIMIT)
        self._blocks: list[BlockValues] = []
        self._float_blocks()

    def _float_blocks(self) -> None:
        """Run the float network and keep every block's values and the stream's range."""
        own, network = self._parameters, FloatNetwork(self._parameters.network)
        residual = (self._features @ own.projection.T + own.position).astype(np.float32)
        self._embedded, peak = residual, float(np.abs(residual).max())
        state = FloatState.zeros(own.network, len(residual))
        for index in range(self._shape.n_layer):
            values = BlockValues()
            residual = network.layer(index, residual, state, values.record)
            self._blocks.append(values)
            peak = max(
                peak, float(np.abs(residual).max()), float(np.abs(values.whole["out"]).max())
            )
        fraction = fraction_bits_for(_HEADROOM * peak, self._scheme.residual_bits)
        self._fraction = int(np.clip(fraction, 2, 16))
        self._pooled = residual.mean(axis=1)  # frames d

    def program(
        self, provenance: dict[str, object], advance: Callable[[str], None] = lambda _block: None
    ) -> Program:
        """Return the integer program; ``advance`` is told what is being quantized.

        Raises
        ------
        InputError
            If a tensor, a shift or an accumulator leaves its range.
        """
        front, residual = self._front()
        layers: list[Layer] = []
        for index, values in enumerate(self._blocks):
            advance(f"block {index}")
            layer, residual = self._block(index, values, residual)
            layers.append(layer)
        advance("head")
        scheme, own = self._scheme, self._parameters.network
        norm_weight, norm_weight_fraction = norm_weight_integers(
            own.final_norm_weight, scheme.norm_weight_bits
        )
        shift = residual.shape[1].bit_length() - 1
        pooled = requantize(residual.sum(axis=1), shift, scheme.residual_bits)  # frames d
        wanted = float_rms_norm(self._pooled, own.final_norm_weight)  # frames d
        norm_fraction = self._choice.formats.fraction(wanted, scheme.activation_bits, (1, 1))
        norm = rms_norm(
            pooled,
            norm_weight,
            epsilon=epsilon_integer(self._shape.d_model, self._fraction),
            shift=NORMALIZED_FRACTION + norm_weight_fraction - norm_fraction,
            bits=scheme.activation_bits,
            table=_TABLES.reciprocal,
        )
        head, logit_fraction, hidden = self._head(norm, norm_fraction, wanted)
        return validate(
            Program(
                shape=self._shape,
                scheme=scheme,
                layers=tuple(layers),
                tables=_TABLES,
                front=front,
                residual_fraction=self._fraction,
                final_norm_weight=norm_weight,
                final_norm_weight_fraction=norm_weight_fraction,
                final_norm_fraction=norm_fraction,
                pooled=hidden,
                head=head,
                logit_fraction=logit_fraction,
                provenance=provenance,
            )
        )

    def _front(self) -> tuple[FeatureEmbedding, Integers]:
        """Return the front and the residual stream (frames, T, d) that it writes."""
        scheme, features = self._scheme, self._features
        flat = features.reshape(-1, features.shape[-1])
        # Every feature keeps its whole range: what saturates is decided by FEATURE_LIMIT.
        peak = np.minimum(np.abs(flat).max(axis=0), FEATURE_LIMIT * (1.0 - 2.0**-10))
        fraction, channel = split_channels(fraction_bits_for(peak, scheme.feature_bits))
        scaled = np.rint(np.ldexp(features, fraction + channel))
        integers = saturate(scaled, scheme.feature_bits)  # frames T F
        columns = np.ldexp(1.0, -channel)
        inputs = to_real(integers.reshape(flat.shape), fraction)
        moments, weight = inputs.T @ inputs, self._parameters.projection * columns
        rounded = round_rows(weight, integer_range(scheme.embedding_bits), moments)
        made = (inputs @ rounded.real.T).reshape(self._embedded.shape)
        bias = (self._embedded - made).mean(axis=0)  # T d
        front = FeatureEmbedding(
            projection=Linear(weight=rounded.weight, fraction_bits=rounded.fraction_bits),
            bias=to_fixed_point(bias, rounded.fraction_bits + fraction, BIAS_BITS),
            fraction=fraction,
            channel=channel,
        )
        shift = rounded.fraction_bits + fraction - self._fraction
        total = accumulate(rounded.weight, integers) + front.bias
        return front, requantize(total, shift, scheme.residual_bits)

    def _block(self, index: int, values: BlockValues, residual: Integers) -> tuple[Layer, Integers]:
        """Return block ``index`` and the residual stream (frames, T, d) behind it."""
        layer, samples = self._parameters.network.layers[index], values.samples
        if not self._choice.rotate:
            layer, samples["norm"] = smooth_norm(
                layer, samples["norm"], self._scheme.projection_input_bits
            )
        depth = (index, self._shape.n_layer)
        formats = choose_formats(samples, layer, self._scheme, self._choice.formats, depth)
        quantizer = LayerQuantizer(
            dataclasses.replace(self._shape, frame=None),
            self._scheme,
            self._choice.weights,
            residual,
            self._fraction,
            values.whole,
        )
        draft, residual = quantizer.quantize(layer, formats)
        return draft.build(self._scheme), residual

    def _head(
        self, norm: Integers, norm_fraction: int, wanted_norm: Array
    ) -> tuple[Linear, int, PooledHead]:
        """Return the head, the outputs' exponent and the hidden layer, fitted to ``norm``."""
        scheme, own = self._scheme, self._parameters
        wanted_hidden, wanted = own.outputs(wanted_norm)
        raw = wanted_norm @ own.network.head.T + own.hidden_bias  # frames H
        linear = self._biased(own.network.head, norm, norm_fraction, raw)
        shift = linear.fraction_bits + norm_fraction - ACTIVATION_INPUT_FRACTION
        assert linear.bias is not None  # _biased gives one
        total = accumulate(linear.weight, norm) + linear.bias
        activated = silu(requantize(total, shift, ACTIVATION_INPUT_BITS), _TABLES.silu)
        fraction = int(fraction_by_error(wanted_hidden, scheme.activation_bits))
        pooled = PooledHead(hidden=linear, hidden_fraction=fraction)
        hidden = requantize(activated, 23 - fraction, scheme.activation_bits)
        head = self._biased(own.head, hidden, fraction, wanted)
        peak = _HEADROOM * float(np.abs(wanted).max())
        return head, int(np.clip(fraction_bits_for(peak, scheme.logit_bits), 0, 14)), pooled

    def _biased(self, weight: Array, inputs: Integers, fraction: int, wanted: Array) -> Linear:
        """Fit weight (rows, columns) and bias to map integer inputs to wanted (frames, rows)."""
        limits = integer_range(self._scheme.head_weight_bits)
        real = to_real(inputs, fraction)
        return fit_biased(weight, real, wanted, limits, fraction, self._choice.weights)


def quantize_frames(
    parameters: FrameParameters,
    scheme: Scheme,
    features: Array,
    choice: QuantizationChoice,
    provenance: dict[str, object] | None = None,
    advance: Callable[[str], None] = lambda _block: None,
) -> Program:
    """Return the integer program of a frame network, calibrated on features (frames, T, F).

    Raises
    ------
    InputError
        If a tensor, a shift or an accumulator leaves its range.
    """
    quantizer = FrameQuantizer(parameters, scheme, features, choice)
    return quantizer.program(provenance or {}, advance)
