"""Post-training quantization of a positioning network: float weights in, integer program out.

Each matrix is fitted to what the integers before it really feed it, then rounded, and its bias
takes the mean error, as in :mod:`model.frame_quantizer`; so a matrix makes up for the rounding of
everything before it, on calibration windows, without any training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.average import AverageLayer
from golden.fixed_point import Integers, fraction_bits_for, integer_range, to_fixed_point, to_real
from golden.frames import embed, features_of, patches
from golden.layer import Linear
from golden.program import FeatureEmbedding, Program, RowProjection
from golden.random_program import standard_tables
from golden.reference import final_norm
from golden.scheme import Scheme
from golden.validation import validate
from model.average_quantization import AverageQuantizer
from model.calibration import thin
from model.formats import split_channels
from model.linear_fit import BIAS_BITS, fit_biased, fit_linear
from model.observers import fraction_by_error
from model.program_builder import norm_weight_integers
from model.quantizer import QuantizationChoice, smooth_norm
from model.slim_parameters import SlimParameters, SlimValues

__all__ = ["quantize_slim"]

Array = npt.NDArray[Any]

_HEADROOM = 1.3
"""The residual stream and the outputs may grow by that much beyond the calibration windows'."""


class SlimQuantizer:
    """Quantizes one positioning network on calibration windows.

    Parameters
    ----------
    parameters, scheme, choice : weights, widths and options
    features : real features (b, K, F)
    """

    def __init__(
        self,
        parameters: SlimParameters,
        scheme: Scheme,
        features: Array,
        choice: QuantizationChoice,
    ) -> None:
        self._scheme, self._choice = scheme, choice
        self._own = parameters.rotated(choice.seed) if choice.rotate else parameters
        self._features = features
        self._values = SlimValues.of(self._own, features)
        streams = [self._values.embedded, *(own["out"] for own in self._values.blocks)]
        streams += [own["residual"] for own in self._values.blocks]
        peak = _HEADROOM * max(float(np.abs(values).max()) for values in streams)
        self._fraction = int(np.clip(fraction_bits_for(peak, scheme.residual_bits), 2, 16))

    def program(
        self, provenance: dict[str, object], advance: Callable[[str], None] = lambda _part: None
    ) -> Program:
        """Return the integer program; ``advance`` is told what is being quantized.

        Raises
        ------
        InputError
            If a tensor, a shift or an accumulator leaves its range.
        """
        advance("front")
        program = self._draft(provenance)
        program, integers = self._front(program)
        residual = embed(program, integers)  # b T d
        layers: list[AverageLayer] = []
        for index, own in enumerate(self._own.layers):
            advance(f"block {index}")
            values = self._values.blocks[index]
            if not self._choice.rotate:
                own, norm = smooth_norm(own, values["norm"], self._scheme.activation_bits)  # noqa: PLW2901
                values = values | {"norm": norm}
            quantizer = AverageQuantizer(program, self._choice, residual, values)
            layer, residual = quantizer.quantize(own, (index, len(self._own.layers)))
            layers.append(layer)
        advance("head")
        return validate(
            dataclasses.replace(program, layers=tuple(layers), head=self._head(program, residual))
        )

    def _draft(self, provenance: dict[str, object]) -> Program:
        """Return a program whose formats and norm are final, and whose matrices are empty."""
        scheme, own, values = self._scheme, self._own, self._values
        norm_weight, norm_weight_fraction = norm_weight_integers(
            own.final_norm_weight, scheme.norm_weight_bits
        )
        norm_fraction = self._choice.formats.fraction(
            thin(values.norm), scheme.activation_bits, (1, 1)
        )
        peak = _HEADROOM * float(np.abs(values.outputs).max())
        nothing = Linear(weight=np.zeros((0, 0), np.int64), fraction_bits=np.zeros(0, np.int64))
        flat = self._features.reshape(-1, self._features.shape[-1])
        wanted = fraction_by_error(flat, scheme.feature_bits, per_channel=True)
        fraction, channel = split_channels(wanted)
        rows = int(fraction_by_error(values.rows.reshape(-1, 1), scheme.feature_bits))
        return Program(
            shape=own.shape,
            scheme=scheme,
            layers=(),
            tables=standard_tables(average=True),
            front=FeatureEmbedding(
                projection=nothing,
                bias=np.zeros((0, 0), np.int64),
                fraction=fraction,
                channel=channel,
                rows=RowProjection(linear=nothing, fraction=rows),
            ),
            residual_fraction=self._fraction,
            final_norm_weight=norm_weight,
            final_norm_weight_fraction=norm_weight_fraction,
            final_norm_fraction=norm_fraction,
            head=nothing,
            logit_fraction=int(np.clip(fraction_bits_for(peak, scheme.logit_bits), 0, 14)),
            provenance=provenance,
        )

    def _front(self, program: Program) -> tuple[Program, Integers]:
        """Return the program with its front, and the calibration windows in integers."""
        own, values, front = self._own, self._values, program.feature_embedding
        limits = integer_range(self._scheme.embedding_bits)
        weights, rows = self._choice.weights, front.rows
        assert rows is not None  # a positioning network projects rows
        integers = features_of(program, self._features)  # b K F
        columns = np.ldexp(1.0, -front.channel)
        linear = fit_biased(
            own.rows * columns,
            to_real(integers, front.fraction),
            values.rows,
            limits,
            front.fraction,
            weights,
        )
        rows = dataclasses.replace(rows, linear=linear)
        program = dataclasses.replace(program, front=dataclasses.replace(front, rows=rows))
        inputs = to_real(patches(program, integers), rows.fraction)  # b T (P c)
        mean = inputs.mean(axis=0)  # T (P c)
        centre = values.embedded.mean(axis=0)  # T d
        projection = fit_linear(
            own.projection, inputs - mean, values.embedded - centre, limits, weights
        )
        real = np.ldexp(projection.weight.astype(float), -projection.fraction_bits[:, None])
        bias = centre - mean @ real.T  # T d
        scale = projection.fraction_bits + rows.fraction
        done = dataclasses.replace(
            program.feature_embedding,
            projection=projection,
            bias=to_fixed_point(bias, scale, BIAS_BITS),
        )
        return dataclasses.replace(program, front=done), integers

    def _head(self, program: Program, residual: Integers) -> Linear:
        """Return the head, fitted to the integer network's norms."""
        norm = to_real(final_norm(program, residual), program.final_norm_fraction)  # b T d
        return fit_biased(
            self._own.head,
            norm.reshape(len(norm), -1),
            self._values.outputs,
            integer_range(self._scheme.head_weight_bits),
            program.final_norm_fraction,
            self._choice.weights,
        )


def quantize_slim(
    parameters: SlimParameters,
    scheme: Scheme,
    features: Array,
    choice: QuantizationChoice,
    provenance: dict[str, object] | None = None,
    advance: Callable[[str], None] = lambda _part: None,
) -> Program:
    """Return the integer program of a positioning network, calibrated on windows (b, K, F).

    Raises
    ------
    InputError
        If a tensor, a shift or an accumulator leaves its range.
    """
    return SlimQuantizer(parameters, scheme, features, choice).program(provenance or {}, advance)
