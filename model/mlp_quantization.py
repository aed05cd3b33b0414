"""Quantizes the MLP behind a mixer on what the integer network really feeds it.

As in :mod:`model.layer_quantization` every matrix is fitted anew to the integers that reach it,
and down makes up for the rounding of everything before it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.fixed_point import Integers, to_real
from golden.mlp import MLPFormats, MLPShifts, gated_mlp
from golden.operations.normalization import epsilon_integer
from golden.random_program import standard_tables
from golden.scheme import Scheme
from model.formats import FormatChoice
from model.layer_quantization import WeightChoice, fitted
from model.network_parameters import MLPParameters
from model.program_builder import MLPDraft
from model.weight_rounding import round_rows

__all__ = ["choose_mlp_formats", "quantize_mlp"]

Array = npt.NDArray[Any]


def choose_mlp_formats(
    values: dict[str, Array], scheme: Scheme, choice: FormatChoice, depth: tuple[int, int]
) -> MLPFormats:
    """Return the exponents of one MLP from samples of mlp_norm, mlp_gate, up and mlp_gated."""

    def find(name: str, bits: int, *, per_channel: bool = False) -> Any:
        return choice.fraction(values[name], bits, depth, per_channel=per_channel)

    inputs = scheme.projection_input_bits
    gated, channel = choice.channels(values["mlp_gated"], inputs, depth, choice.gated_surplus)
    return MLPFormats(
        norm_weight=0,  # follows from the weight when building
        norm=find("mlp_norm", inputs),
        gate=find("mlp_gate", scheme.gate_bits),
        up=find("up", scheme.scan_output_bits, per_channel=True),
        gated=gated,
        gated_channel=channel,
    )


def quantize_mlp(
    own: MLPParameters,
    formats: MLPFormats,
    scheme: Scheme,
    choice: WeightChoice,
    residual: Integers,
    residual_fraction: int,
    wanted: dict[str, Array],
) -> tuple[MLPDraft, Integers]:
    """Return the draft and the integer residual stream behind the MLP (b, l, d).

    Parameters
    ----------
    own, formats, scheme, choice : weights, exponents, widths, and how weights are rounded
    residual, residual_fraction : the integer network's stream in front of the MLP, (b, l, d)
    wanted : the float network's values mlp_z, up and mlp_residual, (b, l, ...)
    """
    limits, group = scheme.weight_range, scheme.weight_group
    rounded = {
        name: round_rows(getattr(own, name), limits, compensate=False, group=group)
        for name in ("gate", "up", "down")
    }
    draft = MLPDraft(parameters=own, formats=formats, **rounded)
    seen, _ = _run(draft, scheme, residual, residual_fraction)
    norm = to_real(seen["mlp_norm"], formats.norm)
    gate = fitted(own.gate, norm, wanted["mlp_z"], limits, choice, group=group)
    up = fitted(own.up, norm, wanted["up"], limits, choice, group=group)
    draft = dataclasses.replace(draft, gate=gate, up=up)
    seen, _ = _run(draft, scheme, residual, residual_fraction)
    missing = wanted["mlp_residual"] - to_real(residual, residual_fraction)
    # Channels with finer inputs meet coarser columns, as in out_proj.
    down = fitted(
        own.down * np.ldexp(1.0, -formats.gated_channel),
        to_real(seen["mlp_gated"], formats.gated),
        missing,
        limits,
        choice,
        group=group,
    )
    draft = dataclasses.replace(draft, down=down)
    return draft, _run(draft, scheme, residual, residual_fraction)[1]


def _run(
    draft: MLPDraft, scheme: Scheme, residual: Integers, residual_fraction: int
) -> tuple[dict[str, Integers], Integers]:
    """Return what golden makes of the draft as it is, by probe, and the stream behind it."""
    mlp, seen = draft.build(scheme), dict[str, Integers]()
    after = gated_mlp(
        mlp,
        MLPShifts.of(mlp, residual_fraction, 0),
        residual,
        scheme=scheme,
        inputs=scheme.projection_input_bits,
        tables=standard_tables(),
        epsilon=epsilon_integer(residual.shape[-1], residual_fraction),
        show=lambda name, values: seen.update({name: values}),
    )
    return seen, after
