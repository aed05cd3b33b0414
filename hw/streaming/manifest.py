"""What a generated directory of a frame network says of itself."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from golden.program import Program
from hw.manifest import VERSION
from hw.parameter_memory import MemoryPlan
from hw.primitives import MULTIPLIER_MODULE
from hw.register_map import Register
from hw.streaming.plan import StreamingPlan

__all__ = ["build_streaming_manifest", "prediction", "resources"]

_MEMORY = re.compile(r"^\s*reg \[(\d+):0\] \S+ *\[(\d+):0\];", re.MULTILINE)
_PRODUCT = re.compile(rf" \* |{MULTIPLIER_MODULE} ")


def _units(top: str, rtl: Mapping[str, str]) -> dict[str, str]:
    """Return the Verilog of every unit of the engine, its parts included, by the unit's name."""
    prefix = f"{top}_engine_"
    units: dict[str, str] = {}
    # In order of length a unit comes before its parts, whose names begin with its own.
    for name in sorted((n for n in rtl if n.startswith(prefix)), key=lambda n: (len(n), n)):
        path = name.removeprefix(prefix).removesuffix(".v")
        unit = next((known for known in units if path.startswith(f"{known}_")), path)
        units[unit] = units.get(unit, "") + rtl[name]
    return units


def resources(
    top: str, rtl: Mapping[str, str], plan: StreamingPlan, realisation: MemoryPlan
) -> dict[str, Any]:
    """Return multipliers and memory bits, counted in the Verilog, not estimated.

    ``hardware_multipliers`` are the products that are left to synthesis, by unit; with ``lut`` and
    ``mix`` others are made of logic.
    """
    units = dict(sorted(_units(top, rtl).items()))
    products = {unit: len(_PRODUCT.findall(text)) for unit, text in units.items()}
    memories: Counter[str] = Counter()
    for unit, text in units.items():
        memories[unit] += sum(
            (int(width) + 1) * (int(depth) + 1) for width, depth in _MEMORY.findall(text)
        )
    return {
        "multiplier_kind": realisation.multipliers.value,
        "primitives": realisation.primitives.value,
        "mac_lanes": plan.lanes.mac,
        "hardware_multipliers": {unit: count for unit, count in products.items() if count},
        "parameter_memory_bits": {
            name: width * len(words) for name, (width, words) in realisation.images.items()
        },
        "memory_bits": {unit: count for unit, count in memories.items() if count},
    }


def prediction(plan: StreamingPlan) -> dict[str, Any]:
    """Return cycles, lanes and utilisation: exact, as simulation asserts."""
    return {
        "predicted_cycles_per_frame": plan.frame_interval,
        "predicted_cycles_per_token": plan.interval,
        "predicted_latency": plan.latency,
        "frames_under_way": plan.frames_under_way,
        "beat": plan.beat,
        "hop": plan.hop,
        "lanes": dataclasses.asdict(plan.lanes),
        "mac_lanes": plan.lanes.mac,
        "scan_lanes": plan.lanes.scan,
        "products_per_frame": plan.products,
        "utilisation": {name: round(share, 6) for name, share in plan.utilisation.items()},
    }


def build_streaming_manifest(
    *,
    preset: str,
    top: str,
    artifact_digest: str,
    program: Program,
    plan: StreamingPlan,
    realisation: MemoryPlan,
    rtl: Mapping[str, str],
    files: Mapping[str, str],
    persistent: bool,
    contexts: int,
) -> str:
    """Return the manifest's JSON text.

    ``predicted_latency`` counts from a frame's first token to its last output, and
    ``predicted_cycles_per_frame`` holds while input is there and outputs are taken.
    """
    content = {
        "version": VERSION,
        "organisation": "streaming",
        "preset": preset,
        "scheme": program.scheme.name,
        "top": top,
        "artifact_sha256": artifact_digest,
        **prediction(plan),
        "shape": dataclasses.asdict(program.shape),
        "widths": dataclasses.asdict(program.scheme),
        "plan": {
            "origin": plan.origin,
            "load": plan.load,
            "starts": plan.starts,
            "tags": plan.tags,
            "slots": plan.slots,
        },
        "persistent": persistent,
        "contexts": contexts,
        "registers": {r.name: int(r) for r in Register} if persistent else {},
        "resources": resources(top, rtl, plan, realisation),
        "provenance": program.provenance,
        "files": dict(files),
    }
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
