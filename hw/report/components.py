"""Which component a cell belongs to, from the instance path in its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

Cells = dict[str, int]
"""Cells of each type."""

ULTRASCALE_FAMILIES = {
    "LUT": ("LUT", "INV"),
    "LUTRAM": ("RAM32", "RAM64", "RAM128", "RAM256", "SRL"),
    "FF": ("FD",),
    "CARRY8": ("CARRY",),
    "DSP48E2": ("DSP48",),
    "RAMB18": ("RAMB18",),
    "RAMB36": ("RAMB36",),
}
"""Names that the cell types of an UltraScale+ family begin with."""

TOP = "top"
"""Cells that lie in no instance."""


def component_of(name: str, instances: frozenset[str]) -> str:
    """Return the longest instance path that ``name`` lies in, ``top`` if there is none.

    Cells made by optimization are named after the net they drive, so a function shared by two
    components counts where its output lies.
    """
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        path = ".".join(parts[:length])
        if path in instances:
            return path
    return TOP


def by_instance(cells: Iterable[tuple[str, str]], instances: frozenset[str]) -> dict[str, Cells]:
    """Count (name, type) pairs by instance path; the counts add up to the whole design."""
    found: dict[str, Counter[str]] = {}
    for name, kind in cells:
        found.setdefault(component_of(name, instances), Counter())[kind] += 1
    return {path: dict(sorted(found[path].items())) for path in sorted(found)}


def at_depth(instances: Mapping[str, Cells], depth: int) -> dict[str, Cells]:
    """Join the counts of instances that share the first ``depth`` names of their paths."""
    joined: dict[str, Counter[str]] = {}
    for path, cells in instances.items():
        key = ".".join(path.split(".")[:depth])
        joined.setdefault(key, Counter()).update(cells)
    return {path: dict(sorted(joined[path].items())) for path in sorted(joined)}


def totals(instances: Mapping[str, Cells]) -> Cells:
    """Return the sum over all instances."""
    total: Counter[str] = Counter()
    for cells in instances.values():
        total.update(cells)
    return dict(sorted(total.items()))


def ultrascale_families(cells: Mapping[str, int]) -> Cells:
    """Return UltraScale+ cells as papers count them; wide multiplexers are in no count."""
    found: Counter[str] = Counter()
    for kind, count in cells.items():
        for family, beginnings in ULTRASCALE_FAMILIES.items():
            if kind.startswith(beginnings):
                found[family] += count
    return dict(sorted(found.items()))
