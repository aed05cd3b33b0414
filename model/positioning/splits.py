"""Which trajectories train, validate and test: always whole ones, so that no window leaks.

Neighbouring grid lines are 2.5 cm apart, so a random choice of lines tests little more than
interpolation between two training lines. ``block`` holds out blocks of neighbouring lines and all
random drives. ``leave-out`` and ``odd-even`` are the published splits, with the random drives added
as a test of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from golden.errors import InputError
from model.positioning.trajectories import Trajectory

__all__ = ["SPLITS", "TESTS", "make_split"]

SPLITS = ("block", "leave-out", "odd-even")
TESTS = ("test-lines", "test-random")
_LINES = 5  # of a block
_PUBLISHED_VALIDATION, _PUBLISHED_TEST = (109, 125), (107, 140)


def make_split(name: str, trajectories: Sequence[Trajectory]) -> dict[str, list[str]]:
    """Return the names of the trajectories of train, validate, test-lines and test-random.

    Raises
    ------
    InputError
        If the split is unknown or the trajectories are too few for it.
    """
    if name not in SPLITS:
        raise InputError(f"unknown split {name!r}; choose one of {', '.join(SPLITS)}")
    grids = [t for t in trajectories if t.kind == "grid"]
    if name == "block":
        validation, test = _blocks(grids)
    else:
        numbers = {t.name: _number(t.name) for t in grids}
        validation = [t for t, n in numbers.items() if n in _PUBLISHED_VALIDATION]
        test = [
            t
            for t, n in numbers.items()
            if t not in validation and (n in _PUBLISHED_TEST if name == "leave-out" else n % 2 == 0)
        ]
    split = {
        "train": [t.name for t in grids if t.name not in {*validation, *test}],
        "validate": validation,
        "test-lines": test,
        "test-random": [t.name for t in trajectories if t.kind != "grid"],
    }
    for part in ("train", "validate", "test-lines"):
        if not split[part]:
            raise InputError(
                f"split {name} leaves no trajectory to {part} among {len(grids)} grid lines; "
                "give more lines or another --split"
            )
    return split


def _blocks(grids: Sequence[Trajectory]) -> tuple[list[str], list[str]]:
    """Return neighbouring lines for validation and for the test, well inside the area."""
    order = [t.name for t in sorted(grids, key=lambda t: float(np.median(t.xy[:, 0])))]
    if len(order) < 8 * _LINES:
        return order[:1], order[-1:] if len(order) > 2 else []
    test, validation = 2 * len(order) // 3, len(order) // 4
    return order[validation : validation + _LINES], order[test : test + _LINES]


def _number(name: str) -> int:
    """Return the last integer in a trajectory's name."""
    numbers = re.findall(r"\d+", name)
    if not numbers:
        raise InputError(f"trajectory {name!r} has no number, which the published splits go by")
    return int(numbers[-1])
