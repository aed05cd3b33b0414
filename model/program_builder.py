"""From rounded weights and chosen exponents to the integers of a program.

A :class:`LayerDraft` keeps what an exponent search changes (the formats) apart from what it does
not (the rounded matrices), so that a changed exponent costs only the tensors that depend on it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.configuration import NetworkShape
from golden.fixed_point import Integers, fraction_bits_for, to_fixed_point
from golden.layer import HeadSelection, Layer, LayerFormats, Linear, ProjectedSelection, Selection
from golden.mlp import GatedMLP, MLPFormats
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program, TokenEmbedding
from golden.random_program import standard_tables
from golden.scheme import Scheme
from golden.validation import validate
from model.network_parameters import LayerParameters, MLPParameters, NetworkParameters
from model.weight_rounding import RoundedRows

__all__ = ["LayerDraft", "MLPDraft", "NetworkDraft", "block_program", "norm_weight_integers"]

Array = npt.NDArray[Any]

_TABLES = standard_tables()
_BIAS_BITS = 31
"""One less than the accumulator, so that products and bias together keep its width."""


def norm_weight_integers(weight: Array, bits: int) -> tuple[Integers, int]:
    """Return ``sqrt(D) w`` (.., d) in integers and their fraction bits: it has the mean's root."""
    scaled = weight * np.sqrt(weight.shape[-1])
    fraction = int(np.clip(fraction_bits_for(np.abs(scaled).max(), bits), -4, 14))
    return to_fixed_point(scaled, fraction, bits), fraction


@dataclass(frozen=True, kw_only=True)
class LayerDraft:
    """One block on its way to integers.

    Members
    -------
    parameters : the real weights, of which norm, biases, rate and skip are rounded here
    reference : weights of the same float function, in the scale of the formats
    in_proj, x_proj, dt_proj, taps : rounded; x_proj and dt_proj are None with heads
    out_proj : rounded in the scale of its input's channels, see ``gated_channel``
    formats : the exponents
    product : that of the gated values in front of the gated norm, with heads
    groups : of channels that this norm takes apart
    """

    parameters: LayerParameters
    reference: LayerParameters
    in_proj: RoundedRows
    taps: RoundedRows
    x_proj: RoundedRows | None
    dt_proj: RoundedRows | None
    out_proj: RoundedRows
    formats: LayerFormats
    product: int = 0
    groups: int = 1

    def build(self, scheme: Scheme) -> Layer:
        """Return the block's integers."""
        formats, own = self.formats, self.parameters
        norm_weight, norm_fraction = norm_weight_integers(own.norm_weight, scheme.norm_weight_bits)
        formats = dataclasses.replace(formats, norm_weight=norm_fraction)
        skip_fraction = formats.c + formats.state - formats.scan_u
        return Layer(
            norm_weight=norm_weight,
            in_proj=_linear(self.in_proj),
            convolution=_linear(self.taps, own.taps_bias, formats.x),
            selection=self._selection(scheme),
            decay_rate=to_fixed_point(
                own.rate * np.log2(np.e), formats.decay_rate, scheme.decay_rate_bits, signed=False
            ),
            skip=to_fixed_point(own.skip, skip_fraction, scheme.skip_bits),
            out_proj=_linear(self.out_proj),
            formats=formats,
        )

    def _selection(self, scheme: Scheme) -> Selection:
        formats, own = self.formats, self.parameters
        if self.x_proj is not None and self.dt_proj is not None:
            return ProjectedSelection(
                x_proj=_linear(self.x_proj),
                dt_proj=_linear(self.dt_proj, own.dt_bias, formats.dt),
            )
        assert own.gate_norm_weight is not None  # a block without projections has heads
        # The mean is one over a group's channels.
        groups = own.gate_norm_weight.reshape(self.groups, -1)
        weight, fraction = norm_weight_integers(groups, scheme.norm_weight_bits)
        highest = 2.0**scheme.delta_bits  # saturates to the largest step size
        limits = np.minimum(own.dt_limit, highest)
        low, high = to_fixed_point(limits, formats.delta, scheme.delta_bits, signed=False).tolist()
        return HeadSelection(
            dt_bias=to_fixed_point(own.dt_bias, formats.dt, ACTIVATION_INPUT_BITS),
            delta_low=low,
            delta_high=high,
            product=self.product,
            gate_norm_weight=weight.ravel(),
            gate_norm_fraction=fraction,
        )


