"""What :mod:`model.qat` can train, and how the best of it becomes a file and is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import nn

from golden.artifact import load_program, save_program
from golden.command import atomic_write
from golden.errors import InputError
from golden.program import Program
from golden.reference import ReferenceExecutor
from model.checkpoint import checkpoint_bytes, load_checkpoint
from model.configuration import MambaConfiguration
from model.mamba import MambaLanguageModel, ScanName
from model.quantized_network import QuantizedNetwork
from model.ternary_peer import rounded, with_ternary_weights

__all__ = ["FloatSubject", "ProgramSubject", "Subject", "float_network"]


class Subject(Protocol):
    """Something to train."""

    path: Path

    def network(self) -> nn.Module:
        """Return the network to train, from tokens (b, l) to logits (b, l, V)."""
        ...

    def write(self, trained: nn.Module, provenance: dict[str, object]) -> None:
        """Write a trained network to ``path``."""
        ...

    def written(self) -> nn.Module:
        """Return the network that ``path`` holds."""
        ...


def float_network(model: MambaLanguageModel, device: str) -> MambaLanguageModel:
    """Return a copy of a float network with the scan that suits the device."""
    own = isinstance(model.configuration, MambaConfiguration)  # the kernel is Mamba-1's
    scan: ScanName = "triton" if own and device == "cuda" else "parallel"
    network = MambaLanguageModel(model.configuration, scan=scan)
    network.load_state_dict(model.state_dict())
    return network.eval().to(device)


class ProgramSubject:
    """A program's integers.

    Parameters
    ----------
    program : where training starts
    path : artifact to write
    probe : tokens (1, l) on which the device must compute what the golden model does
    """

    def __init__(self, program: Program, path: Path, probe: np.ndarray, device: str) -> None:
        self.path = path
        self._program, self._probe, self._device = program, probe, device

    def network(self) -> nn.Module:
        """Return the program's twin; its logits here equal the golden model's, or InputError."""
        return self._checked(self._program)

    def write(self, trained: nn.Module, provenance: dict[str, object]) -> None:
        """Write the program of the trained integers."""
        save_program(cast("QuantizedNetwork", trained).build(provenance), self.path)

    def written(self) -> nn.Module:
        """Return the twin of the written program, compared with the golden model as well."""
        return self._checked(load_program(self.path))

    def _checked(self, program: Program) -> nn.Module:
        network = QuantizedNetwork(program, torch.float32).to(self._device)
        wanted, _ = ReferenceExecutor(program).forward(self._probe)
        with torch.no_grad():
            found = network(torch.from_numpy(self._probe).to(self._device)).double().cpu().numpy()
        if not np.array_equal(found, np.ldexp(wanted.astype(float), -program.logit_fraction)):
            raise InputError(
                f"the trained network does not compute the golden model's integers on "
                f"{self._device}; train on the CPU, and report this"
            )
        return network


class FloatSubject:
    """The float network, or with ``ternary`` its peer of BitNet's weights; writes a checkpoint."""

    def __init__(
        self, model: MambaLanguageModel, path: Path, device: str, *, ternary: bool
    ) -> None:
        self.path = path
        self._model, self._device, self._ternary = model, device, ternary

    def network(self) -> nn.Module:
        """Return a copy of the float network, its projections ternary if they are asked to be."""
        network = float_network(self._model, self._device)
        return with_ternary_weights(network) if self._ternary else network

    def write(self, trained: nn.Module, provenance: dict[str, object]) -> None:
        """Write the weights that products use; a checkpoint has no provenance."""
        del provenance
        network = cast("MambaLanguageModel", trained)
        content = checkpoint_bytes(rounded(network) if self._ternary else network)
        atomic_write(self.path, content)

    def written(self) -> nn.Module:
        """Return the network of the written checkpoint."""
        return float_network(load_checkpoint(self.path), self._device)
