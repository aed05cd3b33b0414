"""Largest error of every non-linear unit against real arithmetic, and the table of the document.

``python -m golden.accuracy`` prints the table, ``--json`` the same as JSON, and
``--update docs/numerics.md`` rewrites the marked section of the document. Units of one input are
measured at every input; the bounds are the project's own promises.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from golden import command
from golden.document import Marks, markdown_table
from golden.fixed_point import Integers, fraction_bits_for, to_fixed_point, to_real
from golden.operations import dual_scale
from golden.operations.activation import silu, softplus
from golden.operations.exponent import decay
from golden.operations.moving_average import sigmoid
from golden.operations.normalization import (
    NORM_EPSILON,
    NORMALIZED_FRACTION,
    epsilon_integer,
    reciprocal_root,
    rms_norm,
)
from golden.piecewise import (
    ACTIVATION_INPUT_BITS,
    ACTIVATION_INPUT_FRACTION,
    ACTIVATION_OUTPUT_FRACTION,
    EXPONENT_BITS,
    EXPONENT_FRACTION,
    MANTISSA_BITS,
    RECIPROCAL_FRACTION,
    LinearTable,
)
from golden.random_program import standard_tables
from golden.scheme import DualScale

MARKS = Marks("accuracy", "python -m golden.accuracy --update")
ACTIVATION_BOUND = 2e-4
EXPONENT_BOUND = 1.2e-4
DECAY_BITS = (8, 12, 16)

application = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The largest error of one unit.

    Parameters
    ----------
    unit : what was measured, with its output format
    inputs : which inputs
    error : largest error found
    bound : largest error allowed
    scale : what errors are counted in
    """

    unit: str
    inputs: str
    error: float
    bound: float
    scale: str


def _largest(result: npt.NDArray[np.float64], real: npt.NDArray[np.float64]) -> float:
    return float(np.abs(result - real).max())


def activation_inputs() -> Integers:
    """Return every input of SiLU and softplus, (2**18,)."""
    half = 1 << (ACTIVATION_INPUT_BITS - 1)
    return np.arange(-half, half, dtype=np.int64)


def silu_error(table: LinearTable) -> float:
    """Return the largest absolute error of SiLU over its whole domain."""
    x = to_real(activation_inputs(), ACTIVATION_INPUT_FRACTION)
    result = to_real(silu(activation_inputs(), table), ACTIVATION_OUTPUT_FRACTION)
    return _largest(result, x / (1.0 + np.exp(-x)))


def sigmoid_error(table: LinearTable) -> float:
    """Return the largest absolute error of the sigmoid over its whole domain."""
    x = to_real(activation_inputs(), ACTIVATION_INPUT_FRACTION)
    result = to_real(sigmoid(activation_inputs(), table), ACTIVATION_OUTPUT_FRACTION)
    return _largest(result, 1.0 / (1.0 + np.exp(-x)))


def softplus_error(table: LinearTable) -> float:
    """Return the largest absolute error of softplus over its whole domain."""
    x = to_real(activation_inputs(), ACTIVATION_INPUT_FRACTION)
    result = to_real(softplus(activation_inputs(), table), ACTIVATION_OUTPUT_FRACTION)
    return _largest(result, np.logaddexp(0.0, x))


def decay_error(table: LinearTable, decay_bits: int) -> float:
    """Return the largest absolute error of ``2**-x``, rounding included, over its whole domain."""
    argument = np.arange(1 << EXPONENT_BITS)
    result = to_real(decay(argument, table, decay_bits), decay_bits)
    return _largest(result, np.exp2(-to_real(argument, EXPONENT_FRACTION)))


def root_error(table: LinearTable, totals: Integers) -> float:
    """Return the largest relative error of ``1/sqrt`` over ``totals``."""
    root, half_exponent = reciprocal_root(totals, table)
    result = np.ldexp(to_real(root, RECIPROCAL_FRACTION), -half_exponent)
    return float(np.abs(result * np.sqrt(totals.astype(float)) - 1.0).max())


