"""StreamBuffer: every payload once, in order, unchanged, held while stalled; for all time."""

import pytest
from amaranth.hdl import Module, Signal

from hw.stream_buffer import StreamBuffer
from sim.formal.properties import StreamBufferProperties
from sim.formal.prove import prove

INDUCTION_CYCLES = 3  # the invariants close the induction; a longer base case adds nothing


@pytest.mark.parametrize(
    ("width", "depth"), [(4, 2), (32, 2), (4, 3), (4, 4), (4, 5), (8, 8), (16, 16), (12, 33)]
)
def test_buffer(width, depth, tmp_path):
    properties = StreamBufferProperties(StreamBuffer(width, depth))
    outcome = prove(properties, depth=INDUCTION_CYCLES, directory=tmp_path)
    assert outcome.proved, outcome.log


@pytest.mark.parametrize(("width", "depth"), [(4, 2), (4, 3), (8, 8), (12, 33)])
def test_buffer_of_reserved_places(width, depth, tmp_path):
    properties = StreamBufferProperties(StreamBuffer(width, depth, reserved=True))
    outcome = prove(properties, depth=INDUCTION_CYCLES, directory=tmp_path)
    assert outcome.proved, outcome.log


class Overwrites(StreamBuffer):
    """Planted fault: the second register takes what is offered when there is no room."""

    def _hold_in_registers(self, m: Module, put: Signal, take: Signal) -> None:
        super()._hold_in_registers(m, put, take)
        with m.If(self.i.valid):
            m.d.sync += self.second.eq(self.i.payload)


class Repeats(StreamBuffer):
    """Planted fault: from the last row the ring does not return to the first."""

    def _after(self, row: Signal):
        return (row + 1)[: len(row)]


class DropsWhenFull(StreamBuffer):
    """Planted fault: always ready, so that what arrives at a full buffer is lost."""

    def _count(self, m: Module, put: Signal, take: Signal) -> None:
        super()._count(m, put, take)
        ready = Signal()
        m.d.comb += [ready.eq(1), self.i.ready.eq(ready)]


@pytest.mark.parametrize(
    ("fault", "depth"), [(Overwrites, 2), (Repeats, 3), (DropsWhenFull, 2), (DropsWhenFull, 4)]
)
def test_planted_fault_is_refuted(fault, depth, tmp_path):
    properties = StreamBufferProperties(fault(4, depth))
    # Long enough to fill and to drain it: the fault must show in a run from reset.
    outcome = prove(properties, depth=2 * depth + 3, directory=tmp_path)
    assert outcome.counterexample, outcome.log
