"""What each stage of a program costs: the float network with one stage at a time made integer.

Stages are weights, activations, and the two parts of the recurrence, each in all blocks; and all
that one block rounds (``block 0`` ...), its MLP aside. Each uses the program's own formats;
``everything`` is the integer program itself on the same text, MLPs included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.fixed_point import Integers, integer_range, to_real
from golden.layer import Layer, Linear
from golden.operations import dual_scale as dual_scale_operation
from golden.piecewise import ACTIVATION_INPUT_BITS, ACTIVATION_INPUT_FRACTION
from golden.piecewise import ACTIVATION_OUTPUT_FRACTION as OUTPUT_FRACTION
from golden.program import Program
from model.float_simulation import FloatNetwork, Hook, ScanRounding
from model.network_parameters import LayerParameters, NetworkParameters
from model.program_builder import NetworkDraft
from model.rotation import hadamard_columns
from model.text_windows import float_bits, integer_bits

__all__ = ["StageLoss", "block_stage", "stage_losses", "stage_names"]

Array = npt.NDArray[Any]

_LAYER_WEIGHTS = ("in_proj", "convolution", "x_proj", "dt_proj", "out_proj")
_HEAD_WEIGHTS = ("in_proj", "convolution", "out_proj")
_TABLE_STAGES = ("decay_rate", "skip")
_ACTIVATIONS = (
    "norm", "x", "z", "convolution_output", "u", "scan_u", "projected", "delta",
    "scan_output", "gate", "gated", "normed", "rotated", "residual",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StageLoss:
    """Bits per byte with one stage made integer, and the loss against float in percent."""

    stage: str
    bits_per_byte: float
    loss_percent: float


def stage_names(*, blocks: int, heads: bool = False) -> tuple[str, ...]:
    """Return every stage in the order of the report, of a network with heads or without."""
    weights = tuple(f"weights {name}" for name in (_HEAD_WEIGHTS if heads else _LAYER_WEIGHTS))
    return (
        *weights, "weights", "embedding", "head", *_TABLE_STAGES, *_activations(heads=heads),
        "decay", "state", "final norm", *(block_stage(index) for index in range(blocks)),
        "everything",
    )  # fmt: skip


def block_stage(index: int) -> str:
    """Return the name of the stage that is all of one block."""
    return f"block {index}"


def _activations(*, heads: bool) -> tuple[str, ...]:
    return tuple(name for name in _ACTIVATIONS if heads or name != "normed")


def _real(linear: Linear) -> Array:
    return to_real(linear.weight, linear.column_fraction)


def _real_weight(layer: Layer, name: str) -> Array:
    """Return a matrix of the block as real numbers, in the scale of float activations."""
    real = _real(getattr(layer, name))
    finer = {"x_proj": layer.formats.u_channel, "out_proj": layer.formats.gated_channel}
    real = np.ldexp(real, finer[name]) if name in finer else real
    if name == "out_proj" and layer.formats.rotation is not None:
        return np.asarray(real @ hadamard_columns(real.shape[1]).T)
    return real


def _with_weights(own: LayerParameters, layer: Layer, names: tuple[str, ...]) -> LayerParameters:
    """Return ``own`` with the named parts as ``layer`` rounds them."""
    formats = layer.formats
    changes: dict[str, Any] = {}
    for name in names:
        if name == "decay_rate":
            changes["rate"] = to_real(layer.decay_rate, formats.decay_rate) / np.log2(np.e)
        elif name == "skip":
            changes["skip"] = to_real(layer.skip, formats.c + formats.state - formats.scan_u)
        else:
            changes["taps" if name == "convolution" else name] = _real_weight(layer, name)
            bias = getattr(layer, name).bias
            if bias is not None:
                scale = getattr(layer, name).fraction_bits
                scale = scale + (formats.x if name == "convolution" else formats.dt)
                changes["taps_bias" if name == "convolution" else "dt_bias"] = to_real(bias, scale)
    return dataclasses.replace(own, **changes)


def _round(
    values: Array, fraction: Any, limits: int | tuple[Any, Any], *, signed: bool = True
) -> Array:
    """Round to a format of so many bits, or with these least and largest integers."""
    low, high = integer_range(limits, signed=signed) if isinstance(limits, int) else limits
    scale = np.ldexp(np.float32(1.0), fraction).astype(np.float32)
    return np.clip(np.rint(values * scale), low, high) / scale


class _Rounding:
    """The hook that rounds one stage in the program's formats, of every block or of ``block``."""

    def __init__(self, program: Program, stage: str, block: int | None = None) -> None:
        self._program, self._stage, self._block = program, stage, block

    def __call__(self, name: str, layer: int, value: Array) -> Array:
        program, scheme = self._program, self._program.scheme
        bits = scheme.activation_bits
        if layer < 0 and name == "norm" and self._stage == "final norm":
            return _round(value, program.final_norm_fraction, bits)
        if (layer < 0 and name != "residual") or not self._concerns(name, layer):
            return value
        if name == "residual":
            return _round(value, program.residual_fraction, scheme.residual_bits)
        formats, inputs = program.scan_layers[layer].formats, program.projection_bits(layer)
        if name == "scan_u":
            return self._scan_input(value, formats.scan_u)
        if self._stage == "rotated":
            columns = hadamard_columns(value.shape[-1]).astype(np.float32)
            fraction = formats.gated + formats.gated_channel
            return _round(value @ columns, fraction, inputs) @ (columns.T / len(columns))
        activation_input = (ACTIVATION_INPUT_FRACTION, ACTIVATION_INPUT_BITS)
        formats_of: dict[str, tuple[Any, Any]] = {
            **{plain: (getattr(formats, plain), bits) for plain in ("x", "dt", "b", "c")},
            "norm": (formats.norm, inputs),
            "u": (formats.u + formats.u_channel, program.u_range(layer)),
            **self._products(layer),
            "z": activation_input,
            "convolution": activation_input,
            "scan_output": (formats.scan_output, scheme.scan_output_bits),
            "gate": (formats.gate, scheme.gate_bits),
            "delta": (formats.delta, scheme.delta_bits),
        }
        return _round(value, *formats_of[name], signed=name != "delta")

    def _concerns(self, name: str, layer: int) -> bool:
        """Return whether the stage rounds the float network's value ``name`` of a block."""
        if self._block not in (None, layer):
            return False
        if self._stage == "rotated":
            last = "normed" if self._program.shape.heads else "gated"
            return name == last and self._program.scheme.rotation_bits is not None
        return _stage_of(name) == self._stage

    def _products(self, layer: int) -> dict[str, tuple[Any, int]]:
        """Return format of the gated values, with heads also of the norm behind and of dt."""
        program = self._program
        own = program.scan_layers[layer]
        last = (own.formats.before_rotation, program.mixed_bits(layer))
        if program.shape.heads is None:
            return {"gated": last}
        return {
            "gated": (own.head_selection.product, program.gated_bits),
            "normed": last,
            "dt": (ACTIVATION_INPUT_FRACTION, ACTIVATION_INPUT_BITS),
        }

    def _scan_input(self, value: Array, fraction: Integers) -> Array:
        dual = self._program.scheme.dual_scale
        if dual is None:
            return _round(value, fraction, self._program.scheme.scan_input_bits)
        fine = np.rint(np.ldexp(value, OUTPUT_FRACTION)).astype(np.int64)
        code, flag = dual_scale_operation.encode(fine, OUTPUT_FRACTION - fraction, dual)
        decoded = dual_scale_operation.decode(code, flag, dual)
        return np.ldexp(decoded.astype(np.float32), -fraction)


