"""The program on disk: one safetensors file whose metadata is a JSON manifest with a hash.

The manifest holds magic, version, shape, scheme, scalar formats, provenance, and the SHA-256 of
manifest and tensors together. Reading refuses a wrong magic, version or hash. The same program
always gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from golden.average import AverageLayer
from golden.command import atomic_write
from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.fixed_point import Integers, bits_for
from golden.layer import (
    BlockFormats,
    HeadSelection,
    Layer,
    LayerFormats,
    Linear,
    ProjectedSelection,
    Selection,
)
from golden.mlp import GatedMLP, MLPFormats
from golden.piecewise import LinearTable
from golden.program import (
    FeatureEmbedding,
    PooledHead,
    Program,
    RowProjection,
    Tables,
    TokenEmbedding,
)
from golden.scheme import DualScale, Scheme
from golden.validation import validate

MAGIC = "scanwright-integer-program"
VERSION = 3
_REMEDY = "write it anew with: python -m model.quantize --preset NAME --scheme NAME --out FILE"

Tensors = dict[str, Integers]


def _flatten(prefix: str, value: object, tensors: Tensors) -> Any:
    """Move the arrays of nested dataclasses to ``tensors``; return what JSON keeps of them."""
    if isinstance(value, np.ndarray):
        tensors[prefix] = value
        return None
    if dataclasses.is_dataclass(value):
        kept: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            own = getattr(value, field.name)
            if isinstance(own, Selection):
                # What a family adds to a block stands beside what all of them have.
                kept |= _flatten(prefix, own, tensors)
                continue
            item = _flatten(f"{prefix}.{field.name}", own, tensors)
            # A switch that is off by default and off is left out, as what is None.
            if item is not None and not (item is False and field.default is False):
                kept[field.name] = item
        return kept
    if isinstance(value, tuple):
        return [_flatten(f"{prefix}.{i}", item, tensors) for i, item in enumerate(value)]
    return value


def narrowest(values: Integers) -> np.ndarray:
    """Store each tensor in the narrowest NumPy integer type: bytes on disk, not a format."""
    for kind in (np.int8, np.int16, np.int32):
        if bits_for(values) <= 8 * np.dtype(kind).itemsize:
            return np.ascontiguousarray(values, dtype=kind)
    return np.ascontiguousarray(values, dtype=np.int64)


def _digest(manifest: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    state = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        state.update(f"{name} {array.dtype.str} {array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()


def to_bytes(program: Program) -> bytes:
    """Return the artifact of ``program``; the same program gives the same bytes."""
    integers: Tensors = {}
    content = _flatten("program", validate(program), integers)
    tensors = {name: narrowest(values) for name, values in integers.items()}
    manifest: dict[str, Any] = {"magic": MAGIC, "version": VERSION, "program": content}
    manifest["sha256"] = _digest(manifest, tensors)
    return bytes(save(tensors, metadata={"manifest": json.dumps(manifest, sort_keys=True)}))


def save_program(program: Program, path: Path) -> str:
    """Write the artifact to ``path`` and return the SHA-256 of its bytes."""
    data = to_bytes(program)
    atomic_write(path, data)
    return hashlib.sha256(data).hexdigest()


def _read_manifest(data: bytes, path: Path) -> dict[str, Any]:
    header_bytes = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + header_bytes])
        manifest = json.loads(header["__metadata__"]["manifest"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a program artifact or is truncated; {_REMEDY}") from error
    if not isinstance(manifest, dict) or manifest.get("magic") != MAGIC:
        raise InputError(f"{path} is not a {MAGIC} file; {_REMEDY}")
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{path} has version {manifest.get('version')}, this release reads {VERSION}; {_REMEDY}"
        )
    return manifest


def from_bytes(data: bytes, path: Path) -> Program:
    """Rebuild a program; ``path`` only names the source in errors.

    Raises
    ------
    InputError
        If the bytes are truncated, corrupt, of another version, or break a format.
    """
    manifest = _read_manifest(data, path)
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is corrupt or truncated ({error}); {_REMEDY}") from error
    expected = manifest.pop("sha256", None)
    if _digest(manifest, tensors) != expected:
        raise InputError(f"{path} is corrupt: its SHA-256 is not the recorded one; {_REMEDY}")
    try:
        program = _rebuild(manifest["program"], tensors)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} lacks {error}; {_REMEDY}") from error
    return validate(program)


def load_program(path: Path) -> Program:
    """Read an artifact; see :func:`from_bytes` for what is refused."""
    if not path.is_file():
        raise InputError(f"no artifact at {path}; {_REMEDY}")
    return from_bytes(path.read_bytes(), path)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, the identity that manifests record."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Tensors:
    """Looks tensors up by dotted name, widened to the integers the golden model computes with."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self._tensors = tensors

    def get(self, name: str) -> Integers:
        return self._tensors[f"program.{name}"].astype(np.int64)

    def has(self, name: str) -> bool:
        return f"program.{name}" in self._tensors

    def linear(self, name: str, *, bias: bool) -> Linear:
        return Linear(
            weight=self.get(f"{name}.weight"),
            fraction_bits=self.get(f"{name}.fraction_bits"),
            bias=self.get(f"{name}.bias") if bias else None,
        )

    def grouped(self, name: str, content: dict[str, Any]) -> Linear:
        """Return a matrix of a block; ``content`` says how many columns share a scale."""
        linear, group = self.linear(name, bias=False), content.get("group")
        if group is None:
            return linear
        shift = self.get(f"{name}.group_shift")
        return dataclasses.replace(linear, group=group, group_shift=shift)

    def table(self, name: str) -> LinearTable:
        return LinearTable(self.get(f"tables.{name}.base"), self.get(f"tables.{name}.slope"))


