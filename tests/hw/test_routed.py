"""The table of a routed language model: targets beside figures, refused reports."""

import json

import pytest

from bench import peer, routed
from golden.errors import InputError


@pytest.fixture
def design():
    return json.loads(routed.FIGURES.read_text())


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


def test_a_frame_network_has_another_table():
    frames = json.loads(peer.FIGURES.read_text())["designs"][0]
    with pytest.raises(InputError, match=r"mars reads frames; bench\.peer"):
        routed.table(frames)
