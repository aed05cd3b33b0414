"""The optional simulator, as far as it can be tested without its package."""

import builtins

import pytest

from golden.errors import InputError
from model.positioning.room import Room
from model.positioning.sionna_room import SionnaRoom


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("No module named 'sionna'"), "pip install sionna-rt, or leave the option out"),
        (RuntimeError("could not find LLVM"), "install LLVM 16 or later"),
    ],
)
def test_what_is_missing_is_said_at_once(error, words, monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name.split(".")[0] in ("sionna", "mitsuba"):
            raise error
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError) as caught:
        SionnaRoom(Room())
    assert words in str(caught.value)
    assert str(error) in str(caught.value)
