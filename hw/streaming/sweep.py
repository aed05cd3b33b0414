"""All lanes of a frame network's engine that are worth planning: cycles against estimated area."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from golden.configuration import NetworkShape
from golden.errors import InputError
from golden.scheme import Scheme
from hw.lanes import divisors
from hw.schedule.sweep import Engine, mark_pareto
from hw.streaming.area import estimate_streaming
from hw.streaming.block_plan import BeatTooShortError
from hw.streaming.choice import choose_streaming, shortest_beat
from hw.streaming.matrix_stage import StageTiming
from hw.streaming.plan import StreamingLanes, stage_sizes

__all__ = ["FrameCandidate", "beats", "frame_settings", "sweep_frames"]


@dataclass(frozen=True, kw_only=True)
class FrameCandidate(Engine):
    """An engine of a frame network.

    Parameters
    ----------
    scan_lanes, beat : what decides the rest
    lanes : of every array, the fewest that keep up with the beat
    cycles_per_frame : exact
    """

    scan_lanes: int
    beat: int
    lanes: dict[str, int]
    cycles_per_frame: int

    @property
    def cycles(self) -> int:
        """Return the cycles of a frame."""
        return self.cycles_per_frame


def beats(shape: NetworkShape, scan_lanes: int) -> list[int]:
    """Return the beats from which on an array needs fewer lanes, and the shortest one.

    Any beat in between has the lanes of the one before and takes longer.
    """
    assert shape.frame is not None
    layers, tokens = shape.n_layer, shape.frame.tokens
    blocks = layers * tokens
    # Runs of an array in so many beats.
    runs = {"rows": (shape.frame.rows, blocks), "front": (1, layers)}
    runs |= {"hidden": (1, blocks), "head": (1, blocks)}
    found = {least := shortest_beat(shape, scan_lanes)}
    for name, (rows, columns, _) in stage_sizes(shape).items():
        times, span = runs.get(name, (1, 1))
        for lanes in range(1, rows + 1):
            duration = StageTiming(rows=rows, columns=columns, lanes=lanes).duration
            found.add(-(-times * duration // span))
    return sorted(beat for beat in found if beat >= least)


def frame_settings(
    shape: NetworkShape, scan: int | None = None, beat: int | None = None
) -> list[tuple[int, int]]:
    """Return pairs of scan lanes and beat, those that were given only.

    Raises
    ------
    InputError
        If what was given does not fit the shape.
    """
    if shape.average is not None and scan not in (None, 1):
        raise InputError(f"scan lanes = {scan}, but a moving average has no scan; leave it out")
    scans = [s for s in divisors(shape.d_state) if scan in (None, s)]
    pairs = [(s, b) for s in scans for b in (beats(shape, s) if beat is None else [beat])]
    if not pairs:
        raise InputError(
            f"scan lanes = {scan} does not divide d_state = {shape.d_state}; choose a divisor"
        )
    return pairs


def sweep_frames(
    shape: NetworkShape, scheme: Scheme, settings: Iterable[tuple[int, int]]
) -> list[FrameCandidate]:
    """Return the engines by rising area.

    Left out are those whose beat is too short for a value, or whose lanes make a faster one.
    """
    found: list[FrameCandidate] = []
    fastest: dict[StreamingLanes, int] = {}
    for scan, beat in settings:
        try:
            plan = choose_streaming(shape, scheme, scan=scan, beat=beat)
        except BeatTooShortError:
            continue
        if fastest.setdefault(plan.lanes, plan.frame_interval + 1) <= plan.frame_interval:
            continue
        fastest[plan.lanes] = plan.frame_interval
        lanes = {name: getattr(plan.lanes, name) for name in plan.stages}
        found.append(
            FrameCandidate(
                scan_lanes=scan,
                beat=beat,
                lanes=lanes,
                cycles_per_frame=plan.frame_interval,
                array_utilisation=plan.utilisation["arrays"],
                cells=estimate_streaming(plan, scheme),
            )
        )
    return mark_pareto(found)
