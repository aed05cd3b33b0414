"""Checkpoints of positioning networks: the sources' own ``.pt`` files and the project's.

The sources save a pickle of ``state_dict``, ``cfg`` (sizes) and ``arch`` (options). It is read with
``weights_only``, so no code in it runs. Both of their heads are in it; the one that ``agg_pool``
does not select is checked and dropped. The project's files are safetensors with the configuration
as metadata, and with the same tensor names.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from golden.errors import InputError
from model.slim import SlimNetwork
from model.slim_configuration import SlimConfiguration

__all__ = ["load_slim_checkpoint", "read_notes", "slim_checkpoint_bytes"]

_SIZES = {
    "Din": "features", "K": "window", "proj_dim": "projection", "d_model": "d_model",
    "n_layer": "n_layer", "patch_len": "patch", "stride": "stride",
}  # fmt: skip
_POOLS = {"": "flat", "avg": "mean", "max": "max"}
_FLAT, _POOL = "backbone.output_layer_flat.", "backbone.output_layer_pool."
_PICKLES = (".pt", ".pth", ".bin")
_AGAIN = "export it again"
_ENTRY = "network"


def slim_checkpoint_bytes(
    network: SlimNetwork,
    notes: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> bytes:
    """Return the content of a checkpoint file; the same weights give the same bytes.

    ``notes`` are kept beside the configuration; :func:`read_notes` returns them. Weights are
    rounded to ``dtype``.
    """
    tensors = {k: v.detach().to(dtype).cpu().contiguous() for k, v in network.state_dict().items()}
    content = {"configuration": dataclasses.asdict(network.configuration), "notes": notes or {}}
    # One entry: safetensors writes several in any order.
    return bytes(save(tensors, {_ENTRY: json.dumps(content, sort_keys=True)}))


def load_slim_checkpoint(path: str | Path) -> SlimNetwork:
    """Return the network of a checkpoint, in evaluation mode, on the CPU, in float32.

    Parameters
    ----------
    path : ``.safetensors`` of the project, or ``.pt``, ``.pth``, ``.bin`` of the sources

    Raises
    ------
    InputError
        One line that names the file, what was found and expected, and the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; train one: python -m model.positioning train")
    if path.suffix in _PICKLES:
        configuration, tensors = _read_pickle(path)
    elif path.suffix == ".safetensors":
        configuration, tensors = _read_safetensors(path)
    else:
        raise InputError(
            f"{path} is no checkpoint by its name; known: .safetensors, {', '.join(_PICKLES)}"
        )
    with torch.device("meta"):
        wanted = {k: tuple(v.shape) for k, v in SlimNetwork(configuration).state_dict().items()}
    _check(path, tensors, wanted)
    network = SlimNetwork(configuration)
    network.load_state_dict(tensors)
    return network.eval()


def read_notes(path: Path) -> dict[str, str]:
    """Return the notes of a checkpoint that loads; the sources' files have none."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return dict(json.loads((file.metadata() or {})[_ENTRY])["notes"])


def _read_safetensors(path: Path) -> tuple[SlimConfiguration, dict[str, Tensor]]:
    """Return configuration and tensors of a file of the project."""
    try:
        with safe_open(path, framework="pt") as file:
            fields = json.loads((file.metadata() or {})[_ENTRY])["configuration"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return SlimConfiguration.from_mapping(fields), tensors
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is no checkpoint of a positioning network ({error}); {_AGAIN}"
        ) from error


def _read_pickle(path: Path) -> tuple[SlimConfiguration, dict[str, Tensor]]:
    """Return configuration and tensors of a file of the sources."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:160]
        raise InputError(f"{path} cannot be read ({reason}); {_AGAIN}") from error
    parts = ("state_dict", "cfg", "arch")
    if not isinstance(content, dict) or not all(isinstance(content.get(p), dict) for p in parts):
        raise InputError(f"{path} has no dictionaries {', '.join(parts)}; {_AGAIN} with them")
    tensors: dict[str, Tensor] = dict(content["state_dict"])
    try:
        configuration = _configuration(tensors, content["cfg"], content["arch"])
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{path}: cfg, arch and tensors fail ({error}); {_AGAIN}") from error
    unused = _POOL if configuration.head == "flat" else _FLAT
    return configuration, {k: v for k, v in tensors.items() if not k.startswith(unused)}


def _configuration(
    tensors: Mapping[str, Tensor], sizes: Mapping[str, Any], options: Mapping[str, Any]
) -> SlimConfiguration:
    """Return the configuration; widths that ``cfg`` does not have are those of the tensors."""
    fields: dict[str, Any] = {own: int(sizes[theirs]) for theirs, own in _SIZES.items()}
    first = "backbone.blocks.0."
    pool = str(options.get("agg_pool", ""))
    if pool not in _POOLS:
        raise ValueError(f"agg_pool is {pool!r}, known: {list(_POOLS)}")
    taps = tensors[first + "dw_conv.weight"].shape[2] if options.get("use_dwconv", False) else 0
    scale = 0.0 if options.get("pe_off", False) else float(options.get("pe_scale", 1.0))
    return SlimConfiguration(
        **fields,
        d_inner=int(tensors[first + "ssm.dt_proj.weight"].shape[0]),
        d_conv=int(taps),
        position_scale=scale,
        gate=not options.get("gate_off", False),
        head=_POOLS[pool],  # type: ignore[arg-type]
        outputs=int(tensors["head.conv.weight"].shape[0]),
    )


def _check(path: Path, tensors: Mapping[str, Any], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Compare names, shapes and values; the first difference is the error."""
    for name, shape in wanted.items():
        if name not in tensors:
            raise InputError(f"{path}: tensor {name} of shape {shape} is missing; {_AGAIN}")
        tensor = tensors[name]
        found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        if found != shape:
            raise InputError(
                f"{path}: {name} has shape {found}, its sizes ask for {shape}; {_AGAIN}"
            )
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: {name} holds NaN, infinite or integer weights; {_AGAIN}")
    unexpected = sorted(set(tensors) - set(wanted))
    if unexpected:
        raise InputError(
            f"{path}: {len(unexpected)} unexpected tensors, the first is {unexpected[0]}; {_AGAIN}"
        )
