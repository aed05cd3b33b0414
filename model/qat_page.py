"""The accuracy page's table of trained programs, from the reports of :mod:`model.qat`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from golden.builtin import QAT_SCHEMES
from golden.document import markdown_table
from golden.errors import InputError
from golden.json_file import read_object
from model.accuracy_targets import TRAINED

__all__ = [
    "EARLIER",
    "NAMES",
    "SEEDS",
    "freezing_table",
    "read_pilots",
    "read_reports",
    "runs_of",
    "trained_table",
]

NAMES = (*QAT_SCHEMES, "ternary-float", "float")
"""What is trained: programs by scheme, the peer of the ternary one, and the control."""
SEEDS = (0, 1)
EARLIER = "earlier"
"""Where a report holds that of the run whose program it started from."""
_REMEDY = "put there the training.json of a run, as model.qat_collect does"


def read_reports(folder: Path) -> dict[tuple[str, int], Any]:
    """Return the reports of :mod:`model.qat` in ``folder`` by what was trained and float seed."""
    found = {}
    for name in NAMES:
        for seed in SEEDS:
            path = folder / f"{name}-{seed}.json"
            if path.is_file():
                found[name, seed] = read_object(path, _REMEDY)
    if not found:
        raise InputError(f"no reports in {folder}; {_REMEDY}")
    return found


def read_pilots(folder: Path) -> list[Any]:
    """Return the reports of short runs from one program in ``folder``, by freezing and rate."""
    found = [read_object(path, _REMEDY) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise InputError(f"no reports in {folder}; {_REMEDY}")
    if len({report["start"]["sha256"] for report in found}) > 1:
        raise InputError(f"the reports in {folder} are of runs from several programs; keep one's")
    return sorted(found, key=_freezing_and_rate)


def _freezing_and_rate(report: Any) -> tuple[float, float]:
    options = report["options"]
    return options["freezing"], options["learning_rate"]


def runs_of(report: Any) -> list[Any]:
    """Return the reports of the runs that led to a program, the first one first."""
    before = runs_of(report[EARLIER]) if EARLIER in report else []
    return [*before, report]


def _loss(report: Any, which: str) -> float:
    """Return a held-out loss in percent of the float network; "start" is the first run's."""
    if which == "start":
        report = runs_of(report)[0]
    held_out = report["held_out"]
    return 100.0 * (float(held_out[which]) / float(held_out["float"]) - 1.0)


def _row(name: str, reports: Mapping[tuple[str, int], Any]) -> list[str]:
    own = [reports.get((name, seed)) for seed in SEEDS]
    cells = [name]
    for report in own:
        parts = ("start", "trained")
        cells += ["", ""] if report is None else [f"{_loss(report, p):+.2f} %" for p in parts]
    worst = max(_loss(report, "trained") for report in own if report is not None)
    target = TRAINED.get(name)
    if target is None:
        return [*cells, f"{worst:+.2f} %", ""]
    verdict = "met" if worst <= target else "missed"
    return [*cells, f"{worst:+.2f} %", f"at most +{target:.2f} %: {verdict}"]


def trained_table(reports: Mapping[tuple[str, int], Any]) -> str:
    """Return the Markdown table."""
    header = ["trained", *(f"{part}, seed {s}" for s in SEEDS for part in ("before", "after"))]
    names = [name for name in NAMES if any(key[0] == name for key in reports)]
    return markdown_table([*header, "worst", "target"], [_row(name, reports) for name in names])


def freezing_table(pilots: Sequence[Any]) -> str:
    """Return the Markdown table of runs with and without weights that are held."""
    header = ["freezing", "rate", "updates", "held", "divergence", "held-out text", "gain"]
    rows = []
    for report in pilots:
        freezing, rate = _freezing_and_rate(report)
        last, held_out = report["curve"][-1], report["held_out"]
        gain = 100.0 * (1.0 - held_out["trained"] / held_out["start"])
        rows.append([
            f"{freezing:g}", f"{rate:g}", f"{report['step']:,}",
            f"{100.0 * last.get('frozen', 0.0):.0f} %", f"{last['loss']:.4f}",
            f"{held_out['trained']:.4f}", f"{gain:.2f} %",
        ])  # fmt: skip
    return markdown_table(header, rows)
