"""The costs of commands: what is measured, and what is refused."""

import os

import numpy as np
import pytest

from bench.command_cost import application, run_measured
from golden.errors import InputError
from tests.model.commands import run


def test_a_command_takes_time_and_memory_of_its_own():
    held = np.ones(1 << 27)  # a GiB of this process, which is not the command's
    cost = run_measured(["golden.accuracy", "--help"])
    del held
    assert cost.commands == ["python -m golden.accuracy --help"]
    assert cost.seconds > 0.0
    assert 0.01 < cost.gibibytes < 1.0


def test_a_command_that_fails_is_an_error():
    with pytest.raises(InputError, match=r"golden\.accuracy --nosuch ended with 2"):
        run_measured(["golden.accuracy", "--nosuch"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("nosuch",), "unknown name 'nosuch'"), (("evaluate",), "give --addresses")],
)
def test_bad_input_is_one_line_and_leaves_the_cores_alone(arguments, message, capsys):
    before = os.sched_getaffinity(0)
    done = run(application, capsys, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert os.sched_getaffinity(0) == before
