"""The page's table of trained programs follows from the reports."""

import json

import pytest

from model import qat_page
from model.qat_page import read_reports, table
from tests.model.commands import run


def report(before, after):
    curve = [
        {"step": 0, "seconds": 0.0, "loss": 0.0, "validation": 2.1},
        {"step": 9, "seconds": 1.0, "loss": 0.1, "validation": 2.0},
    ]
    held_out = {"float": 2.0, "start": before, "trained": after}
    return {"curve": curve, "best": curve[1], "held_out": held_out}


@pytest.fixture
def folder(tmp_path):
    reports = {
        "w8a8-h-0": report(2.004, 2.001),
        "w8a8-h-1": report(2.004, 2.003),
        "ternary-h-0": report(9.0, 2.2),
    }
    for name, content in reports.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_the_worst_seed_decides(folder):
    lines = table(read_reports(folder))
    assert lines[2] == (
        "| w8a8-h | +0.20 % | +0.05 % | +0.20 % | +0.15 % | +0.15 % | at most +0.10 %: missed |"
    )
    assert lines[3] == "| ternary-h | +350.00 % | +10.00 % |  |  | +10.00 % |  |"


def test_command_rewrites_the_page_and_draws_the_curves(folder, capsys):
    page = folder / "page.md"
    page.write_text(f"before\n{qat_page.BEGIN}\nold\n{qat_page.END}\nafter\n")
    arguments = ("--update", page, "--reports", folder)
    assert run(qat_page.application, capsys, *arguments).returncode == 0
    text, drawn = page.read_text(), (folder / "qat.svg").read_bytes()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert b"</svg>" in drawn
    assert run(qat_page.application, capsys, *arguments).returncode == 0
    assert (page.read_text(), (folder / "qat.svg").read_bytes()) == (text, drawn)


def test_command_refuses_with_one_line(folder, tmp_path, capsys):
    page, empty = folder / "page.md", tmp_path / "empty"
    page.write_text("no markers\n")
    for reports, message in ((folder, "lacks the line"), (empty, "no reports in")):
        done = run(qat_page.application, capsys, "--update", page, "--reports", reports)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr
