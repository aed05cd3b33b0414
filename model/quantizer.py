"""Post-training quantization of a whole network: float weights in, integer program out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from golden.fixed_point import Integers, fraction_bits_for, integer_range, to_real
from golden.operations.normalization import epsilon_integer, rms_norm
from golden.random_program import standard_tables
from golden.scheme import Scheme
from model.calibration import BlockValues, FloatBlocks, thin
from model.float_simulation import FloatNetwork, FloatState
from model.formats import FormatChoice, choose_formats, split_channels
from model.free_scales import scale_norm, scale_read_out
from model.layer_quantization import LayerQuantizer, WeightChoice
from model.layer_widths import LayerWidths
from model.mlp_quantization import choose_mlp_formats, quantize_mlp
from model.network_parameters import LayerParameters, NetworkParameters
from model.observers import fraction_by_error
from model.program_builder import LayerDraft, MLPDraft, NetworkDraft, norm_weight_integers
from model.rotation import random_rotation, rotate_residual
from model.sensitivity import LayerSensitivity
from model.text_windows import inputs_of
from model.weight_rounding import RoundedRows, refit, round_rows

__all__ = ["QuantizationChoice", "quantize_network"]

Array = npt.NDArray[Any]
Own = TypeVar("Own")
"""The weights of one block of either kind: with a norm weight and in_proj."""

_NARROW = 7
"""Where a matrix reads more bits than that, the step of the norm's output hardly matters."""
_HEADROOM = 1.5
"""The residual stream may grow by that much beyond the calibration text without saturating."""


@dataclass(frozen=True, kw_only=True)
class QuantizationChoice:
    """Every option of post-training quantization.

    Parameters
    ----------
    formats, weights : how exponents are chosen and weights rounded
    rotate : rotate the residual stream
    level : without rotation, let the norms' weights level in_proj's input
    scale : let tensors have real factors that the function does not notice
    seed : of the rotation
    widths : of each layer, where they are not all the scheme's
    """

    formats: FormatChoice = field(default_factory=FormatChoice)
    weights: WeightChoice = field(default_factory=WeightChoice)
    rotate: bool = True
    level: bool = True
    scale: bool = True
    seed: int = 0
    widths: tuple[LayerWidths, ...] | None = None

    def of_layer(self, scheme: Scheme, layer: int) -> Scheme:
        """Return the scheme of one layer by itself, in its own widths."""
        if self.widths is None:
            return scheme
        own = self.widths[layer]
        narrowed: dict[str, Any] = {"weight_bits": own.weights}
        if own.activations != scheme.projection_input_bits:
            narrowed["projection_bits"] = own.activations
        return dataclasses.replace(scheme, **narrowed)

    def kept(self) -> QuantizationChoice:
        """Return the options that leave the blocks' matrices as they were trained."""
        return dataclasses.replace(
            self,
            formats=dataclasses.replace(self.formats, common=True),
            weights=dataclasses.replace(self.weights, keep=True),
            rotate=False,
        )


def _residual_fraction(blocks: FloatBlocks, network: FloatNetwork, inputs: Array, bits: int) -> int:
    """Return the fraction bits that hold the stream of every block, with headroom."""
    peak = float(np.abs(blocks.residual).max())

    def watch(name: str, layer: int, value: Array) -> Array:
        nonlocal peak
        if name in ("residual", "out", "mlp_residual", "mlp_out") and layer >= 0:
            peak = max(peak, float(np.abs(value).max()))
        return value

    # A part of the text is enough for a range with headroom.
    part = inputs[: max(1, len(inputs) // 4)]
    residual, state = network.embed(part), FloatState.zeros(network.parameters, len(part))
    for index in range(network.parameters.shape.n_layer):
        residual = network.layer(index, residual, state, watch)
    rows = float(np.abs(network.parameters.embedding).max())
    return int(np.clip(fraction_bits_for(max(_HEADROOM * peak, rows), bits), 2, 16))


def _embedding(table: Array, bits: int, residual_fraction: int) -> RoundedRows:
    """Round the embedding (V, d) a row; no row is finer than the residual or shifted over 31."""
    rounded = round_rows(table, integer_range(bits), compensate=False)
    fraction = np.clip(rounded.fraction_bits, residual_fraction - 31, residual_fraction)
    integers = np.rint(np.ldexp(table, fraction[:, None]))
    limit = (1 << (bits - 1)) - 1
    clipped = np.clip(integers, -limit - 1, limit).astype(np.int64)
    return RoundedRows(clipped, fraction, rounded.factor)


def smooth_norm(layer: Own, samples: Array, bits: int) -> tuple[Own, Array]:
    """Return the block and its samples of norm (..., d) with channels of about one range.

    The norm's weight multiplies a channel by a power of two and in_proj's column divides by it:
    the same function, for no hardware, since the norm weight is per channel anyway.
    """
    _, surplus = split_channels(
        fraction_by_error(samples.reshape(-1, samples.shape[-1]), bits, per_channel=True)
    )
    factor = np.ldexp(1.0, surplus)
    own: Any = layer
    scaled = dataclasses.replace(
        own, norm_weight=own.norm_weight * factor, in_proj=own.in_proj / factor
    )
    return scaled, samples * factor


def level_gated_norm(
    layer: LayerParameters, samples: dict[str, Array], bits: int, most: int
) -> LayerParameters:
    """Return the block with channels behind its gated norm of about one range; scale ``samples``.

    As :func:`smooth_norm`, with the gated norm's weight and out_proj's columns.
    """
    assert layer.gate_norm_weight is not None  # the caller has heads
    fractions = fraction_by_error(samples["normed"], bits, per_channel=True)
    factor = np.ldexp(1.0, split_channels(fractions, most)[1])
    samples["normed"] = samples["normed"] * factor
    return dataclasses.replace(
        layer,
        gate_norm_weight=layer.gate_norm_weight * factor,
        out_proj=layer.out_proj / factor,
    )


def _rescaled(
    layer: LayerParameters,
    values: BlockValues,
    samples: dict[str, Array],
    scheme: Scheme,
    choice: QuantizationChoice,
    felt: LayerSensitivity | None,
) -> tuple[LayerParameters, LayerSensitivity | None]:
    """Return the same function in scales that its formats suit, and the loss's moments there.

    ``values`` and ``samples`` are of the returned block.
    """
    bits, heads = scheme.projection_input_bits, layer.gate_norm_weight is not None
    trained = choice.weights.keep
    if choice.level and not (choice.rotate or trained):
        layer, samples["norm"] = smooth_norm(layer, samples["norm"], bits)
    if choice.scale and choice.formats.observer == "mse" and not trained:
        if bits <= _NARROW:
            layer = scale_norm(layer, samples, bits)
        if scheme.rotation_bits is not None and not heads:
            layer, felt = scale_read_out(layer, values, samples, scheme, felt)
    if heads and scheme.rotation_bits is None:
        layer = level_gated_norm(layer, samples, bits, choice.formats.gated_surplus)
    return layer, felt


def quantize_network(
    parameters: NetworkParameters,
    scheme: Scheme,
    targets: Array,
    choice: QuantizationChoice,
    advance: Callable[[str], None] = lambda _block: None,
    sensitivity: tuple[LayerSensitivity, ...] | None = None,
) -> NetworkDraft:
    """Return the draft of the integer program.

    Parameters
    ----------
    targets : windows of calibration text (b, l)
    advance : told which block is being quantized
    sensitivity : of every block of ``parameters``; None if that is not known
    """
    if parameters.ternary and scheme.ternary:
        choice = choice.kept()
    elif sensitivity is not None:
        weights = dataclasses.replace(choice.weights, refit_strength=None)
        choice = dataclasses.replace(choice, weights=weights)
    if choice.rotate:
        rotation = random_rotation(parameters.shape.d_model, choice.seed)
        parameters = rotate_residual(parameters, rotation)
        if sensitivity is not None:
            sensitivity = tuple(own.rotated(rotation) for own in sensitivity)
    network, inputs = FloatNetwork(parameters), inputs_of(targets)
    blocks = FloatBlocks(network, inputs)
    residual_fraction = _residual_fraction(blocks, network, inputs, scheme.residual_bits)
    embedding = _embedding(parameters.embedding, scheme.embedding_bits, residual_fraction)
    shift = residual_fraction - embedding.fraction_bits
    residual: Integers = (embedding.weight << shift[:, None])[inputs]  # b l d
    layers, mlps = [], list[MLPDraft]()
    for index, own in enumerate(parameters.layers):
        advance(f"block {index}")
        layer, narrowed = own, choice.of_layer(scheme, index)
        values = blocks.advance()
        depth = (index, parameters.shape.n_layer)
        samples = values.samples
        felt = None if sensitivity is None else sensitivity[index]
        layer, felt = _rescaled(layer, values, samples, narrowed, choice, felt)
        product = 0
        if parameters.shape.heads is not None:
            product = choice.formats.fraction(samples["gated"], scheme.residual_bits, depth)
        formats = choose_formats(samples, layer, narrowed, choice.formats, depth)
        quantizer = LayerQuantizer(
            parameters.shape,
            narrowed,
            choice.weights,
            residual,
            residual_fraction,
            values.whole,
            product,
            felt,
        )
        draft, residual = quantizer.quantize(layer, formats)
        layers.append(_stored_as(draft, scheme, narrowed))
        if parameters.mlps is not None:
            mlp, residual = quantize_mlp(
                parameters.mlps[index],
                choose_mlp_formats(samples, narrowed, choice.formats, depth),
                narrowed,
                choice.weights,
                residual,
                residual_fraction,
                values.whole,
            )
            mlps.append(mlp)
    advance("head")
    final_fraction, head, logit_fraction = _head(
        parameters, scheme, choice, blocks, residual, residual_fraction
    )
    return NetworkDraft(
        shape=parameters.shape,
        scheme=scheme,
        reference=parameters,
        layers=tuple(layers),
        mlps=None if parameters.mlps is None else tuple(mlps),
        embedding=embedding,
        residual_fraction=residual_fraction,
        final_norm_weight=parameters.final_norm_weight,
        final_norm_fraction=final_fraction,
        head=head,
        logit_fraction=logit_fraction,
    )


def _stored_as(draft: LayerDraft, scheme: Scheme, own: Scheme) -> LayerDraft:
    """Return the draft of a block in its ``own`` widths as a program of ``scheme`` stores it."""
    if own.projection_input_bits == scheme.projection_input_bits:
        return draft
    formats = dataclasses.replace(draft.formats, projection_bits=own.projection_input_bits)
    return dataclasses.replace(draft, formats=formats)


def _head(
    parameters: NetworkParameters,
    scheme: Scheme,
    choice: QuantizationChoice,
    blocks: FloatBlocks,
    residual: Integers,
    residual_fraction: int,
) -> tuple[int, RoundedRows, int]:
    """Return the final norm's exponent, the rounded head and the logits' exponent."""
    bits = scheme.activation_bits
    wanted, logits = blocks.head()  # b l d, rows V
    fraction = choice.formats.fraction(thin(wanted), bits, (1, 1))
    weight, weight_fraction = norm_weight_integers(
        parameters.final_norm_weight, scheme.norm_weight_bits
    )
    norm = to_real(
        rms_norm(
            residual.reshape(-1, residual.shape[-1]),
            weight,
            epsilon=epsilon_integer(parameters.shape.d_model, residual_fraction),
            shift=17 + weight_fraction - fraction,
            bits=bits,
            table=standard_tables().reciprocal,
        ),
        fraction,
    )  # p d
    moments, head = norm.T @ norm, parameters.head
    strength = choice.weights.refit_strength
    if strength is not None:
        # The logits of every position are the float norm's; their product with norm needs no room.
        cross = norm.T @ wanted.reshape(norm.shape)  # d d
        head = refit(head, moments, cross @ head.T, strength)
    rounded = round_rows(
        head, integer_range(scheme.head_weight_bits), moments, compensate=choice.weights.compensate
    )
    peak = _HEADROOM * float(np.abs(logits).max())
    return fraction, rounded, int(np.clip(fraction_bits_for(peak, scheme.logit_bits), 0, 14))
