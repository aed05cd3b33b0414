"""Command-line helpers: exit codes, one-line errors, and output that is whole or absent."""

import stat
from pathlib import Path

import pytest
import typer

from golden import command
from golden.command import atomic_directory, atomic_write
from golden.errors import InputError


def build_application() -> typer.Typer:
    application = typer.Typer()

    @application.command()
    def convert(source: Path, *, lanes: int = 4) -> None:
        if lanes > 8:
            raise InputError(f"{lanes} lanes exceed the limit\nof 8; pass --lanes 8 or fewer")
        if lanes == 0:
            raise RuntimeError("a defect, not bad input")
        if lanes == 1:
            raise typer.Exit(7)
        typer.echo(f"{len(source.read_bytes())} bytes on {lanes} lanes")

    return application


def exit_code(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as caught:
        command.run(build_application(), arguments)
    return caught.value.code


def test_success_exits_with_zero(tmp_path, capsys):
    source = tmp_path / "source.bin"
    source.write_bytes(b"abc")
    assert exit_code([str(source)]) == 0
    assert capsys.readouterr().out == "3 bytes on 4 lanes\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.bin"], ["missing.bin", "no such file"]),
        (["missing.bin", "--lanes", "9"], ["9 lanes", "limit of 8", "--lanes 8"]),
        (["missing.bin", "--lanes", "many"], ["--lanes", "valid integer"]),
        (["missing.bin", "--unknown", "1"], ["--unknown"]),
        (["one", "two"], ["two"]),
        ([], ["source"]),
        (["."], ["is a directory"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exit_code(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    for word in words:
        assert word.lower() in captured.err.lower()


def test_defect_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a defect"):
        command.run(build_application(), ["any", "--lanes", "0"])


def test_exit_code_of_the_command_is_kept():
    assert exit_code(["any", "--lanes", "1"]) == 7


def test_help_exits_with_zero(capsys):
    assert exit_code(["--help"]) == 0
    assert "--lanes" in capsys.readouterr().out


def test_write_makes_parents_and_ordinary_permissions(tmp_path):
    target = tmp_path / "new" / "file.bin"
    assert atomic_write(target, b"one")
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert target.read_bytes() == b"one"
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_write_of_equal_content_keeps_the_file(tmp_path):
    target = tmp_path / "file.bin"
    assert atomic_write(target, b"one")
    before = target.stat().st_mtime_ns
    assert not atomic_write(target, b"one")
    assert target.stat().st_mtime_ns == before
    assert atomic_write(target, b"two")
    assert target.read_bytes() == b"two"


def test_failed_write_leaves_the_earlier_file(tmp_path, monkeypatch):
    target = tmp_path / "file.bin"
    atomic_write(target, b"one")

    def refuse(_descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(command.os, "fsync", refuse)
    with pytest.raises(OSError, match="no space left"):
        atomic_write(target, b"two")
    assert target.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [target]


def test_directory_appears_when_complete(tmp_path):
    target = tmp_path / "new" / "output"
    with atomic_directory(target) as partial:
        (partial / "manifest.json").write_text("{}")
        assert not target.exists()
    assert [entry.name for entry in target.iterdir()] == ["manifest.json"]


def test_directory_replaces_an_earlier_output(tmp_path):
    target = tmp_path / "output"
    with atomic_directory(target) as partial:
        (partial / "manifest.json").write_text("{}")
        (partial / "stale").touch()
    with atomic_directory(target) as partial:
        (partial / "manifest.json").write_text("{}")
    assert [entry.name for entry in target.iterdir()] == ["manifest.json"]
    assert list(tmp_path.iterdir()) == [target]


def test_failed_directory_leaves_the_earlier_output(tmp_path):
    target = tmp_path / "output"
    with atomic_directory(target) as partial:
        (partial / "manifest.json").write_text("first")

    def fail_halfway() -> None:
        with atomic_directory(target) as partial:
            (partial / "manifest.json").write_text("second")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_halfway()
    assert (target / "manifest.json").read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_directory_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds no manifest\.json"), atomic_directory(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").exists()


def test_file_in_place_of_a_directory_is_refused(tmp_path):
    target = tmp_path / "file"
    target.touch()
    with pytest.raises(InputError, match="is a file"), atomic_directory(target):
        pass
