"""How a network shows its intermediates: a function that sees each one and may replace it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["Stage", "Tap", "silent", "stage"]

Tap = Callable[[str, Any], Tensor | None]
"""``tap(name, value)``; a tensor that it returns takes the value's place."""
Stage = Callable[[str, Any], Any]
"""A tap bound to one layer: returns the replacement or else what it was shown."""


def silent(_name: str, value: Any) -> Any:
    """Show nothing."""
    return value


def stage(tap: Tap | None, prefix: str) -> Stage:
    """Bind ``tap`` to the names that begin with ``prefix``."""
    if tap is None:
        return silent

    def show(name: str, value: Any) -> Any:
        replacement = tap(prefix + name, value)
        return value if replacement is None else replacement

    return show
