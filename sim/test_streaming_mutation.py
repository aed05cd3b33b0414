"""Every single fault injected into a frame network's Verilog is caught."""

import logging

import pytest

from sim.mutation.average_faults import AVERAGE_FAULTS
from sim.mutation.streaming_campaign import AVERAGE_SHAPE, SHAPE, StreamingCampaign
from sim.mutation.streaming_faults import STREAMING_FAULTS


@pytest.mark.parametrize(
    ("shape", "faults", "least"),
    [(SHAPE, STREAMING_FAULTS, 12), (AVERAGE_SHAPE, AVERAGE_FAULTS, 18)],
    ids=["scan", "average"],
)
def test_every_fault_of_the_streaming_units_is_caught(tmp_path, caplog, shape, faults, least):
    caplog.set_level(logging.WARNING, logger="SelectiveVerilator")  # a line a run
    verdicts = StreamingCampaign(tmp_path, shape, faults).run()
    listed = [f"{v.name} ({v.unit}): {v.kind}" for v in verdicts if not v.caught]
    assert not listed, "\n".join(listed)
    assert len(verdicts) == len(faults) >= least
