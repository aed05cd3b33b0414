"""Reading and writing checkpoints of language models of both families.

Read are the public ``state-spaces/mamba-*`` and ``mamba2-*`` in the original naming and in that of
Hugging Face, as safetensors or as PyTorch's ``.bin``, in one piece or in shards with an index, and
the project's own files, which carry their configuration as metadata. Pickles are read with
``weights_only``, so no code in them runs. Tensors in half precision are widened to float32.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from golden.errors import InputError
from model.checkpoint_configuration import (
    EMBEDDING,
    HEAD,
    layer_tensor,
    read_configuration,
    shape_of_tensors,
)
from model.configuration import Configuration, configuration_from_fields
from model.mamba import MambaLanguageModel
from model.mamba2_configuration import read_mamba2_configuration, shape_of_mamba2_tensors

__all__ = ["checkpoint_bytes", "load_checkpoint"]

_HUGGING_FACE_EMBEDDING = "backbone.embeddings.weight"
_PICKLES = (".bin", ".pt", ".pth")
_INDEX = ".index.json"
_RESUME = "resume.safetensors"  # optimizer and weights of an unfinished run, beside its checkpoint
_USUAL = (
    "model.safetensors.index.json", "model.safetensors",
    "pytorch_model.bin.index.json", "pytorch_model.bin",
)  # fmt: skip
_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
_LAYERS = "backbone.layers."
_AGAIN = "export or download the checkpoint again"


@dataclass(frozen=True)
class CheckpointContent:
    """What the files of one checkpoint hold: tensors in the original naming, and metadata."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: Mapping[str, str]


def load_checkpoint(path: str | Path) -> MambaLanguageModel:
    """Return the model of a checkpoint, in evaluation mode, on the CPU, in float32.

    Parameters
    ----------
    path : a file (``.safetensors``, ``.bin``, ``.pt``, ``.pth``, or an index ``.index.json`` of
        shards), or a folder that holds one checkpoint. The configuration is taken from the file's
        metadata, else from a ``config.json`` beside it, else from the tensors' shapes, for Mamba-2
        with one group.

    Raises
    ------
    InputError
        One line that names the file, the tensor, what was found and expected, and the remedy.
    """
    content = read_tensors(Path(path))
    configuration, source = _configuration(content)
    with torch.device("meta"):
        single = MambaLanguageModel(dataclasses.replace(configuration, n_layer=1))
    tied, layers = configuration.tie_embeddings, configuration.n_layer
    check_tensors(content, expected_tensors(single, layers, tied=tied), tied=tied, source=source)
    with torch.device("meta"):  # no memory and no random numbers for weights that get replaced
        model = MambaLanguageModel(configuration)
    tensors = dict(content.tensors)
    if configuration.tie_embeddings:
        tensors[HEAD] = tensors[EMBEDDING]
    elif HEAD in tensors and tensors[HEAD].data_ptr() == tensors[EMBEDDING].data_ptr():
        tensors[HEAD] = tensors[HEAD].clone()  # a pickle may share what the configuration does not
    model.load_state_dict(tensors, assign=True)
    if configuration.tie_embeddings:
        model.lm_head.weight = model.backbone.embedding.weight
    return model.eval()


def checkpoint_bytes(model: MambaLanguageModel) -> bytes:
    """Return the content of a checkpoint file; the same weights give the same bytes.

    The tensors are float32, a tied head is stored once, as the embedding.
    """
    tensors = {k: v.detach().float().cpu().contiguous() for k, v in model.state_dict().items()}
    if model.configuration.tie_embeddings:
        del tensors[HEAD]
    return bytes(save(tensors, {"configuration": model.configuration.to_json()}))


def _locate(path: Path) -> Path:
    """Return the file to read: ``path``, or the only checkpoint in the folder ``path``."""
    if not path.exists():
        raise InputError(f"checkpoint {path} does not exist; name a file or a folder")
    if not path.is_dir():
        return path
    for name in _USUAL:
        if (path / name).is_file():
            return path / name
    kinds = (".safetensors", *_PICKLES)
    files = sorted(f for f in path.iterdir() if f.suffix in kinds and f.name != _RESUME)
    if not files:
        raise InputError(f"folder {path} holds no checkpoint ({', '.join(kinds)}); name a file")
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:4])
        raise InputError(f"folder {path} holds {len(files)} checkpoints ({names}); name one")
    return files[0]


def read_tensors(path: Path) -> CheckpointContent:
    """Return all tensors of a file or folder, in the original naming and in float32.

    Raises
    ------
    InputError
        If there is no checkpoint, or a file or tensor is damaged.
    """
    path = _locate(path)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for file in _shards(path) if path.name.endswith(_INDEX) else [path]:
        found, notes = _read_file(file)
        metadata.update(notes)
        for name, tensor in found.items():
            own = EMBEDDING if name == _HUGGING_FACE_EMBEDDING else name
            if own in tensors:
                raise InputError(f"{file}: tensor {name} is there twice; {_AGAIN}")
            tensors[own] = _widen(file, name, tensor)
    return CheckpointContent(path, tensors, metadata)


