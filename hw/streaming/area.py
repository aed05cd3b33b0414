"""Area of a frame network's engine on an ECP5, estimated from its plan without building it.

The sums are those of :mod:`hw.schedule.area`, with terms that a plan gives: every array has lanes,
products and weights of its own.
"""

from __future__ import annotations

from golden.scheme import Scheme
from hw.parameter_memory import memory_cost
from hw.schedule.area import STREAMING, estimated
from hw.streaming.plan import StreamingPlan

__all__ = ["estimate_streaming", "streaming_terms"]

_OUTER = ("rows", "front", "hidden", "head")
"""Arrays before and behind the blocks, with the weights of embedding and head."""


def _operand_bits(name: str, scheme: Scheme) -> tuple[int, int]:
    """Return the width of the weights of an array, and of what it reads."""
    if name in ("rows", "front"):
        return scheme.embedding_bits, scheme.feature_bits
    if name in _OUTER:
        return scheme.embedding_bits, scheme.activation_bits
    return scheme.weight_bits, scheme.projection_input_bits


def streaming_terms(plan: StreamingPlan, scheme: Scheme) -> dict[str, dict[str, float]]:
    """Return what each resource grows with, in the order of the factors.

    ``product_bits`` sums the products of the operands' widths over all lanes, as products of the
    arrays are made of logic; ``logic_bits`` are those of weights that no block memory holds.
    """
    averages = plan.shape.average is not None
    mixer = {"scan_engine": float(not averages), "average_engine": float(averages)}
    scan = {"scan_lanes": 0.0 if averages else float(plan.lanes.scan)}
    products = blocks = logic = 0
    for name, stage in plan.stages.items():
        weight_bits, input_bits = _operand_bits(name, scheme)
        layers = 1 if name in _OUTER else plan.shape.n_layer
        words = layers * stage.groups * stage.columns
        in_blocks, in_logic = memory_cost(words, stage.lanes * weight_bits)
        blocks, logic = blocks + in_blocks, logic + in_logic
        products += stage.lanes * weight_bits * input_bits
    array = {"array_lanes": float(plan.lanes.mac), "product_bits": float(products)}
    return {
        "TRELLIS_COMB": {**mixer, **array, **scan, "logic_bits": float(logic)},
        "TRELLIS_FF": {**mixer, **array, **scan},
        "MULT18X18D": {**mixer, **scan},
        "DP16KD": {**mixer, "blocks": float(blocks)},
    }


def estimate_streaming(plan: StreamingPlan, scheme: Scheme) -> dict[str, int]:
    """Return the estimated cells of a frame network's engine with a mix of multipliers."""
    return estimated(STREAMING, streaming_terms(plan, scheme))
