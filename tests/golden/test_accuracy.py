"""The document's table of errors is what the command measures."""

import json
from pathlib import Path

import pytest

from golden import accuracy, command

DOCUMENT = Path(__file__).parents[2] / "docs" / "numerics.md"


def run(*words: object) -> object:
    with pytest.raises(SystemExit) as caught:
        command.run(accuracy.application, [str(word) for word in words])
    return caught.value.code


def test_the_committed_table_is_what_the_command_prints(capsys):
    assert run() == 0
    _, _, rest = DOCUMENT.read_text().partition(accuracy.MARKS.begin)
    table, end, _ = rest.partition(accuracy.MARKS.end)
    assert end, f"{DOCUMENT} lacks its markers"
    assert table.strip() == capsys.readouterr().out.strip()


def test_update_rewrites_the_marked_section_only(tmp_path):
    document = tmp_path / "numerics.md"
    before, _, rest = DOCUMENT.read_text().partition(accuracy.MARKS.begin)
    after = rest.partition(accuracy.MARKS.end)[2]
    document.write_text(f"{before}{accuracy.MARKS.begin}\nstale\n{accuracy.MARKS.end}{after}")
    assert run("--update", document) == 0
    assert document.read_text() == DOCUMENT.read_text()


def test_document_without_markers_is_refused_and_kept(tmp_path, capsys):
    document = tmp_path / "other.md"
    document.write_text("nothing here")
    assert run("--update", document) == 2
    assert "lacks the lines" in capsys.readouterr().err
    assert document.read_text() == "nothing here"


def test_json_holds_every_row(capsys):
    assert run("--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["unit"] for row in rows] == [row.unit for row in accuracy.measure()]