@dataclass(frozen=True, kw_only=True)
class MLPDraft:
    """One MLP on its way to integers.

    Members
    -------
    parameters : the real weights, of which the norm is rounded here
    gate, up, down : rounded; down in the scale of its input's channels
    formats : the exponents
    """

    parameters: MLPParameters
    gate: RoundedRows
    up: RoundedRows
    down: RoundedRows
    formats: MLPFormats

    def build(self, scheme: Scheme) -> GatedMLP:
        """Return the MLP's integers."""
        weight, fraction = norm_weight_integers(
            self.parameters.norm_weight, scheme.norm_weight_bits
        )
        return GatedMLP(
            norm_weight=weight,
            gate=_linear(self.gate),
            up=_linear(self.up),
            down=_linear(self.down),
            formats=dataclasses.replace(self.formats, norm_weight=fraction),
        )


def _linear(rows: RoundedRows, bias: Array | None = None, input_fraction: Any = 0) -> Linear:
    """Return integer weights; ``bias`` (rows,) is put into the accumulator's scale."""
    integers = None
    if bias is not None:
        integers = to_fixed_point(bias, rows.fraction_bits + input_fraction, _BIAS_BITS)
    return rows.linear(integers)


@dataclass(frozen=True, kw_only=True)
class NetworkDraft:
    """A whole network on its way to integers; embedding and head are (V, d).

    ``reference`` is the float network in the basis that the integers are in.
    """

    shape: NetworkShape
    scheme: Scheme
    reference: NetworkParameters
    layers: tuple[LayerDraft, ...]
    mlps: tuple[MLPDraft, ...] | None
    embedding: RoundedRows
    residual_fraction: int
    final_norm_weight: Array
    final_norm_fraction: int
    head: RoundedRows
    logit_fraction: int

    def with_formats(self, index: int, formats: LayerFormats) -> NetworkDraft:
        """Return a copy with other exponents in layer ``index``."""
        layer = dataclasses.replace(self.layers[index], formats=formats)
        layers = (*self.layers[:index], layer, *self.layers[index + 1 :])
        return dataclasses.replace(self, layers=layers)

    def build(
        self, provenance: dict[str, object] | None = None, *, simulated: bool = False
    ) -> Program:
        """Return the validated program; one that is only ``simulated`` may break its widths.

        Raises
        ------
        InputError
            If a tensor, a shift or an accumulator leaves its range.
        """
        final_weight, final_fraction = norm_weight_integers(
            self.final_norm_weight, self.scheme.norm_weight_bits
        )
        program = Program(
            shape=self.shape,
            scheme=self.scheme,
            layers=tuple(layer.build(self.scheme) for layer in self.layers),
            mlps=None if self.mlps is None else tuple(mlp.build(self.scheme) for mlp in self.mlps),
            tables=_TABLES,
            front=TokenEmbedding(
                table=self.embedding.weight,
                shift=self.residual_fraction - self.embedding.fraction_bits,
            ),
            residual_fraction=self.residual_fraction,
            final_norm_weight=final_weight,
            final_norm_weight_fraction=final_fraction,
            final_norm_fraction=self.final_norm_fraction,
            head=_linear(self.head),
            logit_fraction=self.logit_fraction,
            provenance=provenance or {},
        )
        return program if simulated else validate(program)


def block_program(
    layer: Layer, shape: NetworkShape, scheme: Scheme, residual: Integers, residual_fraction: int
) -> Program:
    """Return a program whose only block is ``layer`` and whose "embedding" is a residual stream.

    Token ``i`` of it is row ``i`` of ``residual`` (positions, d), so that the golden executor runs
    one block on any input while the blocks after it do not exist yet. Its head is a dummy.
    """
    positions, d = residual.shape
    return Program(
        shape=dataclasses.replace(shape, vocabulary=positions, n_layer=1, mlp=None),
        scheme=scheme,
        layers=(layer,),
        tables=_TABLES,
        front=TokenEmbedding(table=residual, shift=np.zeros(positions, np.int64)),
        residual_fraction=residual_fraction,
        final_norm_weight=np.ones(d, np.int64),
        final_norm_weight_fraction=0,
        final_norm_fraction=0,
        head=Linear(weight=np.zeros((1, d), np.int64), fraction_bits=np.zeros(1, np.int64)),
        logit_fraction=0,
        provenance={},
    )
