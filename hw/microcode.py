"""The microcode stores of the engine, and what they start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from amaranth.hdl import Module, Signal

from hw.array_controller import STEERING
from hw.embedding import Embedding
from hw.event_table import Event, EventTable
from hw.head_scan import HeadScanEngine
from hw.output_stage import OutputStage
from hw.pipeline import index_bits
from hw.projection import Projection
from hw.scan_engine import ScanEngine
from hw.schedule import Schedule
from hw.sequencer import Sequencer

__all__ = ["Microcode"]


class Follower(Protocol):
    """A unit behind the scan, which needs its block from then on."""

    layer: Signal


class Microcode:
    """Adds stores to a module, one a unit, that start the unit in the cycles of the schedule.

    Parameters
    ----------
    m : of the engine
    schedule : when everything starts
    sequencer : counts a token's cycles
    """

    def __init__(self, m: Module, schedule: Schedule, sequencer: Sequencer) -> None:
        self._m, self._schedule, self._sequencer = m, schedule, sequencer

    def _table(self, name: str, events: list[Event]) -> EventTable:
        """Add the store of one unit."""
        names = events[0].fields
        limits = {key: max(event.fields[key] for event in events) for key in names}
        table = EventTable(events=events, limits=limits, cycles=self._schedule.interval)
        self._m.submodules[f"{name}_microcode"] = table
        sequencer = self._sequencer
        self._m.d.comb += [table.running.eq(sequencer.running), table.cycle.eq(sequencer.cycle)]
        return table

    def start_array(self, projection: Projection) -> None:
        """Start the array's instructions with their operands."""
        m = self._m
        array = self._table("array", [projection.event(i) for i in self._schedule.array])
        m.d.comb += projection.start.eq(array.start)
        for name in projection.operands:
            m.d.comb += getattr(projection, name).eq(getattr(array, name))
        for name in STEERING:
            m.d.comb += getattr(projection, f"{name}_operand").eq(getattr(array, name))

    def start_embedding(self, unit: Embedding) -> None:
        """Start the embedding of a token."""
        embedding = self._table("embedding", [Event(self._schedule.embedding_start, {})])
        self._m.d.comb += unit.start.eq(embedding.start)

    def start_scan(self, unit: ScanEngine | HeadScanEngine, followers: Sequence[Follower]) -> None:
        """Start the scan of every layer; ``followers`` keep the layer from then on."""
        m = self._m
        starts = enumerate(self._schedule.scan_starts)
        scan = self._table("scan", [Event(start, {"layer": i}) for i, start in starts])
        m.d.comb += [unit.start.eq(scan.start), unit.layer.eq(scan.layer)]
        for follower in followers:
            with m.If(scan.start):
                m.d.sync += follower.layer.eq(scan.layer)

    def current_layer(self, layers: int, outputs: OutputStage) -> Signal:
        """Return the layer whose x and z come; the head's start keeps TLAST and context."""
        m, sequencer = self._m, self._sequencer
        instructions = [i for i in self._schedule.array if i.name in ("in_x", "head")]
        layer = self._table(
            "layer",
            [Event(i.start, {"layer": i.layer, "head": i.name == "head"}) for i in instructions],
        )
        current = Signal(index_bits(layers))
        with m.If(layer.start):
            with m.If(layer.head):
                m.d.sync += [
                    outputs.last.eq(sequencer.last),
                    outputs.context.eq(sequencer.context),
                ]
            with m.Else():
                m.d.sync += current.eq(layer.layer)
        return current
