"""The table beside the peer's figures: factors, documents, refused reports."""

import json

import pytest

from bench import peer
from golden.command import run
from golden.errors import InputError


@pytest.fixture
def report():
    return {
        "preset": "mars",
        "scheme": "w8a8",
        "mac_lanes": 90,
        "scan_lanes": 10,
        "cycles_per_token": 80,
        "cycles_per_frame": 1859.2,
        "array_utilisation": 0.9,
        "scan_utilisation": 1.0,
        "clock_mhz": 203.0,
        "clock_mhz_by_seed": {"1": 203.0},
        "device": "a device",
        "tools": {"pyosys": "0.70"},
        "cells": {"TRELLIS_COMB": 39_794, "TRELLIS_FF": 57_790, "MULT18X18D": 90},
        "instances": {},
    }


def test_factors_above_one_are_in_our_favour(report):
    text = peer.table([report])
    assert "| cycles a frame | 18,592 | 1,859 (10.00x) |" in text
    assert "| clock after routing, MHz | 101.5 | 203.0 (2.00x) |" in text
    assert "| frames a second | 5,459 | 109,187 (20.00x) |" in text
    assert "| COMB | 39,794 | 39,794 (1.00x) |" in text
    assert "| MULT18X18D | 45 | 90 (0.50x) |" in text
    assert "| DP16KD | 22 | 0 |" in text
    assert "| lane-cycles that compute usefully | 23.4% | 91.0% (3.89x) |" in text


def test_a_language_model_has_no_frames(report):
    del report["cycles_per_frame"]
    text = peer.table([report])
    assert "| cycles a frame | 18,592 |  |" in text
    assert "| cycles a token |  | 80 |" in text


def test_the_command_collects_updates_and_checks(report, tmp_path, capsys):
    source, kept = tmp_path / "report.json", tmp_path / "peer.json"
    document = tmp_path / "README.md"
    source.write_text(json.dumps(report))
    document.write_text(f"before\n{peer.MARKS.begin}\n{peer.MARKS.end}\nafter\n")

    def peer_command(*words):
        with pytest.raises(SystemExit) as stop:
            run(peer.application, [*map(str, words), "--figures", str(kept)])
        return stop.value.code

    assert peer_command("--check", document) == 2
    assert peer_command(source, "--collect", "--update", document) == 0
    assert peer_command("--check", document) == 0
    assert "1,859" in document.read_text()
    assert document.read_text().endswith("after\n")
    document.write_text(document.read_text().replace("1,859", "1,858"))
    assert peer_command("--check", document) == 2
    assert peer_command(source) == 2
    capsys.readouterr()


def test_a_report_without_a_clock_is_refused(report, tmp_path):
    del report["clock_mhz"]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    with pytest.raises(InputError, match="no routed clock"):
        peer.collect([path])
