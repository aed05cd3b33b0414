"""EvenActivation equals golden's functions at edges and random arguments, and its latency."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from golden.operations.activation import silu, softplus
from golden.operations.moving_average import sigmoid
from golden.piecewise import LinearTable
from golden.random_program import standard_tables
from hw.activation import EvenActivation
from hw.parameter_memory import MemoryPlan
from sim.components.pipes import run_pipe

TABLES = standard_tables(average=True)


def edge_arguments() -> np.ndarray:
    """Every segment's neighbourhood of an edge, both signs, and the ends of the format."""
    edges = (np.arange(513) << 7)[:, None] + np.array([-1, 0, 1])
    positive = np.concatenate([edges.ravel(), [(1 << 17) - 1, 1 << 16]])
    return np.clip(np.concatenate([positive, -positive, [-(1 << 17)]]), -(1 << 17), (1 << 17) - 1)


@pytest.mark.parametrize(
    ("reference", "table", "options"),
    [
        (silu, TABLES.silu, {"subtract": True}),
        (softplus, TABLES.softplus, {}),
        (sigmoid, TABLES.sigmoid, {"step": True}),
    ],
    ids=["silu", "softplus", "sigmoid"],
)
def test_equals_golden(reference, table, options):
    unit = EvenActivation(table=table, **options, plan=MemoryPlan(), name="table")
    random = np.random.default_rng(3).integers(-(1 << 17), 1 << 17, 4000)
    arguments = np.concatenate([edge_arguments(), random])
    results = run_pipe(Simulator(unit), unit, unit.latency, i=arguments.tolist())
    np.testing.assert_array_equal(results, reference(arguments, table))


def test_table_of_another_size_is_refused():
    short = LinearTable(TABLES.silu.base[:256], TABLES.silu.slope[:256])
    with pytest.raises(ValueError, match="256 bases and 256 slopes; the unit addresses 512"):
        EvenActivation(table=short, subtract=True, plan=MemoryPlan(), name="short")
