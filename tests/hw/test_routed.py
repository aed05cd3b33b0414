"""The table of a routed network: targets beside figures, cycles of both organisations."""

import json

import pytest

from bench import peer, routed


@pytest.fixture
def design():
    return json.loads(routed.FIGURES.read_text())["designs"][0]


def test_cycles_are_the_schedule_s_and_clock_and_cells_the_report_s(design):
    design["clock_mhz"] = 100.0
    design["cells"]["DP16KD"] = 7
    text = routed.table(design)
    assert "| cycles a token, one stream, generating | 37,022 |  |" in text
    assert "| tokens a second, one stream, generating | 2,701 |  |" in text
    assert "| cycles a token, 2 contexts, generating | 36,838 |  |" in text
    assert "| array usefully busy, 2 contexts, generating | 97.6% | ≥ 97% |" in text
    assert "| clock after routing, median of 5 seeds | 100.0 MHz (" in text
    assert "| DP16KD | 7 | ≤ 208 |" in text


def test_a_frame_network_s_cycles_are_the_report_s():
    frames = json.loads(peer.FIGURES.read_text())["designs"][0]
    frames |= {"clock_mhz": 128.0, "cycles_per_frame": 1280}
    text = routed.table(frames)
    assert "| cycles a frame | 1,280 |  |" in text
    assert "| frames a second | 100,000 |  |" in text
    assert "context" not in text
    assert "not routed" not in text
    del frames["clock_mhz"]
    text = routed.table(frames)
    assert "a second" not in text
    assert "after packing, not routed" in text
