"""Hybrid schemes: a JSON file gives single layers weights of their own width (Q5).

The file maps layer numbers to bits, ``{"0": 8, "4": 8}``; layers that it does not name keep the
scheme's width. A program stores all weights at the widest width, so that the hardware runs it as it
is; a narrower layer just does not use all values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from golden.errors import InputError

__all__ = ["read_layer_widths"]

_LOW, _HIGH = 2, 8


def read_layer_widths(path: Path, layers: int) -> Mapping[int, int]:
    """Return the weight bits of the layers that ``path`` names.

    Raises
    ------
    InputError
        If there is no such file, it is no JSON object, it names a layer that does not exist, or a
        width is outside 2..8.
    """
    if not path.is_file():
        raise InputError(f'no layer file {path}; write one such as {{"0": 8, "1": 4}}')
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); map layer numbers to bits") from error
    if not isinstance(content, dict):
        raise InputError(f'{path} is no JSON object; map layer numbers to bits, {{"0": 8}}')
    widths = {}
    for name, bits in content.items():
        if name not in map(str, range(layers)):
            raise InputError(
                f"{path} names layer {name}, the network has layers 0..{layers - 1}; "
                "name one of these"
            )
        if isinstance(bits, bool) or not isinstance(bits, int) or not _LOW <= bits <= _HIGH:
            raise InputError(
                f"{path} gives layer {name} {bits!r} bits, outside {_LOW}..{_HIGH}; "
                "choose a width in that range"
            )
        widths[int(name)] = bits
    return widths