def _stage_of(name: str) -> str:
    if name in ("dt", "b", "c"):
        return "projected"
    return "convolution_output" if name == "convolution" else name


def _rounded_block(program: Program, block: int) -> Hook:
    """Return the hook that rounds every activation of one block."""
    names = _activations(heads=program.shape.heads is not None)
    roundings = [_Rounding(program, stage, block) for stage in names]

    def hook(name: str, layer: int, value: Array) -> Array:
        for rounding in roundings:
            value = rounding(name, layer, value)
        return value

    return hook


def _network(draft: NetworkDraft) -> NetworkParameters:
    """Return the float network in the scale of the draft's formats: the same function."""
    layers = tuple(layer.reference for layer in draft.layers)
    return dataclasses.replace(draft.reference, layers=layers)


def _variants(
    program: Program, network: NetworkParameters
) -> Iterator[tuple[str, Callable[[list[Array]], float]]]:
    """Yield every stage with the function that measures it on windows of text."""
    layers = list(zip(network.layers, program.scan_layers, strict=True))

    def rounded(names: tuple[str, ...]) -> NetworkParameters:
        changed = tuple(_with_weights(own, layer, names) for own, layer in layers)
        return dataclasses.replace(network, layers=changed)

    def weights(names: tuple[str, ...]) -> Callable[[list[Array]], float]:
        return lambda pieces: float_bits(FloatNetwork(rounded(names)), pieces)

    def other(changed: NetworkParameters) -> Callable[[list[Array]], float]:
        return lambda pieces: float_bits(FloatNetwork(changed), pieces)

    def activation(stage: str) -> Callable[[list[Array]], float]:
        hook = _Rounding(program, stage)
        return lambda pieces: float_bits(FloatNetwork(network), pieces, None, hook)

    def recurrence(rounding: dict[int, ScanRounding]) -> Callable[[list[Array]], float]:
        return lambda pieces: float_bits(FloatNetwork(network, rounding), pieces)

    heads = program.shape.heads is not None
    matrices = _HEAD_WEIGHTS if heads else _LAYER_WEIGHTS
    yield from ((f"weights {name}", weights((name,))) for name in matrices)
    yield "weights", weights(matrices)
    front = program.token_embedding
    embedding = to_real(front.table, (program.residual_fraction - front.shift)[:, None])
    yield "embedding", other(dataclasses.replace(network, embedding=embedding))
    yield "head", other(dataclasses.replace(network, head=_real(program.head)))
    yield from ((name, weights((name,))) for name in _TABLE_STAGES)
    yield from ((name, activation(name)) for name in _activations(heads=heads))
    scheme, numbered = program.scheme, dict(enumerate(program.scan_layers))
    states = {
        i: ScanRounding(None, layer.formats.state, scheme.state_bits)
        for i, layer in numbered.items()
    }
    yield "decay", recurrence({i: ScanRounding(scheme.decay_bits) for i in numbered})
    yield "state", recurrence(states)
    yield "final norm", activation("final norm")

    def block(index: int) -> Callable[[list[Array]], float]:
        own, layer = layers[index]
        changed = list(network.layers)
        changed[index] = _with_weights(own, layer, (*matrices, *_TABLE_STAGES))
        rounding = dataclasses.replace(states[index], decay_fraction=scheme.decay_bits)
        alone = FloatNetwork(dataclasses.replace(network, layers=tuple(changed)), {index: rounding})
        hook = _rounded_block(program, index)
        return lambda pieces: float_bits(alone, pieces, None, hook)

    yield from ((block_stage(index), block(index)) for index in numbered)


def stage_losses(
    draft: NetworkDraft,
    parameters: NetworkParameters,
    pieces: list[Array],
    advance: Callable[[str], None] = lambda _stage: None,
) -> list[StageLoss]:
    """Return the loss of every stage alone, and of everything together, on ``pieces``."""
    program, network = draft.build(), _network(draft)
    advance("float")
    exact = float_bits(FloatNetwork(parameters), pieces)
    results = [StageLoss(stage="float", bits_per_byte=exact, loss_percent=0.0)]

    def add(stage: str, bits: float) -> None:
        loss = 100.0 * (bits / exact - 1.0)
        results.append(StageLoss(stage=stage, bits_per_byte=bits, loss_percent=loss))

    for stage, measure in _variants(program, network):
        advance(stage)
        add(stage, measure(pieces))
    advance("everything")
    add("everything", integer_bits(program, pieces))
    return results
