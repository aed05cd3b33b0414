"""Quantizes one block after the other, each matrix on what the integer network really feeds it.

The blocks before a matrix are already integers, so its input has their errors. Rounding moves its
own errors to where that input, and the loss's gradient at the output, feel them least. Where the
gradient is not known a matrix is fitted anew before: the fit maps that input to the float network's
output, and so makes up for the rounding of everything before it. It learns the calibration text as
well, by which rounding that knows the gradient loses more than it gains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.compiled import CompiledBlocks
from golden.configuration import NetworkShape
from golden.fixed_point import Integers, integer_range, requantize, to_real
from golden.layer import LayerFormats
from golden.operations.linear import accumulate
from golden.program import Program
from golden.scheme import Scheme
from golden.state import State
from model.network_parameters import LayerParameters
from model.program_builder import LayerDraft, block_program
from model.rotation import hadamard_columns
from model.sensitivity import LayerSensitivity
from model.weight_rounding import RoundedRows, refit, round_groups, round_rows

__all__ = ["LayerQuantizer", "WeightChoice", "fitted", "round_taps"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class WeightChoice:
    """How weights are rounded.

    Parameters
    ----------
    compensate : error compensation (GPTQ and coordinate descent), else round to nearest
    refit_strength : how firmly a fit stays at the float weights; None rounds those themselves, as
        always where the loss's gradient is known
    scales : real factors tried a row of x before its exponent, which the taps take back
    group : columns that share a real scale, which only a simulation has; None for a row's exponent
    keep : the blocks' matrices were trained for their format: round them to nearest and fit
        nothing but taps and biases
    """

    compensate: bool = True
    refit_strength: float | None = 0.02
    scales: int = 8
    group: int | None = None
    keep: bool = False


def _flat(values: Array) -> Array:
    return values.reshape(-1, values.shape[-1])


def round_taps(taps: Array, bits: int) -> RoundedRows:
    """Round the convolution's taps (e, K) to nearest."""
    return round_rows(taps, integer_range(bits), compensate=False)


