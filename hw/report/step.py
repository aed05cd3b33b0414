"""Results that are kept: a step with the same inputs is not run again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from golden.command import atomic_write, digest


def inputs_digest(content: dict[str, Any]) -> str:
    """Return the identity of a step's inputs: files by digest, options, tool versions."""
    return digest(json.dumps(content, sort_keys=True).encode())


def kept(
    path: Path, identity: str, work: Callable[[], dict[str, Any]], *files: Path
) -> tuple[dict[str, Any], bool]:
    """Return a step's result and whether it was there already.

    Parameters
    ----------
    path : JSON file of the result, beside the digest of the inputs that gave it
    identity : :func:`inputs_digest` of the inputs now
    work : makes the result; called only if the file is of other inputs
    files : what ``work`` writes besides; a missing one makes the result again
    """
    if path.is_file() and all(file.is_file() for file in files):
        found = json.loads(path.read_text())
        if found.get("inputs") == identity:
            return found["result"], True
    result = work()
    text = json.dumps({"inputs": identity, "result": result}, indent=1, sort_keys=True)
    atomic_write(path, (text + "\n").encode())
    return result, False
