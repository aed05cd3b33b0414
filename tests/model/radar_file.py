"""A small file in the layout of the MARS data set, whose joints follow from its points."""

from pathlib import Path

import numpy as np

ROWS = {"train": 160, "validate": 40, "test": 48}


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a small data set: joints around the mean of the points."""
    random, content = np.random.default_rng(seed), {}
    offsets = random.normal(0.0, 0.3, 57)
    for split, rows in ROWS.items():
        place = random.normal([0.0, 1.7, 0.3], 0.2, (rows, 1, 3))
        points = np.concatenate(
            [place + random.normal(0.0, 0.3, (rows, 64, 3)), random.normal(0, 1, (rows, 64, 2))],
            axis=-1,
        )
        order = points[..., 0].argsort(axis=1)
        points = np.take_along_axis(points, order[..., None], axis=1)
        points[np.arange(64) >= random.integers(8, 65, rows)[:, None]] = 0.0
        content[f"x_{split}"] = points.reshape(rows, 8, 8, 5).astype(np.float32)
        labels = np.repeat(place[:, 0], 19, axis=1) + offsets
        content[f"y_{split}"] = labels.astype(np.float32)
        content[f"subject_{split}"] = (np.arange(rows) % 3 + 2).astype(np.int8)
    return content


def write(path: Path, **changes: np.ndarray | None) -> Path:
    """Write the arrays with some replaced, or left out where None."""
    content = {k: v for k, v in (arrays() | changes).items() if v is not None}
    np.savez(path, **content)
    return path
