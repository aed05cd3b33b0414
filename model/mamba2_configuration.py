"""How checkpoints describe the shape of a Mamba-2 language model.

The ``config.json`` of ``mamba_ssm`` gives ``ssm_cfg`` with the arguments of its ``Mamba2`` layer,
that of Hugging Face transformers the fields of ``Mamba2Config``; without either the tensors' shapes
decide, with one group, as they hold only the product of groups and states.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from golden.errors import InputError
from model.checkpoint_configuration import EMBEDDING, HEAD, layer_tensor
from model.configuration import Mamba2Configuration

__all__ = ["read_mamba2_configuration", "shape_of_mamba2_tensors"]

# Arguments of ``mamba_ssm``'s ``Mamba2`` that change neither shapes nor a trained model's results.
_INITIALIZATION = {
    "layer", "dt_min", "dt_max", "dt_init_floor", "A_init_range", "conv_init", "use_mem_eff_path",
    "chunk_size",
}  # fmt: skip
_SHAPING = {"d_state", "d_conv", "expand", "headdim", "ngroups", "dt_limit", "bias", "conv_bias"}
# Arguments that only one value of can be loaded.
_FIXED = {"d_ssm": None, "D_has_hdim": False, "rmsnorm": True, "norm_before_gate": False}


def read_mamba2_configuration(path: Path) -> Mamba2Configuration:
    """Read a ``config.json`` of either kind.

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
        if fields.get("hidden_act", "silu") not in ("silu", "swish"):
            raise ValueError(f"hidden_act is {fields['hidden_act']!r}, only 'silu' can be loaded")
        return _hugging_face(fields) if "hidden_size" in fields else _original(fields)
    except KeyError as error:
        raise InputError(f"{path}: lacks the field {error}; correct the file") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}; correct the file") from error


def _original(fields: Mapping[str, Any]) -> Mamba2Configuration:
    """``MambaLMHeadModel`` with ``ssm_cfg.layer`` "Mamba2"; its vocabulary is rounded up."""
    ssm = fields.get("ssm_cfg") or {}
    unknown = sorted(set(ssm) - _INITIALIZATION - _SHAPING - set(_FIXED))
    if unknown:
        raise ValueError(f"ssm_cfg has the unknown field {unknown[0]!r}")
    for name, allowed in _FIXED.items():
        if ssm.get(name, allowed) != allowed:
            raise ValueError(f"ssm_cfg's {name} is {ssm[name]!r}, only {allowed!r} can be loaded")
    for name, empty in (("attn_layer_idx", []), ("d_intermediate", 0)):
        if fields.get(name, empty) not in (empty, None):
            raise ValueError(f"{name} is {fields[name]!r}, only {empty!r} can be loaded")
    multiple = fields.get("pad_vocab_size_multiple", 8)
    return Mamba2Configuration(
        vocab_size=-(-fields["vocab_size"] // multiple) * multiple,
        d_model=fields["d_model"],
        n_layer=fields["n_layer"],
        d_inner=int(ssm.get("expand", 2) * fields["d_model"]),
        d_state=ssm.get("d_state", 128),
        d_conv=ssm.get("d_conv", 4),
        head_dim=ssm.get("headdim", 64),
        n_groups=ssm.get("ngroups", 1),
        dt_limit=_limit(ssm.get("dt_limit", (0.0, math.inf))),
        tie_embeddings=fields.get("tie_embeddings", True),
        use_conv_bias=ssm.get("conv_bias", True),
        use_bias=ssm.get("bias", False),
    )


def _hugging_face(fields: Mapping[str, Any]) -> Mamba2Configuration:
    """``transformers.Mamba2Config``, with its defaults for absent fields."""
    inner = int(fields.get("expand", 2) * fields["hidden_size"])
    head_dim, heads = fields.get("head_dim", 64), fields.get("num_heads", 128)
    if heads * head_dim != inner:
        raise ValueError(
            f"num_heads is {heads} and head_dim {head_dim}, must multiply to {inner}, the inner "
            "width"
        )
    return Mamba2Configuration(
        vocab_size=fields["vocab_size"],
        d_model=fields["hidden_size"],
        n_layer=fields["num_hidden_layers"],
        d_inner=inner,
        d_state=fields.get("state_size", 128),
        d_conv=fields.get("conv_kernel", 4),
        head_dim=head_dim,
        n_groups=fields.get("n_groups", 8),
        dt_limit=_limit(fields.get("time_step_limit", (0.0, math.inf))),
        rms_norm_eps=float(fields.get("layer_norm_epsilon", 1e-5)),
        tie_embeddings=fields.get("tie_word_embeddings", False),
        use_conv_bias=fields.get("use_conv_bias", True),
        use_bias=fields.get("use_bias", False),
    )


def _limit(value: Any) -> tuple[float, float]:
    low, high = (_number(bound) for bound in value)
    return low, high


def _number(bound: Any) -> float:
    """Return a bound; transformers writes infinity as an object, for JSON has no word for it."""
    return float(bound["__float__"] if isinstance(bound, dict) else bound)


def shape_of_mamba2_tensors(
    tensors: Mapping[str, Tensor], refuse: Callable[[str], InputError]
) -> Mamba2Configuration:
    """Infer the shape from tensors in the original naming, with one group.

    ``refuse`` is as in :func:`model.checkpoint_configuration.shape_of_tensors`.
    """
    try:
        vocabulary, width = tensors[EMBEDDING].shape
        mixer = layer_tensor(0, "mixer.")
        (heads,) = tensors[mixer + "A_log"].shape
        (inner,) = tensors[mixer + "norm.weight"].shape
        channels, _, taps = tensors[mixer + "conv1d.weight"].shape
        return Mamba2Configuration(
            vocab_size=vocabulary,
            d_model=width,
            n_layer=len({n.split(".")[2] for n in tensors if n.startswith("backbone.layers.")}),
            d_inner=inner,
            d_state=(channels - inner) // 2,
            d_conv=taps,
            head_dim=inner // heads,
            tie_embeddings=HEAD not in tensors,
            use_conv_bias=mixer + "conv1d.bias" in tensors,
            use_bias=mixer + "in_proj.bias" in tensors,
        )
    except (KeyError, ValueError) as error:
        raise refuse(f"the tensors make no Mamba-2 model ({error})") from error
