"""What was measured is not measured again, and what has changed is."""

from dataclasses import dataclass, field, replace

import pytest

from golden.errors import InputError
from model.accuracy_plan import page_rows
from model.accuracy_records import Sources, measure_rows, read_record


@dataclass(frozen=True)
class FakeRow:
    name: str
    artifact: str = "a"
    calls: list = field(default_factory=list)

    def identity(self, _sources):
        return {"artifact_sha256": self.artifact, "windows": (1, 2)}

    def measure(self, _sources):
        self.calls.append(self.name)
        return {"bits": 1.5}


@pytest.fixture
def sources():
    return Sources(None, None)


def test_a_finished_row_is_left_alone_and_a_changed_one_is_not(tmp_path, sources):
    row = FakeRow("one")
    assert measure_rows([row], tmp_path, sources) == ["one"]
    assert read_record(tmp_path, "one") == {
        "artifact_sha256": "a", "windows": [1, 2], "bits": 1.5,
    }  # fmt: skip
    assert measure_rows([row], tmp_path, sources) == []
    changed = replace(row, artifact="b")
    assert measure_rows([changed, FakeRow("two")], tmp_path, sources) == ["one", "two"]
    assert row.calls == ["one", "one"]


def test_an_interrupted_run_keeps_what_was_finished(tmp_path, sources):
    class Interrupted(FakeRow):
        def measure(self, _sources):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_rows([FakeRow("one"), Interrupted("two")], tmp_path, sources)
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_a_record_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(InputError, match="--table --only one"):
        read_record(tmp_path, "one")
    for text in ("{", "[]"):
        (tmp_path / "one.json").write_text(text)
        with pytest.raises(InputError, match="delete what is damaged, then python"):
            read_record(tmp_path, "one")


def test_the_second_seed_needs_its_checkpoint(sources):
    with pytest.raises(InputError, match="--second-checkpoint"):
        sources.network("bytelm", 1)


def test_every_row_has_a_record_of_its_own():
    names = [row.name for row in page_rows()]
    assert len(set(names)) == len(names)
