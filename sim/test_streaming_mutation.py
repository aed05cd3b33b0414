"""Every single fault injected into a frame network's Verilog is caught."""

import logging

from sim.mutation.streaming_campaign import StreamingCampaign
from sim.mutation.streaming_faults import STREAMING_FAULTS

LEAST_FAULTS = 12


def test_every_fault_of_the_streaming_units_is_caught(tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="SelectiveVerilator")  # a line a run
    verdicts = StreamingCampaign(tmp_path).run()
    listed = [f"{v.name} ({v.unit}): {v.kind}" for v in verdicts if not v.caught]
    assert not listed, "\n".join(listed)
    assert len(verdicts) == len(STREAMING_FAULTS) >= LEAST_FAULTS
