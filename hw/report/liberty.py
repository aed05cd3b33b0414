"""NAND2-equivalents and delay on a standard-cell library."""

from __future__ import annotations

import re
from typing import Any

from golden.errors import InputError
from hw.report.components import Cells

_CELL = re.compile(r"\bcell\s*\(\s*\"?([\w$.]+)\"?\s*\)\s*\{")
_AREA = re.compile(r"\barea\s*:\s*\"?([0-9.eE+-]+)\"?\s*;")
_NAND2 = re.compile(r"nand2(?![b0-9]*b)", re.IGNORECASE)
_DELAY = re.compile(r"Delay\s*=\s*([0-9.]+)\s*ps")


def cell_areas(text: str) -> dict[str, float]:
    """Return the area of every cell of a Liberty file's text, in the library's unit.

    Raises
    ------
    InputError
        If there is no cell with an area.
    """
    starts = list(_CELL.finditer(text))
    areas = {}
    for position, match in enumerate(starts):
        end = starts[position + 1].start() if position + 1 < len(starts) else len(text)
        area = _AREA.search(text, match.end(), end)
        if area is not None:
            areas[match.group(1)] = float(area.group(1))
    if not areas:
        raise InputError("the Liberty file has no cell with an area; give a standard-cell library")
    return areas


def nand2_area(areas: dict[str, float]) -> float:
    """Return the area of the smallest two-input NAND.

    Raises
    ------
    InputError
        If no cell is called so.
    """
    found = [area for name, area in areas.items() if _NAND2.search(name)]
    if not found:
        raise InputError("the Liberty file has no cell called nand2; areas cannot be compared")
    return min(found)


def gates(cells: Cells, areas: dict[str, float]) -> float:
    """Return the NAND2-equivalents of the cells; cells of no library area, memories, are none."""
    unit = nand2_area(areas)
    return sum(areas.get(kind, 0.0) * count for kind, count in cells.items()) / unit


def delay_ps(log: str) -> float:
    """Return ABC's estimate of the longest path between registers or ports, ps."""
    return max((float(value) for value in _DELAY.findall(log)), default=0.0)


def cell_report(instances: dict[str, Cells], library: str, log: str) -> dict[str, Any]:
    """Return NAND2-equivalents of every instance and of the whole, the delay, and what is left out.

    ``memories`` counts the memory cells, which a chip has from a memory compiler and which are
    in none of the areas.
    """
    areas = cell_areas(library)
    by_path = {path: round(gates(cells, areas), 1) for path, cells in instances.items()}
    memories = sum(
        count
        for cells in instances.values()
        for kind, count in cells.items()
        if kind.startswith("$mem")
    )
    return {
        "nand2_area": nand2_area(areas),
        "nand2_equivalents": round(sum(by_path.values()), 1),
        "nand2_equivalents_by_instance": by_path,
        "delay_ps": delay_ps(log),
        "memories": memories,
    }
