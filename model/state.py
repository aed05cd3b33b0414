"""The explicit streaming state of a language model of either family."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from golden.command import atomic_write
from golden.errors import InputError
from model.configuration import Configuration

__all__ = ["MambaState"]

_NAMES = ("convolution", "ssm")


@dataclass
class MambaState:
    """All that a model remembers between two tokens; ``forward`` and ``step`` update it in place.

    Members
    -------
    convolution : (layer, b, k-1, c), the last ``k-1`` convolution inputs, oldest first; c is e, of
        Mamba-2 e + 2 g n
    ssm : the scan state, float32, (layer, b, e, n), of Mamba-2 (layer, b, h, p, n)
    """

    convolution: Tensor
    ssm: Tensor

    @classmethod
    def initial(
        cls,
        configuration: Configuration,
        batch: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> MambaState:
        """Return the all-zero state of ``batch`` sequences."""
        if batch < 1:
            raise ValueError(f"batch is {batch}, must be at least 1")
        c = configuration
        window, scan = (c.d_conv - 1, c.convolved), c.scan_shape
        return cls(
            convolution=torch.zeros(c.n_layer, batch, *window, device=device, dtype=dtype),
            ssm=torch.zeros(c.n_layer, batch, *scan, device=device),
        )

    def reset(self) -> None:
        """Return to the start of a sequence."""
        self.convolution.zero_()
        self.ssm.zero_()

    def clone(self) -> MambaState:
        """Return an independent copy."""
        return MambaState(convolution=self.convolution.clone(), ssm=self.ssm.clone())

    def save(self, path: str | Path) -> None:
        """Write the state as a safetensors file."""
        atomic_write(path, save({name: getattr(self, name).contiguous() for name in _NAMES}))

    @classmethod
    def load(cls, path: str | Path, configuration: Configuration) -> MambaState:
        """Read a state; ``InputError`` names what does not fit ``configuration``."""
        try:
            tensors = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read the state {path}: {error}; save it again") from error
        if set(tensors) != set(_NAMES):
            raise InputError(f"{path} holds {sorted(tensors)}, a state holds {sorted(_NAMES)}")
        batch = tensors["ssm"].shape[1] if tensors["ssm"].dim() > 1 else 1
        expected = cls.initial(configuration, max(batch, 1))
        for name in _NAMES:
            found, wanted = tuple(tensors[name].shape), tuple(getattr(expected, name).shape)
            if found != wanted:
                raise InputError(
                    f"{path}: {name} has shape {found}, expected {wanted}; "
                    "give a state of the same model"
                )
        return cls(**tensors)
