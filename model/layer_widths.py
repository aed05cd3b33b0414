"""Hybrid schemes: a JSON file gives single layers widths of their own (Q5).

The file maps layer numbers to weight bits, ``{"0": 8, "4": 8}``, or to the widths of weights and of
the activations that the layer's matrices read, ``{"0": {"weights": 8, "activations": 6}}``; what it
does not name keeps the scheme's width. A program stores everything at the widest width, so that the
hardware runs it as it is; a narrower layer just does not use all values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden.errors import InputError
from golden.json_file import read_object
from golden.scheme import Scheme

__all__ = ["LayerWidths", "hybrid_scheme", "read_layer_widths"]

_EXAMPLE = '{"0": 8, "1": {"weights": 4, "activations": 6}}'


@dataclass(frozen=True, kw_only=True)
class LayerWidths:
    """Widths in bits of one layer; None is the scheme's.

    Parameters
    ----------
    weights : of the matrices, 2 to 8
    activations : of what in_proj, x_proj and out_proj read, and those of an MLP behind, 4 to 16
    """

    weights: int | None = None
    activations: int | None = None


_LIMITS = {"weights": (2, 8), "activations": (4, 16)}


def _checked(path: Path, name: str, kind: str, bits: object) -> int:
    low, high = _LIMITS[kind]
    if isinstance(bits, bool) or not isinstance(bits, int) or not low <= bits <= high:
        raise InputError(
            f"{path} gives layer {name} {bits!r} bits of {kind}, outside {low}..{high}; "
            "choose a width in that range"
        )
    return bits


def _widths(path: Path, name: str, content: object) -> LayerWidths:
    """Return what the file says of one layer."""
    if not isinstance(content, dict):
        return LayerWidths(weights=_checked(path, name, "weights", content))
    unknown = sorted(content.keys() - _LIMITS.keys())
    if unknown:
        raise InputError(
            f"{path} gives layer {name} a width of {unknown[0]!r}; choose of {', '.join(_LIMITS)}"
        )
    return LayerWidths(**{kind: _checked(path, name, kind, own) for kind, own in content.items()})


def read_layer_widths(path: Path, layers: int) -> Mapping[int, LayerWidths]:
    """Return the widths of the layers that ``path`` names.

    Raises
    ------
    InputError
        If there is no such file, it is no JSON object, it names a layer that does not exist, or a
        width is unknown or outside its range.
    """
    content = read_object(path, f"map layer numbers to bits, {_EXAMPLE}")
    for name in content:
        if name not in map(str, range(layers)):
            raise InputError(
                f"{path} names layer {name}, the network has layers 0..{layers - 1}; "
                "name one of these"
            )
    return {int(name): _widths(path, name, own) for name, own in content.items()}


def hybrid_scheme(
    scheme: Scheme, widths: Mapping[int, LayerWidths], layers: int
) -> tuple[Scheme, tuple[LayerWidths, ...]]:
    """Return the scheme that stores every layer's widths, and those widths, none of them None.

    Raises
    ------
    InputError
        If a ternary scheme is to have other weights.
    """

    def of_all(kind: str, usual: int) -> list[int]:
        given = [getattr(widths.get(layer, LayerWidths()), kind) for layer in range(layers)]
        return [usual if bits is None else bits for bits in given]

    weights = of_all("weights", scheme.weight_bits)
    activations = of_all("activations", scheme.projection_input_bits)
    stored: dict[str, Any] = {"weight_bits": max(weights)}
    if max(activations) != scheme.projection_input_bits:
        stored["projection_bits"] = max(activations)
    every = tuple(
        LayerWidths(weights=own, activations=bits)
        for own, bits in zip(weights, activations, strict=True)
    )
    return dataclasses.replace(scheme, **stored), every