def norm_error(table: LinearTable, *, d_model: int = 128, rows: int = 4096, seed: int = 0) -> float:
    """Return the largest error of RMSNorm in steps of its 8-bit output, over random rows.

    The rows' sizes span eight octaves; saturated outputs are compared with the saturated value.
    """
    random = np.random.default_rng(seed)
    residual_fraction, bits, output_fraction = 12, 8, 5
    size = np.exp2(random.uniform(-6, 2, (rows, 1)))
    residual = to_fixed_point(random.normal(size=(rows, d_model)) * size, residual_fraction, 18)
    scaled = np.sqrt(d_model) * random.uniform(0.6, 1.4, d_model)
    fraction = int(fraction_bits_for(scaled.max(), 16))
    weight = to_fixed_point(scaled, fraction, 16)
    result = rms_norm(
        residual,
        weight,
        epsilon=epsilon_integer(d_model, residual_fraction),
        shift=NORMALIZED_FRACTION + fraction - output_fraction,
        bits=bits,
        table=table,
    )
    real = to_real(residual, residual_fraction)
    mean = (real**2).mean(axis=-1, keepdims=True) + NORM_EPSILON
    exact = real / np.sqrt(mean) * to_real(weight, fraction) / np.sqrt(d_model)
    steps = np.clip(np.ldexp(exact, output_fraction), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return _largest(result.astype(float), steps)


def dual_scale_error(dual: DualScale, shift: int = 20) -> float:
    """Return the largest error in fine steps, at every input up to the coarse code's limit."""
    limit = (dual.code_limit << dual.ratio_log2) << shift
    values = np.arange(-limit, limit + 1, 1 << (shift - 6))
    steps = dual_scale.decode(*dual_scale.encode(values, shift, dual), dual)
    return _largest(steps.astype(float), to_real(values, shift))


def measure() -> list[Measurement]:
    """Measure every unit with the tables that programs of this version carry."""
    tables, dual = standard_tables(average=True), DualScale()
    assert tables.sigmoid is not None  # asked for
    results = [
        Measurement(
            unit=f"{name}, {ACTIVATION_OUTPUT_FRACTION} fraction bits",
            inputs=f"all 2^{ACTIVATION_INPUT_BITS}",
            error=error,
            bound=ACTIVATION_BOUND,
            scale="absolute",
        )
        for name, error in (
            ("SiLU", silu_error(tables.silu)),
            ("softplus", softplus_error(tables.softplus)),
            ("sigmoid", sigmoid_error(tables.sigmoid)),
        )
    ]
    for bits in DECAY_BITS:
        half_step = 0.0 if bits == max(DECAY_BITS) else 0.5 ** (bits + 1)
        results.append(
            Measurement(
                unit=f"decay 2^-x, {bits} fraction bits",
                inputs=f"all 2^{EXPONENT_BITS}",
                error=decay_error(tables.exponent, bits),
                bound=EXPONENT_BOUND + half_step,
                scale="absolute",
            )
        )
    mantissas = np.arange(1 << (MANTISSA_BITS - 2), 1 << MANTISSA_BITS)
    return [
        *results,
        Measurement(
            unit="reciprocal square root",
            inputs=f"all {len(mantissas)} mantissas",
            error=root_error(tables.reciprocal, mantissas),
            bound=0.5**16,
            scale="relative",
        ),
        Measurement(
            unit="RMSNorm, D 128, 8 bits",
            inputs="4096 random rows",
            error=norm_error(tables.reciprocal),
            bound=1.0,
            scale="output steps",
        ),
        Measurement(
            unit="dual scale, 4-bit code, ratio 4",
            inputs="up to 28 fine steps, every 1/64",
            error=dual_scale_error(dual),
            bound=0.5 * (1 << dual.ratio_log2),
            scale="fine steps",
        ),
    ]


def to_markdown(results: list[Measurement]) -> str:
    """Return the table of the document; three digits, so that any libm gives the same text."""
    columns = ["unit", "inputs", "largest error", "bound", "counted in"]
    rows = [
        [row.unit, row.inputs, f"{row.error:.3g}", f"{row.bound:.3g}", row.scale] for row in results
    ]
    return markdown_table(columns, rows)


@application.command()
def main(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    document: Annotated[Path | None, typer.Option("--update", help="document to rewrite")] = None,
) -> None:
    """Measure every unit over its domain and print the largest errors."""
    results = measure()
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in results], indent=1))
    else:
        typer.echo(to_markdown(results))
    if document is not None:
        command.atomic_write(document, MARKS.renewed(document, to_markdown(results)).encode())


if __name__ == "__main__":
    command.run(application)