_COMMON_VECTORS = ("x", "u_channel", "scan_u", "gated_channel")


def _rebuild_formats(
    content: dict[str, Any], name: str, tensors: _Tensors, vectors: tuple[str, ...]
) -> dict[str, Any]:
    own = {vector: tensors.get(f"{name}.formats.{vector}") for vector in vectors}
    if tensors.has(f"{name}.formats.u_zero"):
        own["u_zero"] = tensors.get(f"{name}.formats.u_zero")
    return content["formats"] | own


def _rebuild_average(content: dict[str, Any], name: str, tensors: _Tensors) -> AverageLayer:
    convolved = "convolution" in content
    return AverageLayer(
        norm_weight=tensors.get(f"{name}.norm_weight"),
        in_proj=tensors.linear(f"{name}.in_proj", bias=False),
        convolution=tensors.linear(f"{name}.convolution", bias=True) if convolved else None,
        dt_proj=tensors.linear(f"{name}.dt_proj", bias=True),
        out_proj=tensors.linear(f"{name}.out_proj", bias=False),
        formats=BlockFormats(**_rebuild_formats(content, name, tensors, _COMMON_VECTORS)),
    )


def _rebuild_selection(content: dict[str, Any], name: str, tensors: _Tensors) -> Selection:
    if "x_proj" in content:
        return ProjectedSelection(
            x_proj=tensors.grouped(f"{name}.x_proj", content["x_proj"]),
            dt_proj=tensors.linear(f"{name}.dt_proj", bias=True),
        )
    return HeadSelection(
        dt_bias=tensors.get(f"{name}.dt_bias"),
        gate_norm_weight=tensors.get(f"{name}.gate_norm_weight"),
        **{
            field: content[field]
            for field in ("delta_low", "delta_high", "product", "gate_norm_fraction")
        },
    )


def _rebuild_layer(content: dict[str, Any], name: str, tensors: _Tensors) -> Layer:
    vectors = (*_COMMON_VECTORS, "state", "scan_output")
    return Layer(
        norm_weight=tensors.get(f"{name}.norm_weight"),
        in_proj=tensors.grouped(f"{name}.in_proj", content["in_proj"]),
        convolution=tensors.linear(f"{name}.convolution", bias=True),
        selection=_rebuild_selection(content, name, tensors),
        decay_rate=tensors.get(f"{name}.decay_rate"),
        skip=tensors.get(f"{name}.skip"),
        out_proj=tensors.grouped(f"{name}.out_proj", content["out_proj"]),
        formats=LayerFormats(**_rebuild_formats(content, name, tensors, vectors)),
    )


def _rebuild_mlp(content: dict[str, Any], name: str, tensors: _Tensors) -> GatedMLP:
    formats: dict[str, Any] = dict(content["formats"])
    for vector in ("up", "gated_channel"):
        formats[vector] = tensors.get(f"{name}.formats.{vector}")
    return GatedMLP(
        norm_weight=tensors.get(f"{name}.norm_weight"),
        gate=tensors.grouped(f"{name}.gate", content["gate"]),
        up=tensors.grouped(f"{name}.up", content["up"]),
        down=tensors.grouped(f"{name}.down", content["down"]),
        formats=MLPFormats(**formats),
    )


def _rebuild_front(content: dict[str, Any], tensors: _Tensors) -> TokenEmbedding | FeatureEmbedding:
    if "projection" not in content:
        return TokenEmbedding(table=tensors.get("front.table"), shift=tensors.get("front.shift"))
    return FeatureEmbedding(
        projection=tensors.linear("front.projection", bias=False),
        bias=tensors.get("front.bias"),
        fraction=content["fraction"],
        channel=tensors.get("front.channel"),
        rows=_rebuild_rows(content["rows"], tensors) if "rows" in content else None,
    )


def _rebuild_rows(content: dict[str, Any], tensors: _Tensors) -> RowProjection:
    linear = tensors.linear("front.rows.linear", bias=True)
    return RowProjection(linear=linear, fraction=content["fraction"])


def _rebuild_pooled(content: dict[str, Any], tensors: _Tensors) -> PooledHead:
    hidden = tensors.linear("pooled.hidden", bias=True)
    return PooledHead(hidden=hidden, hidden_fraction=content["hidden_fraction"])


def _rebuild(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> Program:
    tensors = _Tensors(arrays)
    scheme = dict(content["scheme"])
    if "dual_scale" in scheme:
        scheme["dual_scale"] = DualScale(**scheme["dual_scale"])
    shape, pooled = NetworkShape.of_fields(content["shape"]), "pooled" in content
    rebuild = _rebuild_layer if shape.average is None else _rebuild_average
    mlps = None
    if "mlps" in content:
        mlps = tuple(
            _rebuild_mlp(mlp, f"mlps.{index}", tensors) for index, mlp in enumerate(content["mlps"])
        )
    scalars = ("residual_fraction", "final_norm_weight_fraction", "final_norm_fraction")
    return Program(
        shape=shape,
        scheme=Scheme(**scheme),
        layers=tuple(
            rebuild(layer, f"layers.{index}", tensors)
            for index, layer in enumerate(content["layers"])
        ),
        tables=Tables(**{name: tensors.table(name) for name in content["tables"]}),
        front=_rebuild_front(content["front"], tensors),
        final_norm_weight=tensors.get("final_norm_weight"),
        pooled=_rebuild_pooled(content["pooled"], tensors) if pooled else None,
        mlps=mlps,
        head=tensors.linear("head", bias=shape.frame is not None),
        logit_fraction=content["logit_fraction"],
        provenance=content["provenance"],
        **{name: content[name] for name in scalars},
    )
