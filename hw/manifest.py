"""What a generated directory says of itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from golden.program import Program
from hw.parameter_memory import MemoryPlan
from hw.register_map import Register
from hw.schedule import Schedule

VERSION = 2
MULTIPLIERS_A_SCAN_LANE = 3
"""decay h, delta u B, C h."""
MULTIPLIERS_A_DECAY = 2
"""delta A, the exponent's slope: in every lane, with heads once."""
OTHER_MULTIPLIERS = 9
"""SiLU, softplus, 1/sqrt, r r, r root, norm weight, delta u, D u, y gate."""
GATED_NORM_MULTIPLIERS = 4
"""1/sqrt, v v, v root, norm weight."""


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below ``folder``, by relative path, in order."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def resources(program: Program, schedule: Schedule, plan: MemoryPlan) -> dict[str, Any]:
    """Return multipliers and memory bits by name: counted from the structure, not estimated."""
    shape, scheme, lanes = program.shape, program.scheme, schedule.lanes
    steps = shape.d_state // lanes.scan
    parameters = {name: width * len(words) for name, (width, words) in plan.images.items()}
    state = {
        "scan_state": lanes.contexts
        * shape.n_layer
        * shape.d_inner
        * shape.d_state
        * scheme.state_bits,
        "convolution_window": lanes.contexts
        * shape.n_layer
        * shape.convolution_channels
        * (shape.d_conv - 1)
        * scheme.activation_bits,
    }
    decays = 1 if shape.heads else lanes.scan
    gated_norm = {"gated_norm": GATED_NORM_MULTIPLIERS} if shape.heads else {}
    return {
        "multiplier_kind": plan.multipliers.value,
        "primitives": plan.primitives.value,
        "multipliers": {
            "array": lanes.mac,
            "scan": lanes.scan * MULTIPLIERS_A_SCAN_LANE + decays * MULTIPLIERS_A_DECAY,
            "dt_proj": -(-shape.dt_rank // steps),
            "convolution": shape.d_conv,
            "other": OTHER_MULTIPLIERS,
            **gated_norm,
        },
        "parameter_memory_bits": parameters,
        "state_memory_bits": state,
    }


def cycles_generating(schedule: Schedule) -> float:
    """Return the mean cycles a token while every context's next token is its last arg-max.

    A context's token waits for its arg-max, any token for the interval: C tokens in round robin
    take ``max(C interval, latency + turnaround)`` cycles.
    """
    contexts = schedule.lanes.contexts
    own = schedule.latency + SINGLE_STREAM_TURNAROUND
    return max(schedule.interval * contexts, own) / contexts


def build_manifest(
    *,
    preset: str,
    top: str,
    artifact_digest: str,
    program: Program,
    schedule: Schedule,
    plan: MemoryPlan,
    files: dict[str, str],
) -> str:
    """Return the manifest's JSON text; ``predicted_cycles_per_token`` holds while input is known.

    ``predicted_cycles_single_stream`` is the distance of tokens when each is the previous arg-max,
    handed back in the cycle in which it is offered: the latency, one cycle through the result
    buffer, and the cycle that takes the token. ``predicted_cycles_generating`` is the mean distance
    when as many streams as there are contexts do so.
    """
    single = schedule.latency + SINGLE_STREAM_TURNAROUND
    generating = cycles_generating(schedule)
    content = {
        "version": VERSION,
        "organisation": "shared",
        "preset": preset,
        "scheme": program.scheme.name,
        "top": top,
        "artifact_sha256": artifact_digest,
        "predicted_cycles_per_token": schedule.interval,
        "predicted_cycles_single_stream": single,
        "predicted_cycles_generating": generating,
        "array_utilisation": round(schedule.utilisation(schedule.interval), 6),
        "array_utilisation_single_stream": round(schedule.utilisation(single), 6),
        "array_utilisation_generating": round(schedule.utilisation(generating), 6),
        "mac_lanes": schedule.lanes.mac,
        "scan_lanes": schedule.lanes.scan,
        "contexts": schedule.lanes.contexts,
        "registers": {register.name: int(register) for register in Register},
        "shape": dataclasses.asdict(program.shape),
        "widths": dataclasses.asdict(program.scheme),
        "schedule": {
            "array": [dataclasses.asdict(i) for i in schedule.array],
            "scan_starts": list(schedule.scan_starts),
        },
        "resources": resources(program, schedule, plan),
        "provenance": program.provenance,
        "files": files,
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


SINGLE_STREAM_TURNAROUND = 2
"""Cycles from the arg-max's own cycle to cycle 0 of the token it becomes."""