def _tap_windows(x: Array, taps: int) -> Array:
    """Return what each tap sees of ``x`` (l, e) at every position, a view (l, e, K)."""
    padded = np.pad(x, ((taps - 1, 0), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, taps, axis=0)


def fitted(
    weight: Array, inputs: Array, wanted: Array, limits: tuple[int, int], choice: WeightChoice,
    sensitivity: Array | None = None, factors: Array | None = None, group: int | None = None,
) -> RoundedRows:  # fmt: skip
    """Fit ``weight`` (rows, columns) to map inputs to wanted (..., rows), then round it.

    ``group`` columns share an exponent; None if all of a row do.
    """
    if choice.keep:
        return round_rows(weight, limits, compensate=False, group=group)
    x, strength = _flat(inputs), choice.refit_strength
    moments = x.T @ x
    if strength is not None:
        weight = refit(weight, moments, x.T @ _flat(wanted), strength)
    if choice.group is not None:
        return round_groups(weight, limits, moments, group=choice.group, sensitivity=sensitivity)
    return round_rows(
        weight,
        limits,
        moments,
        compensate=choice.compensate,
        sensitivity=sensitivity,
        factors=factors,
        group=group,
    )


class LayerQuantizer:
    """Turns one block into a :class:`LayerDraft`.

    Parameters
    ----------
    shape, scheme, choice : sizes, widths, and how weights are rounded
    residual : the integer network's residual stream before the block, (b, l, d)
    residual_fraction : its fraction bits
    wanted : the float network's values: norm, x, z, convolution, dt, b, c, dt_raw, out and
        residual (after the block), (b, l, ...)
    product : exponent of the gated values in front of a gated norm
    sensitivity : what the loss feels of the products' errors; None if that is not known
    """

    def __init__(
        self,
        shape: NetworkShape,
        scheme: Scheme,
        choice: WeightChoice,
        residual: Integers,
        residual_fraction: int,
        wanted: dict[str, Array],
        product: int = 0,
        sensitivity: LayerSensitivity | None = None,
    ) -> None:
        self._shape, self._scheme, self._choice = shape, scheme, choice
        self._residual, self._fraction = residual, residual_fraction
        self._wanted, self._product, self._sensitivity = wanted, product, sensitivity

    def quantize(
        self, parameters: LayerParameters, formats: LayerFormats
    ) -> tuple[LayerDraft, Integers]:
        """Return the draft and the residual stream after the block (b, l, d)."""
        heads = self._shape.heads is not None

        def nearest(weight: Array, group: int | None = self._scheme.weight_group) -> RoundedRows:
            return round_rows(weight, self._scheme.weight_range, compensate=False, group=group)

        draft = LayerDraft(
            parameters=parameters,
            reference=parameters,
            formats=formats,
            in_proj=nearest(parameters.in_proj),
            taps=round_taps(parameters.taps, self._scheme.convolution_weight_bits),
            x_proj=None if heads else nearest(parameters.x_proj),
            dt_proj=None if heads else nearest(parameters.dt_proj, None),
            out_proj=nearest(parameters.out_proj),
            product=self._product,
            groups=self._shape.groups,
        )
        draft = self._taps(self._in_proj(draft))
        draft = self._dt_bias(draft) if heads else self._projections(draft)
        return self._out_proj(draft)

    def _projections(self, draft: LayerDraft) -> LayerDraft:
        """Round x_proj, then dt_proj on what x_proj makes."""
        formats = draft.formats
        wanted = np.concatenate([self._wanted[name] for name in ("dt", "b", "c")], axis=-1)
        u = to_real(self._run(draft, "u"), formats.u)
        # Channels with finer inputs meet coarser columns, as in out_proj.
        columns = np.ldexp(1.0, -formats.u_channel)
        weight = draft.parameters.x_proj * columns
        x_proj = self._fit("x_proj", weight, u, wanted)
        return self._dt_proj(dataclasses.replace(draft, x_proj=x_proj))

    def _dt_bias(self, draft: LayerDraft) -> LayerDraft:
        """Refit the bias of the step sizes to what in_proj's rounded rows make of them."""
        if self._choice.refit_strength is None:
            return draft
        dt = to_real(self._run(draft, "dt"), draft.formats.dt)
        bias = (self._wanted["dt_raw"] - dt).mean(axis=(0, 1))
        parameters = dataclasses.replace(draft.parameters, dt_bias=bias)
        return dataclasses.replace(draft, parameters=parameters)

    def _program(self, draft: LayerDraft) -> Program:
        """Return a program of the draft as it is whose token i is position i of the residual."""
        return block_program(
            draft.build(self._scheme),
            self._shape,
            self._scheme,
            self._residual.reshape(-1, self._residual.shape[-1]),
            self._fraction,
        )

    def _mixed(self, draft: LayerDraft) -> Integers:
        """Return the integers that out_proj will read (b, l, e)."""
        return self._each_row(draft, CompiledBlocks.mix)

    def _run(self, draft: LayerDraft, name: str) -> Integers:
        """Return the integers of norm, x, u or projected (b, l, ...)."""
        return self._each_row(
            draft, lambda blocks, row, state: blocks.before_scan(name, row, state)
        )

    def _each_row(
        self, draft: LayerDraft, run: Callable[[CompiledBlocks, Array, State], Array]
    ) -> Integers:
        """Run a part of the draft's block on every row of the residual from a state of zeros."""
        program = self._program(draft)
        blocks = CompiledBlocks(program)
        rows = [
            run(blocks, row.astype(np.float32), State.zeros(program, 1)) for row in self._residual
        ]
        return np.stack(rows).astype(np.int64)

    def _fit(
        self, name: str, weight: Array, inputs: Array, wanted: Array, factors: Array | None = None
    ) -> RoundedRows:
        """Fit matrix ``name`` to map inputs to wanted (..., rows), then round it."""
        felt = None if self._sensitivity is None else getattr(self._sensitivity, name)
        limits = self._scheme.weight_range
        group = None if name == "dt_proj" else self._scheme.weight_group
        return fitted(weight, inputs, wanted, limits, self._choice, felt, factors, group)

    def _in_proj(self, draft: LayerDraft) -> LayerDraft:
        """Round in_proj; a row of x may be scaled by any factor, which its taps take back."""
        e = self._shape.convolution_channels  # rows of x, with heads of B and C too
        choice, own = self._choice, draft.parameters
        norm = to_real(self._run(draft, "norm"), draft.formats.norm)
        names = ("x", "dt", "z") if self._shape.heads else ("x", "z")
        wanted = np.concatenate([self._wanted[name] for name in names], axis=-1)
        factors = np.full((len(own.in_proj), choice.scales), np.nan)
        factors[:e] = np.exp2(np.arange(choice.scales) / choice.scales)
        factors[e:, 0] = 1.0
        in_proj = self._fit("in_proj", own.in_proj, norm, wanted, factors)
        factor = in_proj.factor[:e]
        scaled = np.concatenate([own.in_proj[:e] * factor[:, None], own.in_proj[e:]])
        parameters = dataclasses.replace(own, in_proj=scaled, taps=own.taps / factor[:, None])
        x = draft.formats.x - np.rint(np.log2(factor)).astype(np.int64)
        formats = dataclasses.replace(draft.formats, x=x)
        return dataclasses.replace(
            draft, in_proj=in_proj, parameters=parameters, reference=parameters, formats=formats
        )

    def _taps(self, draft: LayerDraft) -> LayerDraft:
        """Refit each channel's taps and bias to the rounded x, then round the taps."""
        x = to_real(self._run(draft, "x"), draft.formats.x)  # b l e
        own, taps = draft.parameters, self._shape.d_conv
        wanted, bits = self._wanted["convolution"], self._scheme.convolution_weight_bits
        if self._choice.refit_strength is None:
            return dataclasses.replace(draft, taps=round_taps(own.taps, bits))
        windows = [_tap_windows(row, taps) for row in x]  # b of (l e K)
        moments, cross = np.zeros((x.shape[2], taps, taps)), np.zeros((x.shape[2], taps))
        for window, row in zip(windows, wanted, strict=True):
            moments += np.einsum("lek,lej->ekj", window, window)
            cross += np.einsum("lek,le->ek", window, row - own.taps_bias)
        ridge = 0.02 * np.trace(moments, axis1=1, axis2=2)[:, None] / taps + 1e-9  # e 1
        moments = moments + ridge[..., None] * np.eye(taps)
        fitted = np.linalg.solve(moments, (cross + ridge * own.taps)[..., None])[..., 0]
        rounded = round_taps(fitted, bits)
        errors = [
            (row - np.einsum("lek,ek->le", window, rounded.real)).mean(axis=0)
            for window, row in zip(windows, wanted, strict=True)
        ]
        bias = np.mean(errors, axis=0)
        own = dataclasses.replace(own, taps=fitted, taps_bias=bias)
        return dataclasses.replace(draft, taps=rounded, parameters=own)

    def _dt_proj(self, draft: LayerDraft) -> LayerDraft:
        rank, own = self._shape.dt_rank, draft.parameters
        dt = to_real(self._run(draft, "projected")[..., :rank], draft.formats.dt)
        wanted = self._wanted["dt_raw"]
        rounded = self._fit("dt_proj", own.dt_proj, dt, wanted - own.dt_bias)
        if self._choice.refit_strength is not None:
            bias = (wanted - dt @ rounded.real.T).mean(axis=(0, 1))
            own = dataclasses.replace(own, dt_bias=bias)
        return dataclasses.replace(draft, dt_proj=rounded, parameters=own)

    def _out_proj(self, draft: LayerDraft) -> tuple[LayerDraft, Integers]:
        """Round out_proj to reach the float residual stream from the integer one."""
        formats, scheme = draft.formats, self._scheme
        weight = draft.parameters.out_proj
        if scheme.rotation_bits is not None:
            size = self._shape.d_inner
            weight = weight @ hadamard_columns(size) / size
        gated = self._mixed(draft)  # b l e
        # Channels with finer inputs meet coarser columns: both in the scale of the common exponent.
        columns = np.ldexp(1.0, -formats.gated_channel)
        wanted = self._wanted["residual"] - to_real(self._residual, self._fraction)
        out_proj = self._fit("out_proj", weight * columns, to_real(gated, formats.gated), wanted)
        draft = dataclasses.replace(draft, out_proj=out_proj)
        shift = out_proj.fraction_bits + formats.gated - self._fraction
        out = requantize(accumulate(out_proj.linear().integers, gated), shift, scheme.residual_bits)
        return draft, requantize(self._residual + out, 0, scheme.residual_bits)
