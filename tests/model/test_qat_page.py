"""The page's table of trained programs follows from the reports."""

import json
from dataclasses import replace

import pytest

from golden.artifact import save_program
from golden.errors import InputError
from golden.presets import find_preset
from golden.random_program import random_program
from golden.scheme import SCHEMES
from model.qat_collect import collect
from model.qat_page import (
    freezing_table,
    read_pilots,
    read_reports,
    runs_of,
    trained_table,
)
from model.qat_plot import draw


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
    lines = trained_table(read_reports(folder)).splitlines()
    assert lines[2] == (
        "| w8a8-h | +0.20 % | +0.05 % | +0.20 % | +0.15 % | +0.15 % | at most +0.10 %: missed |"
    )
    assert lines[3] == "| ternary-h | +350.00 % | +10.00 % |  |  | +10.00 % |  |"


def test_curves_are_drawn_alike(folder):
    drawn = draw(read_reports(folder))
    assert b"</svg>" in drawn
    assert draw(read_reports(folder)) == drawn


def test_a_folder_without_reports_is_named(tmp_path):
    for read in (read_reports, read_pilots):
        with pytest.raises(InputError, match="no reports in"):
            read(tmp_path)


@pytest.mark.parametrize("read", [read_reports, read_pilots])
def test_a_damaged_report_is_named(folder, read):
    (folder / "w8a8-h-1.json").write_text('{"best": ')
    with pytest.raises(InputError, match=r"w8a8-h-1\.json is not JSON .* put there"):
        read(folder)


def test_runs_with_held_weights_stand_beside_those_without(tmp_path):
    start = {"sha256": "a"}
    for name, freezing, frozen in (("one", 0.002, {"frozen": 0.25}), ("other", 0.0, {})):
        own = report(2.0, 1.99) | {"step": 9, "start": start}
        own["options"] = {"freezing": freezing, "learning_rate": 1e-3}
        own["curve"][-1] |= frozen
        (tmp_path / f"{name}.json").write_text(json.dumps(own))
    lines = freezing_table(read_pilots(tmp_path)).splitlines()
    assert lines[2:] == [
        "| 0 | 0.001 | 9 | 0 % | 0.1000 | 1.9900 | 0.50 % |",
        "| 0.002 | 0.001 | 9 | 25 % | 0.1000 | 1.9900 | 0.50 % |",
    ]
    (tmp_path / "one.json").write_text(json.dumps(own | {"start": {"sha256": "b"}}))
    with pytest.raises(InputError, match="are of runs from several programs"):
        read_pilots(tmp_path)


@pytest.fixture
def trained(tmp_path):
    """A run's output folder: report and program that name the same best step."""
    own = report(2.004, 2.001) | {"network": "program"}
    program = random_program(find_preset("micro"), SCHEMES["w8a8-h"], seed=0)
    provenance = {"source": "model.qat", "best": own["best"]}
    save_program(replace(program, provenance=provenance), tmp_path / "run" / "any.safetensors")
    (tmp_path / "run" / "training.json").write_text(json.dumps(own))
    return tmp_path / "run"


def test_collecting_keeps_the_run_that_is_better_on_validation_text(trained, tmp_path):
    reports, programs = tmp_path / "reports", tmp_path / "programs"
    assert collect(trained, 0, reports, programs) == "w8a8-h of seed 0: taken"
    assert collect(trained, 1, reports, programs) == "w8a8-h of seed 1: taken"
    assert [path.name for path in programs.iterdir()] == ["bytelm-w8a8-h-qat.safetensors"]
    earlier = json.loads((reports / "w8a8-h-0.json").read_text())
    earlier["best"]["validation"] = 1.0
    (reports / "w8a8-h-0.json").write_text(json.dumps(earlier))
    assert collect(trained, 0, reports, programs).endswith("better on validation text and stays")
    assert json.loads((reports / "w8a8-h-0.json").read_text()) == earlier


def test_a_run_that_goes_on_is_counted_from_the_first_start(trained, tmp_path):
    reports, programs = tmp_path / "reports", tmp_path / "programs"
    first = json.loads((trained / "training.json").read_text())
    collect(trained, 0, reports, programs)
    best = {"step": 7, "seconds": 1.0, "loss": 0.1, "validation": 1.9}
    held_out = {"float": 2.0, "start": 2.001, "trained": 2.0}
    last = first | {"best": best, "held_out": held_out, "start": {"best": first["best"]}}
    program = random_program(find_preset("micro"), SCHEMES["w8a8-h"], seed=0)
    provenance = {"source": "model.qat", "best": best}
    save_program(replace(program, provenance=provenance), trained / "any.safetensors")
    (trained / "training.json").write_text(json.dumps(last))
    assert collect(trained, 0, reports, programs) == "w8a8-h of seed 0: taken"
    found = read_reports(reports)
    assert runs_of(found["w8a8-h", 0]) == [first, last | {"earlier": first}]
    assert trained_table(found).splitlines()[2].startswith("| w8a8-h | +0.20 % | +0.00 % |")
    assert b"</svg>" in draw(found)


def test_collecting_refuses_what_is_unfinished_or_of_another_run(trained, tmp_path):
    path = trained / "training.json"
    own = json.loads(path.read_text())
    for change, message in (
        ({"held_out": {}}, "was not finished"),
        ({"best": {"validation": 3.0}}, "is not the program of the report"),
    ):
        path.write_text(json.dumps(own | change))
        with pytest.raises(InputError, match=message):
            collect(trained, 0, tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"no file .*training\.json"):
        collect(tmp_path, 0, tmp_path, tmp_path)
