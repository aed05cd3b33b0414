"""All lane counts of a shape: cycles against estimated area, and the Pareto front."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.scheme import Scheme
from hw.lanes import Lanes, divisors
from hw.latencies import latencies
from hw.schedule.area import estimate
from hw.schedule.builder import build_schedule

AREA = "TRELLIS_COMB"
"""The resource that stands for area: the others rise with the same lanes."""


@dataclass(frozen=True, kw_only=True)
class Engine(ABC):
    """One engine of a sweep.

    Parameters
    ----------
    array_utilisation : useful share of the arrays' lane-cycles
    cells : estimated, by nextpnr's types
    pareto : whether no other engine is as fast with less area, or faster with no more
    """

    array_utilisation: float
    cells: dict[str, int]
    pareto: bool = False

    @property
    def area(self) -> int:
        """Return the estimated look-up tables."""
        return self.cells[AREA]

    @property
    @abstractmethod
    def cycles(self) -> int:
        """Return what is set against area: the exact cycles of a token or a frame."""


@dataclass(frozen=True, kw_only=True)
class Candidate(Engine):
    """An engine of a language model.

    Parameters
    ----------
    mac_lanes, scan_lanes : parallelism
    cycles_per_token : exact
    """

    mac_lanes: int
    scan_lanes: int
    cycles_per_token: int

    @property
    def cycles(self) -> int:
        """Return the cycles of a token."""
        return self.cycles_per_token


Kind = TypeVar("Kind", bound=Engine)


def lane_pairs(shape: NetworkShape) -> list[Lanes]:
    """Return every pair of lane counts that divides the shape."""
    macs = [p for p in divisors(shape.d_model) if shape.d_inner % p == 0]
    return [Lanes(mac=mac, scan=scan) for mac in macs for scan in divisors(shape.d_state)]


def sweep(shape: NetworkShape, scheme: Scheme, pairs: Iterable[Lanes]) -> list[Candidate]:
    """Return the engines that can be built, without those in which a hazard remains."""
    found = []
    for lanes in pairs:
        try:
            schedule = build_schedule(shape, lanes, latencies(shape, scheme, lanes))
        except InputError:
            continue
        found.append(
            Candidate(
                mac_lanes=lanes.mac,
                scan_lanes=lanes.scan,
                cycles_per_token=schedule.interval,
                array_utilisation=schedule.utilisation(schedule.interval),
                cells=estimate(shape, scheme, lanes),
            )
        )
    return mark_pareto(found)


def mark_pareto(candidates: Sequence[Kind]) -> list[Kind]:
    """Return the candidates by rising area, those on the Pareto front marked."""
    marked, best = [], None
    for candidate in sorted(candidates, key=lambda c: (c.area, c.cycles)):
        on_front = best is None or candidate.cycles < best
        if on_front:
            best = candidate.cycles
        marked.append(replace(candidate, pareto=on_front))
    return marked
