"""Runs a command line of the project inside the test's process: importing torch takes seconds."""

from dataclasses import dataclass

import pytest

from golden import command


@dataclass(frozen=True)
class Outcome:
    returncode: int
    stdout: str
    stderr: str


def run(application, capsys, *arguments):
    """Return exit code and output of ``application`` with ``arguments``."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        command.run(application, [str(argument) for argument in arguments])
    output = capsys.readouterr()
    return Outcome(ended.value.code, output.out, output.err)
