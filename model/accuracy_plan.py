"""What ``python -m model.evaluate --table`` measures: every row of the pages."""

from __future__ import annotations

import difflib

from golden.builtin import QAT_SCHEMES, trained_schemes
from golden.errors import InputError
from model.accuracy_records import Row
from model.accuracy_rows import WINDOWS, FloatRow, ProgramRow, QuantizedRow
from model.accuracy_studies import PLANTED, PeersRow, StagesRow, StatisticsRow, VariantRow
from model.confidence import ConfidenceRow
from model.outlier_study import VARIANTS
from model.peers import SCHEMES as PEER_SCHEMES

__all__ = [
    "COMPARED", "CONFIDENCE", "OTHERS", "SEEDS", "STAGED", "STATISTICS", "find_rows", "page_rows",
]  # fmt: skip

SEEDS = (0, 1)
COMPARED = ("w8a8-h", "w4a8-h", "w4a5-se-h", "w4a4-h")
"""Schemes of both training seeds, with powers of two and with any scale."""
CONFIDENCE = ConfidenceRow((*COMPARED, *(f"{scheme}-qat" for scheme in COMPARED)))
STAGED = ("w4a8-h",)
"""Schemes whose stages and blocks are measured one by one."""
STATISTICS = StatisticsRow("w4a4-h", ("u", "scan_output", "before rotation", "gated"))
OTHERS = ("byte-mamba2", "bitbyte")
"""Networks with built-in programs beside bytelm."""


def page_rows() -> tuple[Row, ...]:
    """Return everything that the pages show."""
    others: list[Row] = []
    for preset in OTHERS:
        others.append(FloatRow(preset=preset))
        others += [ProgramRow(preset=preset, program=own) for own in trained_schemes(preset)]
    return (
        *(FloatRow(seed=seed) for seed in SEEDS),
        *(
            ProgramRow(
                program=scheme + suffix, windows=WINDOWS if scheme in COMPARED else WINDOWS[:1]
            )
            for schemes, suffix in ((trained_schemes("bytelm"), ""), (QAT_SCHEMES, "-qat"))
            for scheme in schemes
        ),
        *(QuantizedRow(scheme=scheme, seed=1) for scheme in COMPARED),
        *(
            QuantizedRow(scheme=scheme, seed=seed, any_scale=True)
            for scheme in COMPARED for seed in SEEDS
        ),
        *(StagesRow(scheme) for scheme in STAGED),
        STATISTICS,
        CONFIDENCE,
        *(PeersRow(scheme, planted) for scheme in PEER_SCHEMES for planted in (0, PLANTED)),
        *(VariantRow(variant, planted) for variant in VARIANTS for planted in (False, True)),
        *others,
    )  # fmt: skip


def find_rows(names: list[str]) -> list[Row]:
    """Return the rows called ``names``, all of them if there are no names.

    Raises
    ------
    InputError
        If a name is unknown, with those that are nearest to it.
    """
    rows = {row.name: row for row in page_rows()}
    if not names:
        return list(rows.values())
    for name in names:
        if name not in rows:
            close = difflib.get_close_matches(name, rows, n=3, cutoff=0.0)
            raise InputError(f"unknown row {name!r}; nearest are {', '.join(close)}")
    return [rows[name] for name in names]
