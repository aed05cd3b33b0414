"""Executes a program, batch or step: compiled kernels, or the definition where probes are asked."""

from __future__ import annotations

from golden.reference import Probe, ReferenceExecutor
from golden.state import State

__all__ = ["Executor", "Probe", "State"]


class Executor(ReferenceExecutor):
    """Runs a program."""
