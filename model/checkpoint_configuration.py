"""The shape of a checkpoint: from a ``config.json`` or from the tensors themselves.

Two kinds of ``config.json`` are known: that of ``mamba_ssm`` (``MambaConfig`` of
``models/config_mamba.py``: ``d_model``, ``n_layer``, ``ssm_cfg``) and that of Hugging Face
transformers (``hidden_size``, ``num_hidden_layers``). Fields that only concern initialization,
speed or text processing are ignored; a field that asks for another network is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from golden.errors import InputError
from model.configuration import MambaConfiguration

__all__ = ["EMBEDDING", "HEAD", "layer_tensor", "read_configuration", "shape_of_tensors"]

EMBEDDING, HEAD = "backbone.embedding.weight", "lm_head.weight"

# Arguments of ``mamba_ssm``'s ``Mamba`` that change neither shapes nor results of a trained model.
_INITIALIZATION = {
    "layer", "dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "use_fast_path",
}  # fmt: skip
_SHAPING = {"d_state", "d_conv", "expand", "dt_rank", "conv_bias", "bias"}
_MLP_MULTIPLE = 128
_MISSING = object()


def layer_tensor(index: int, rest: str) -> str:
    """Name of a tensor of one layer in the original naming."""
    return f"backbone.layers.{index}.{rest}"


def read_configuration(path: Path) -> MambaConfiguration:
    """Read a ``config.json``.

    ``tie_embeddings`` is what the file says; whether the tensors agree is not known here.

    Raises
    ------
    InputError
        With the field, its value and the remedy.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no JSON text: {error}; download it again") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path} is no JSON object; download it again")
    try:
        _refuse_other_networks(fields)
        return _hugging_face(fields) if "hidden_size" in fields else _original(fields)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}; correct the file") from error


def _refuse_other_networks(fields: Mapping[str, Any]) -> None:
    ssm = _mixer_fields(fields)
    if fields.get("model_type") == "mamba2" or ssm.get("layer", "Mamba1") != "Mamba1":
        raise ValueError("describes another layer than Mamba-1, only Mamba-1 can be loaded")
    for name, allowed in (
        ("hidden_act", ("silu", "swish")),
        ("rms_norm", (True,)),
        ("attn_layer_idx", ([], None)),
    ):
        value = fields.get(name, allowed[0])
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}, only {allowed[0]!r} can be loaded")


def _mixer_fields(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    ssm = fields.get("ssm_cfg") or {}
    if not isinstance(ssm, dict):
        raise TypeError(f"ssm_cfg is {ssm!r}, must be an object")
    return ssm


def _original(fields: Mapping[str, Any]) -> MambaConfiguration:
    """``MambaLMHeadModel.__init__``: the vocabulary is rounded up to a multiple."""
    ssm = _mixer_fields(fields)
    unknown = sorted(set(ssm) - _INITIALIZATION - _SHAPING)
    if unknown:
        raise ValueError(f"ssm_cfg has the unknown field {unknown[0]!r}")
    d_model = _field(fields, "d_model", int)
    multiple = _field(fields, "pad_vocab_size_multiple", int, default=8)
    if multiple < 1:
        raise ValueError(f"pad_vocab_size_multiple is {multiple}, must be at least 1")
    intermediate = _field(fields, "d_intermediate", int, default=0)
    return MambaConfiguration(
        vocab_size=-(-_field(fields, "vocab_size", int) // multiple) * multiple,
        d_model=d_model,
        n_layer=_field(fields, "n_layer", int),
        d_inner=int(_field(ssm, "expand", (int, float), default=2) * d_model),
        d_state=_field(ssm, "d_state", int, default=16),
        d_conv=_field(ssm, "d_conv", int, default=4),
        dt_rank=_rank(_field(ssm, "dt_rank", (int, str), default="auto"), "dt_rank", d_model),
        tie_embeddings=_field(fields, "tie_embeddings", bool, default=True),
        use_conv_bias=_field(ssm, "conv_bias", bool, default=True),
        use_bias=_field(ssm, "bias", bool, default=False),
        # ``GatedMLP.__init__`` rounds its width up.
        d_intermediate=-(-intermediate // _MLP_MULTIPLE) * _MLP_MULTIPLE or None,
    )


def _hugging_face(fields: Mapping[str, Any]) -> MambaConfiguration:
    """``transformers.MambaConfig``, with its defaults for absent fields."""
    width = _field(fields, "hidden_size", int)
    rank = _field(fields, "time_step_rank", (int, str), default="auto")
    return MambaConfiguration(
        vocab_size=_field(fields, "vocab_size", int),
        d_model=width,
        n_layer=_field(fields, "num_hidden_layers", int),
        d_inner=int(_field(fields, "expand", (int, float), default=2) * width),
        d_state=_field(fields, "state_size", int, default=16),
        d_conv=_field(fields, "conv_kernel", int, default=4),
        dt_rank=_rank(rank, "time_step_rank", width),
        rms_norm_eps=float(_field(fields, "layer_norm_epsilon", (int, float), default=1e-5)),
        tie_embeddings=_field(fields, "tie_word_embeddings", bool, default=True),
        use_conv_bias=_field(fields, "use_conv_bias", bool, default=True),
        use_bias=_field(fields, "use_bias", bool, default=False),
    )


def _field(fields: Mapping[str, Any], name: str, kind: Any, *, default: Any = _MISSING) -> Any:
    """Return a field of the wanted type; without a default it must be there."""
    value = fields.get(name, default)
    if value is _MISSING:
        raise ValueError(f"lacks the field {name!r}")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is {value!r}, which is of the wrong type")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, must be finite")
    return value


def _rank(value: int | str, name: str, width: int) -> int:
    if value == "auto":
        return math.ceil(width / 16)
    if isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, must be an integer or 'auto'")
    return value


def shape_of_tensors(
    tensors: Mapping[str, Tensor], refuse: Callable[[str], InputError]
) -> MambaConfiguration:
    """Infer the shape from tensors in the original naming; ``refuse`` makes the error."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in tensors:
            raise refuse(f"tensor {name} is missing and there is no config.json")
        found = tuple(tensors[name].shape)
        if len(found) != dimensions:
            raise refuse(f"{name} has shape {found}, expected {dimensions} dimensions")
        return found

    vocabulary, width = shape(EMBEDDING, 2)
    inner, states = shape(layer_tensor(0, "mixer.A_log"), 2)
    mlp = layer_tensor(0, "mlp.fc2.weight")
    layers = {name.split(".")[2] for name in tensors if name.startswith("backbone.layers.")}
    try:
        return MambaConfiguration(
            vocab_size=vocabulary,
            d_model=width,
            n_layer=len(layers),
            d_inner=inner,
            d_state=states,
            d_conv=shape(layer_tensor(0, "mixer.conv1d.weight"), 3)[2],
            dt_rank=shape(layer_tensor(0, "mixer.dt_proj.weight"), 2)[1],
            tie_embeddings=HEAD not in tensors,
            use_conv_bias=layer_tensor(0, "mixer.conv1d.bias") in tensors,
            use_bias=layer_tensor(0, "mixer.in_proj.bias") in tensors,
            d_intermediate=shape(mlp, 2)[1] if mlp in tensors else None,
        )
    except InputError:
        raise
    except ValueError as error:
        raise refuse(f"the tensors' shapes make no model: {error}") from error
