"""Quantizes one block with a moving average, each matrix on what the integers really feed it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.average import AverageLayer
from golden.fixed_point import Integers, integer_range, to_fixed_point, to_real
from golden.layer import BlockFormats, Linear
from golden.piecewise import ACTIVATION_INPUT_FRACTION
from golden.program import Program
from golden.reference import ReferenceBlocks
from golden.scheme import Scheme
from golden.state import State
from model.calibration import thin
from model.formats import dual_scale_fractions, split_channels
from model.linear_fit import BIAS_BITS, fit_biased, fit_linear
from model.program_builder import norm_weight_integers
from model.quantizer import QuantizationChoice
from model.rotation import hadamard_columns
from model.slim_parameters import SlimLayerParameters
from model.weight_rounding import round_rows

__all__ = ["AverageQuantizer"]

Array = npt.NDArray[Any]


class _ReachedError(Exception):
    """Stops the executor once the wanted value is there."""


class AverageQuantizer:
    """Turns one block into integers.

    Parameters
    ----------
    program : of the network that the block belongs to; its layers do not count
    choice : options
    residual : the integer network's residual stream before the block, (b, T, d)
    wanted : the float network's values, see :class:`model.slim_parameters.SlimValues`
    """

    def __init__(
        self,
        program: Program,
        choice: QuantizationChoice,
        residual: Integers,
        wanted: dict[str, Array],
    ) -> None:
        self._program, self._choice = program, choice
        self._residual, self._wanted = residual, wanted
        self._scheme: Scheme = program.scheme

    def quantize(
        self, own: SlimLayerParameters, depth: tuple[int, int]
    ) -> tuple[AverageLayer, Integers]:
        """Return block ``depth[0]`` of ``depth[1]``, and the residual stream behind it."""
        scheme, wanted, weights = self._scheme, self._wanted, self._choice.weights
        formats = self._formats(depth)
        layer = self._nearest(own, formats)
        norm = to_real(self._run(layer, "norm"), formats.norm)
        rows = [wanted["x"], wanted["z"]] if "z" in wanted else [wanted["x"]]
        in_proj = fit_linear(
            own.in_proj, norm, np.concatenate(rows, axis=-1), scheme.weight_range, weights
        )
        layer = dataclasses.replace(layer, in_proj=in_proj)
        if layer.convolution is not None:
            layer = dataclasses.replace(layer, convolution=self._centre(layer, layer.convolution))
        u = to_real(self._run(layer, "u"), formats.u)
        # Channels with finer inputs meet coarser columns, as in out_proj.
        columns = np.ldexp(1.0, -formats.u_channel)
        dt_proj = fit_biased(
            own.dt_proj * columns, u, wanted["dt_raw"], scheme.weight_range, formats.u, weights
        )
        layer = dataclasses.replace(layer, dt_proj=dt_proj)
        layer = dataclasses.replace(layer, out_proj=self._out_proj(own, layer))
        return layer, self._run(layer, "residual")

    def _formats(self, depth: tuple[int, int]) -> BlockFormats:
        """Return the exponents of the block."""
        scheme, choice, wanted = self._scheme, self._choice.formats, self._wanted
        bits, projection = scheme.activation_bits, scheme.projection_input_bits
        shape = self._program.shape

        def find(name: str, width: int, *, per_channel: bool = False) -> Any:
            return choice.fraction(thin(wanted[name]), width, depth, per_channel=per_channel)

        u, u_channel = split_channels(find("u", projection, per_channel=True))
        scan_u = u + u_channel
        if scheme.dual_scale is not None:
            rule = choice.dual_scale_rule
            scan_u = dual_scale_fractions(thin(wanted["u"]), scheme.dual_scale, rule)
        elif self._program.separate_scan_input:
            scan_u = find("u", scheme.scan_input_bits, per_channel=True)
        rotation, inputs = None, thin(wanted["gated"])
        if scheme.rotation_bits is not None:
            rotation = find("gated", scheme.rotation_bits)
            inputs = inputs @ hadamard_columns(inputs.shape[1])
        gated, gated_channel = split_channels(
            choice.fraction(inputs, projection, depth, per_channel=True), choice.gated_surplus
        )
        x = np.full(shape.d_inner, ACTIVATION_INPUT_FRACTION)
        return BlockFormats(
            norm_weight=0,  # follows from the weight
            norm=find("norm", projection),
            x=find("x", bits, per_channel=True) if shape.convolved else x,
            u=u,
            u_channel=u_channel,
            scan_u=scan_u,
            gate=find("gate", scheme.gate_bits) if shape.gated else 0,
            gated=gated,
            gated_channel=gated_channel,
            rotation=rotation,
        )

    def _nearest(self, own: SlimLayerParameters, formats: BlockFormats) -> AverageLayer:
        """Return the block with every matrix rounded to nearest."""
        scheme = self._scheme
        norm_weight, norm_fraction = norm_weight_integers(own.norm_weight, scheme.norm_weight_bits)

        def rounded(
            weight: Array, limits: tuple[int, int], bias: Array | None = None, inputs: Any = 0
        ) -> Linear:
            rows = round_rows(weight, limits, compensate=False)
            integers = None
            if bias is not None:
                integers = to_fixed_point(bias, rows.fraction_bits + inputs, BIAS_BITS)
            return Linear(weight=rows.weight, fraction_bits=rows.fraction_bits, bias=integers)

        limits, convolution = scheme.weight_range, None
        if own.taps is not None:
            convolution = rounded(
                own.taps, integer_range(scheme.convolution_weight_bits), own.taps_bias, formats.x
            )
        return AverageLayer(
            norm_weight=norm_weight,
            in_proj=rounded(own.in_proj, limits),
            convolution=convolution,
            dt_proj=rounded(own.dt_proj, limits, own.dt_bias, formats.u),
            out_proj=rounded(own.out_proj, limits),
            formats=dataclasses.replace(formats, norm_weight=norm_fraction),
        )

    def _centre(self, layer: AverageLayer, convolution: Linear) -> Linear:
        """Return the convolution whose bias takes the mean error of its results."""
        made = to_real(self._run(layer, "convolution"), ACTIVATION_INPUT_FRACTION)
        error = (self._wanted["convolution"] - made).mean(axis=(0, 1))
        assert convolution.bias is not None  # made with one
        scale = convolution.fraction_bits + layer.formats.x
        return dataclasses.replace(
            convolution, bias=convolution.bias + to_fixed_point(error, scale, BIAS_BITS)
        )

    def _out_proj(self, own: SlimLayerParameters, layer: AverageLayer) -> Linear:
        """Round out_proj to reach the float residual stream from the integer one."""
        scheme, formats, weight = self._scheme, layer.formats, own.out_proj
        name = "gated"
        if scheme.rotation_bits is not None:
            size, name = weight.shape[1], "rotated"
            weight = weight @ hadamard_columns(size) / size
        gated = to_real(self._run(layer, name), formats.gated)
        residual = to_real(self._residual, self._program.residual_fraction)
        return fit_linear(
            weight * np.ldexp(1.0, -formats.gated_channel),
            gated,
            self._wanted["residual"] - residual,
            scheme.weight_range,
            self._choice.weights,
        )

    def _run(self, layer: AverageLayer, name: str) -> Integers:
        """Return the integers of probe ``name`` (b, T, ...)."""
        shape = dataclasses.replace(self._program.shape, n_layer=1)
        program = dataclasses.replace(self._program, shape=shape, layers=(layer,))
        found: list[Integers] = []

        def probe(stage: str, index: int, values: Integers) -> None:
            del index
            if stage == name:
                found.append(values)
                raise _ReachedError

        try:
            state = State.zeros(program, len(self._residual))
            ReferenceBlocks(program).forward(self._residual, state, probe)
        except _ReachedError:
            return found[0]
        raise AssertionError(f"the executor has no probe {name}")
