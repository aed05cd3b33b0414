"""The explicit streaming state of a positioning network: all that it remembers inside a window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from golden.command import atomic_write
from golden.errors import InputError
from model.slim_configuration import SlimConfiguration

__all__ = ["SlimState"]


@dataclass
class SlimState:
    """What frames already seen leave behind; ``advance`` replaces the tensors, changing none.

    Members
    -------
    seen : frames of the current window so far, 0 <= seen < K
    frames : (b, h, c) projected frames that a later patch still needs
    tokens : (b, t, d) finished tokens that the head still needs
    blocks : of every block its tensors by name. Of a ``slim`` block ``ssm`` (b, e), and what waits
        for the tokens that the centred convolution still lacks: ``x`` (b, h, e) its input,
        ``residual`` (b, w, d) and ``z`` (b, w, e). Of a ``mamba`` block ``ssm`` (b, e, n) and
        ``convolution`` (b, k-1, e)
    """

    seen: int
    frames: Tensor
    tokens: Tensor
    blocks: list[dict[str, Tensor]]

    @classmethod
    def initial(
        cls,
        configuration: SlimConfiguration,
        batch: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> SlimState:
        """Return the state at the start of ``batch`` windows."""
        if batch < 1:
            raise ValueError(f"batch is {batch}, must be at least 1")
        c = configuration

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, device=device, dtype=dtype)

        shapes: dict[str, tuple[int, ...]]
        if c.mixer == "mamba":
            shapes = {"ssm": (c.d_inner, c.d_state), "convolution": (c.d_conv - 1, c.d_inner)}
        else:
            before = c.d_conv // 2
            shapes = {"ssm": (c.d_inner,), "x": (before, c.d_inner)}
            shapes |= {"residual": (0, c.d_model), "z": (0, c.d_inner)}
        return cls(
            seen=0,
            frames=zeros(0, c.projection),
            tokens=zeros(0, c.d_model),
            blocks=[
                {name: zeros(*shape) for name, shape in shapes.items()} for _ in range(c.n_layer)
            ],
        )

    def clone(self) -> SlimState:
        """Return an independent copy."""
        return SlimState(
            self.seen,
            self.frames.clone(),
            self.tokens.clone(),
            [{name: tensor.clone() for name, tensor in block.items()} for block in self.blocks],
        )

    def assign(self, other: SlimState) -> None:
        """Become ``other``; given an initial state, this is the reset."""
        self.seen, self.frames, self.tokens = other.seen, other.frames, other.tokens
        self.blocks = other.blocks

    def save(self, path: str | Path) -> None:
        """Write the state as a safetensors file."""
        tensors = {"seen": torch.tensor(self.seen), "frames": self.frames, "tokens": self.tokens}
        for index, block in enumerate(self.blocks):
            tensors |= {f"blocks.{index}.{name}": tensor for name, tensor in block.items()}
        atomic_write(path, save({name: t.detach().contiguous() for name, t in tensors.items()}))

    @classmethod
    def load(cls, path: str | Path, configuration: SlimConfiguration) -> SlimState:
        """Read a state; ``InputError`` names what does not fit ``configuration``."""
        try:
            tensors = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read the state {path}: {error}; save it again") from error
        expected = cls.initial(configuration, 1)
        names = {"seen", "frames", "tokens"}
        for index, block in enumerate(expected.blocks):
            names |= {f"blocks.{index}.{name}" for name in block}
        if set(tensors) != names:
            raise InputError(f"{path} holds {sorted(tensors)}, a state holds {sorted(names)}")
        state = cls(
            seen=int(tensors["seen"]),
            frames=tensors["frames"],
            tokens=tensors["tokens"],
            blocks=[
                {name: tensors[f"blocks.{index}.{name}"] for name in block}
                for index, block in enumerate(expected.blocks)
            ],
        )
        wanted, found = _widths(expected), _widths(state)
        if wanted != found or not 0 <= state.seen < configuration.window:
            raise InputError(
                f"{path} has widths {found} after {state.seen} frames, the network {wanted}; "
                "give a state of the same network"
            )
        return state


def _widths(state: SlimState) -> list[int]:
    """Return the sizes that do not depend on how far the window is: the last of every tensor."""
    blocks = [tensor.shape[-1] for block in state.blocks for tensor in block.values()]
    return [state.frames.shape[-1], state.tokens.shape[-1], *blocks]
