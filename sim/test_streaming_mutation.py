"""Every single fault injected into a frame network's Verilog is caught."""

import logging

import pytest

from sim.mutation.streaming_campaign import STREAMING_SUBJECTS, StreamingCampaign


@pytest.mark.parametrize(("name", "least"), [("scan", 48), ("average", 31)])
def test_every_fault_of_the_streaming_units_is_caught(tmp_path, caplog, name, least):
    caplog.set_level(logging.WARNING, logger="SelectiveVerilator")  # a line a run
    shape, faults = STREAMING_SUBJECTS[name]
    verdicts = StreamingCampaign(tmp_path, shape, faults).run()
    listed = [f"{v.name} ({v.unit}): {v.kind}" for v in verdicts if not v.caught]
    assert not listed, "\n".join(listed)
    assert len(verdicts) == len(faults) >= least
