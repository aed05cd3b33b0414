"""What every probe point must show, in the order and cycle in which the engine shows it."""

from __future__ import annotations

import numpy as np

from golden.fixed_point import Integers
from golden.program import Program
from golden.vectors import Trace
from hw.lanes import Lanes

_BEFORE, _INSIDE, _AFTER = "before", "inside", "after"
_PLACES: dict[str, tuple[str, ...]] = {
    "residual": (_BEFORE, _INSIDE),
    "norm": (_INSIDE, _AFTER),
    "logits": (_AFTER,),
    "token": (_AFTER,),
}
"""Where the passes of a probe lie; probes not listed lie inside the blocks only."""
_OF_MLP = {"residual": "mlp_residual", "norm": "mlp_norm"}
"""Golden's name of a probe's second pass in a block with an MLP."""


def pack_lanes(values: Integers, lanes: int, bits: int) -> np.ndarray:
    """Return groups of ``lanes`` neighbours packed into unsigned words, the first lowest.

    ``values`` is (l, m); the result is (l, m / lanes), of Python integers since words may be
    wider than 64 bits.
    """
    mask = (1 << bits) - 1
    groups = values.reshape(len(values), -1, lanes)
    words = np.zeros(groups.shape[:2], dtype=object)
    for lane in range(lanes):
        field = (groups[:, :, lane] & mask).astype(object)
        words |= field << (lane * bits)
    return words


def expected_probe(name: str, program: Program, lanes: Lanes, trace: Trace) -> np.ndarray:
    """Return the values of probe ``name``, one row a token, in hardware order: (l, count)."""
    length = len(trace.tokens)
    passes: list[np.ndarray] = []
    for place in _PLACES.get(name, (_INSIDE,)):
        if place == _INSIDE:
            names = [name]
            if program.mlps is not None and name in _OF_MLP:
                names.append(_OF_MLP[name])
            passes += [
                trace.probes[f"layer{i}.{own}"].reshape(length, -1)
                for i in range(program.shape.n_layer)
                for own in names
            ]
        else:
            passes.append(trace.probes[name].reshape(length, -1))
    values = np.concatenate(passes, axis=1)
    if name == "state":
        return pack_lanes(values, lanes.scan, program.scheme.state_bits)
    return values