def _shards(index: Path) -> list[Path]:
    """Return the files that an index of shards names, beside it."""
    try:
        files = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        names = sorted({PurePath(file).name for file in files})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is no index of shards ({error}); {_AGAIN}") from error
    paths = [index.parent / name for name in names]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} does not exist, {index.name} needs it; {_AGAIN}")
    return paths


def _read_file(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Return tensors and metadata of one file."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                names = file.keys()
                return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be read ({_short(error)}); {_AGAIN}") from error
    if path.suffix not in _PICKLES:
        raise InputError(
            f"{path} is no checkpoint by its name; known: .safetensors, {', '.join(_PICKLES)}"
        )
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path} cannot be read ({_short(error)}); {_AGAIN}") from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise InputError(f"{path} is no dictionary of tensors; save the model's state_dict()")
    return loaded, {}


def _short(error: Exception) -> str:
    """Return the first line: PyTorch's explanations fill a screen."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:160]


def _widen(path: Path, name: str, tensor: Tensor) -> Tensor:
    """Return a float32 tensor; refuse what is no finite number of at most that precision."""
    if tensor.dtype not in _PRECISIONS or tensor.layout != torch.strided:
        raise InputError(
            f"{path}: {name} is of type {tensor.dtype}, expected float32, bfloat16 or float16; "
            "save it as float32"
        )
    wide = tensor.detach().float().contiguous()
    finite = torch.isfinite(wide)
    if not bool(finite.all()):
        count = wide.numel() - int(finite.sum())
        raise InputError(
            f"{path}: {name} of shape {tuple(wide.shape)} holds {count} NaN or infinite values; "
            f"the training diverged or the file is damaged, {_AGAIN}"
        )
    return wide


def _configuration(content: CheckpointContent) -> tuple[Configuration, str]:
    """Return the configuration and where it comes from."""
    if "run" in content.metadata:
        raise InputError(f"{content.path} is the state of a training run; name the checkpoint")
    beside = content.path.parent / "config.json"
    if "configuration" in content.metadata:
        try:
            fields = json.loads(content.metadata["configuration"])
            return configuration_from_fields(fields), "its metadata"
        except (ValueError, TypeError) as error:
            raise InputError(f"{content.path}: bad configuration: {error}; {_AGAIN}") from error
    second = any(name.endswith("mixer.dt_bias") for name in content.tensors)
    if beside.is_file():
        read = read_mamba2_configuration if second else read_configuration
        return _tie(content.tensors, read(beside)), "config.json"

    def refuse(reason: str) -> InputError:
        return InputError(f"{content.path}: {reason}; {_AGAIN}, with its config.json")

    infer = shape_of_mamba2_tensors if second else shape_of_tensors
    return _tie(content.tensors, infer(content.tensors, refuse)), "the other tensors"


def ties(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether the head may be the embedding: it is absent or equal to it."""
    head, embedding = tensors.get(HEAD), tensors.get(EMBEDDING)
    return head is None or embedding is None or torch.equal(head, embedding)


def _tie(tensors: Mapping[str, Tensor], configuration: Configuration) -> Configuration:
    """Untie a head that differs from the embedding, as transformers does: the data decide."""
    if ties(tensors):
        return configuration
    return dataclasses.replace(configuration, tie_embeddings=False)


def check_tensors(
    content: CheckpointContent,
    wanted: Iterator[tuple[str, tuple[int, ...]]],
    *,
    tied: bool,
    source: str,
) -> None:
    """Compare names and shapes; the first difference is the error.

    Parameters
    ----------
    wanted : see :func:`expected_tensors`
    tied : the head may be stored beside the embedding that it equals
    source : what asks for these tensors, for the message

    Raises
    ------
    InputError
        Naming the tensor that is missing, misshapen or unexpected.
    """
    remedy = f"correct {source} or {_AGAIN}"
    expected: set[str] = {HEAD} if tied else set()
    for name, shape in wanted:
        if name not in content.tensors:
            raise InputError(
                f"{content.path}: tensor {name} is missing, {source} asks for shape {shape}; "
                f"{remedy}"
            )
        found = tuple(content.tensors[name].shape)
        if found != shape:
            raise InputError(
                f"{content.path}: {name} has shape {found}, {source} asks for {shape}; {remedy}"
            )
        expected.add(name)
    unexpected = sorted(set(content.tensors) - expected)
    if unexpected:
        shape = tuple(content.tensors[unexpected[0]].shape)
        layers = len({name.split(".")[2] for name in expected if name.startswith(_LAYERS)})
        raise InputError(
            f"{content.path}: {len(unexpected)} unexpected tensors, the first is {unexpected[0]} "
            f"of shape {shape}, {source} asks for {layers} layers; {remedy}"
        )


def expected_tensors(
    single: nn.Module, layers: int, *, tied: bool
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor, lazily: a wrong number of layers may be huge.

    ``single`` is the model with one layer, on the meta device.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in single.state_dict().items()}
    first = layer_tensor(0, "")
    inside = {k.removeprefix(first): v for k, v in shapes.items() if k.startswith(first)}
    for name, shape in shapes.items():
        if not name.startswith(first) and not (name == HEAD and tied):
            yield name, shape
    for index in range(layers):
        for rest, shape in inside.items():
            yield layer_tensor(index, rest), shape
