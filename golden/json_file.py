"""Reads the JSON files that commands are given or left behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from golden.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_object"]


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Parameters
    ----------
    path : UTF-8 text
    remedy : what to do if it is missing or damaged, the end of the error's line

    Raises
    ------
    InputError
        If there is no such file, or it holds anything but one JSON object.
    """
    if not path.is_file():
        raise InputError(f"no file {path}; {remedy}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object; {remedy}")
    return content
