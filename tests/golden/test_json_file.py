"""JSON files are objects or one line."""

import pytest

from golden.errors import InputError
from golden.json_file import read_object


def test_an_object_is_read(tmp_path):
    path = tmp_path / "own.json"
    path.write_text('{"of": "ümlauts"}', encoding="utf-8")
    assert read_object(path, "mend it") == {"of": "ümlauts"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file .*own.json; mend it"),
        (b'{"a": ', r"own.json is not JSON \(.*\); mend it"),
        (b'{"a": "\xff"}', r"own.json is not JSON \(.*\); mend it"),
        (b"[1]", "own.json holds no JSON object; mend it"),
    ],
)
def test_anything_else_is_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "own.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_object(tmp_path / "own.json", "mend it")
