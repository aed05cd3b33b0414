"""Area of an engine on an ECP5, estimated without building it: a language model's terms.

Every resource is a sum of terms that grow with the structure, with factors fitted to synthesized
engines. ``python -m hw.report.calibrate`` synthesizes them and writes the factors; engines that
took no part in the fit tell the estimate's error. The terms of a frame network's engine are in
:mod:`hw.streaming.area`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.scheme import Scheme
from hw.lanes import Lanes

CALIBRATION = Path(__file__).with_name("area.json")
SHARED, STREAMING = "shared", "streaming"
"""Organisations, which have terms and factors of their own."""
BLOCK_BITS = 18 * 1024
"""Bits of one DP16KD."""


def memory_bits(shape: NetworkShape, scheme: Scheme) -> int:
    """Return the bits of weights, embedding, head, decay rates and state, the large memories."""
    inner = (3 * shape.d_model + shape.projected) * shape.d_inner
    block = (inner + 3 * shape.d_model * (shape.mlp or 0)) * scheme.weight_bits
    # Rates and dt_proj's weights of the scan, and the state itself.
    states = shape.d_inner * shape.d_state * (20 + scheme.state_bits)
    ends = shape.vocabulary * shape.d_model * (scheme.embedding_bits + scheme.head_weight_bits)
    return shape.n_layer * (block + states) + ends


def terms(shape: NetworkShape, scheme: Scheme, lanes: Lanes) -> dict[str, dict[str, float]]:
    """Return what each resource grows with, in the order of the factors.

    Address and counter widths grow with the logarithm of the network's size; a lane of the array
    with the width of its weights; the rest is the same in every engine.
    """
    address = float(np.log2(shape.n_layer * shape.d_inner * shape.d_model))
    lane = {"array_lanes": float(lanes.mac), "scan_lanes": float(lanes.scan)}
    multiplying = lane | ({"array_lanes": 0.0} if scheme.ternary else {})
    logic = {
        "engine": 1.0,
        "address_bits": address,
        **lane,
        "array_weight_bits": float(lanes.mac * scheme.weight_bits),
    }
    return {
        "TRELLIS_COMB": logic,
        "TRELLIS_FF": dict(logic),
        "MULT18X18D": {"engine": 1.0, **multiplying},
        "DP16KD": {"engine": 1.0, "blocks": memory_bits(shape, scheme) / BLOCK_BITS},
    }


def fit(rows: Sequence[dict[str, float]], counts: Sequence[int]) -> dict[str, float]:
    """Return the factors, none negative, that minimize the relative squared error.

    A term whose factor comes out negative is dropped, the most negative first, and the rest is
    fitted again, so that more structure never means less area.
    """
    names = list(rows[0])
    weight = 1 / np.maximum(np.array(counts, float), 1)
    while names:
        matrix = np.array([[row[name] for name in names] for row in rows]) * weight[:, None]
        factors = np.linalg.lstsq(matrix, np.array(counts) * weight, rcond=None)[0]
        if factors.min() >= 0:
            return {name: round(float(f), 4) for name, f in zip(names, factors, strict=True)}
        names.pop(int(factors.argmin()))
    raise AssertionError("counts of cells are positive, so at least one factor is")


def apply(factors: dict[str, float], row: dict[str, float]) -> float:
    """Return the estimate of one resource."""
    return sum(factor * row[name] for name, factor in factors.items())


@cache
def calibration(organisation: str) -> dict[str, Any]:
    """Return the committed calibration of :data:`SHARED` or :data:`STREAMING`.

    Raises
    ------
    InputError
        If the file is missing.
    """
    if not CALIBRATION.is_file():
        raise InputError(f"{CALIBRATION} is missing; run: python -m hw.report.calibrate")
    return dict(json.loads(CALIBRATION.read_text())[organisation])


def estimated(organisation: str, grown: dict[str, dict[str, float]]) -> dict[str, int]:
    """Return the cells of an engine, by nextpnr's types, from its terms."""
    factors = calibration(organisation)["factors"]
    return {kind: round(apply(factors[kind], row)) for kind, row in grown.items()}


def estimate(shape: NetworkShape, scheme: Scheme, lanes: Lanes) -> dict[str, int]:
    """Return the estimated cells of a language model's engine."""
    return estimated(SHARED, terms(shape, scheme, lanes))
