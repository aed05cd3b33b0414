"""All lane counts of a shape: cycles against estimated area, and the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.scheme import Scheme
from hw.lanes import Lanes, divisors
from hw.latencies import latencies
from hw.schedule.area import estimate
from hw.schedule.builder import build_schedule

AREA = "TRELLIS_COMB"
"""The resource that stands for area: the others rise with the same lanes."""


@dataclass(frozen=True)
class Candidate:
    """One engine of a sweep.

    Parameters
    ----------
    mac_lanes, scan_lanes : parallelism
    cycles_per_token : exact
    array_utilisation : useful share of the array's lane-cycles
    cells : estimated, by nextpnr's types
    pareto : whether no other engine is as fast with less area, or faster with no more
    """

    mac_lanes: int
    scan_lanes: int
    cycles_per_token: int
    array_utilisation: float
    cells: dict[str, int]
    pareto: bool = False

    @property
    def area(self) -> int:
        """Return the estimated look-up tables."""
        return self.cells[AREA]


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


def mark_pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates by rising area, those on the Pareto front marked."""
    marked, best = [], None
    for candidate in sorted(candidates, key=lambda c: (c.area, c.cycles_per_token)):
        on_front = best is None or candidate.cycles_per_token < best
        if on_front:
            best = candidate.cycles_per_token
        marked.append(Candidate(**(asdict(candidate) | {"pareto": on_front})))
    return marked
