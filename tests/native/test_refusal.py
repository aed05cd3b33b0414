"""What the C++ reader and executor refuse, each with one line as the golden model does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.errors import InputError
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.scheme import SCHEMES
from native._core import Program
from native.executor import Executor
from native.frames import FrameExecutor
from tests.damaged_artifact import DATA, EDITS, HEADER_END, LENGTHS, MICRO, rewritten

MARS = random_program(PRESETS["mars"], SCHEMES["w8a8"])


def test_what_golden_wrote_is_read():
    Program.from_bytes(DATA, "whole")
    Program.from_bytes(rewritten(lambda *_: None, signed=True), "rewritten")


@pytest.mark.parametrize("length", LENGTHS)
def test_truncated_bytes(length):
    with pytest.raises(InputError, match=r"^cut .*model\.quantize"):
        Program.from_bytes(DATA[:length], "cut")


def test_names_that_are_no_text():
    damaged = DATA.replace(b'"I16"', b'"I1\xee"', 1)
    with pytest.raises(InputError, match=r"I1\\xee"):
        Program.from_bytes(damaged, "damaged")


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_any_flipped_byte(position, flip):
    damaged = bytearray(DATA)
    damaged[position] ^= flip
    try:
        Program.from_bytes(bytes(damaged), "damaged")
    except InputError as error:
        message = str(error)
        assert message.startswith("damaged")
        assert "\n" not in message
    else:
        assert position < HEADER_END  # JSON allows other spellings of the same manifest


@pytest.mark.parametrize(("change", "message"), EDITS)
def test_edited_manifest(change, message):
    with pytest.raises(InputError, match=message):
        Program.from_bytes(rewritten(change), "edited")


def shape(manifest) -> dict:
    return manifest["program"]["shape"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, t: t.pop("program.head.weight"), "lacks 'head.weight'"),
        (lambda m, _: shape(m).pop("d_conv"), "lacks 'd_conv'"),
        (lambda m, _: shape(m).update(d_model=17), "has shape"),
        (lambda m, _: shape(m).update(n_layer=2), "has 1 layers, its shape says 2"),
        (lambda m, _: shape(m).update(n_layer=0), "n_layer = 0 is outside 1"),
        (lambda m, _: shape(m).update(novel=1), "asks for 'novel', which the C\\+\\+"),
        (lambda m, _: m["program"]["scheme"].update(novel=1), "asks for 'novel'"),
        (lambda m, _: m["program"].update(novel=1), "asks for 'novel'"),
        (lambda m, _: m["program"].update(logit_fraction=-90), "shift of head spans"),
        (lambda m, _: m["program"].update(logit_fraction="x"), "an integer expected"),
        (lambda m, _: m["program"]["scheme"].update(state_bits=40), "state_bits = 40 is outside"),
        (
            lambda _, t: t.update({"program.layers.0.skip": np.full(32, 40000, np.int32)}),
            "skip spans 40000..40000, outside -32768..32767 of its 16-bit",
        ),
        (
            lambda _, t: t.update({"program.front.shift": np.full(64, 30, np.int8)}),
            "outside the 18-bit residual",
        ),
    ],
)
def test_programs_that_break_a_format(change, message):
    with pytest.raises(InputError, match=message):
        Program.from_bytes(rewritten(change, signed=True), "broken")


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no artifact at .*missing"):
        Program.load(str(tmp_path / "missing"))


@pytest.mark.parametrize("token", [-1, 64])
def test_tokens_outside_the_vocabulary(token):
    with pytest.raises(InputError, match=rf"{token}.* outside 0\.\.63"):
        Executor(MICRO).forward([[token]])
    with pytest.raises(InputError, match=rf"{token} is outside 0\.\.63"):
        Executor(MICRO).context().step(token)


def test_networks_of_the_other_kind():
    with pytest.raises(InputError, match="frame network"):
        Executor(MARS).forward([[1]])
    with pytest.raises(InputError, match="frame network"):
        Executor(MARS).context().step(1)
    with pytest.raises(InputError, match="language model"):
        FrameExecutor(MICRO).forward(np.zeros((1, 16, 20), int))


def test_a_state_of_another_program():
    context = Executor(MICRO).context()
    state = context.save()
    state.scan[0, 0, 0, 0] = 1 << 11
    with pytest.raises(InputError, match="the state holds 2048, beyond its 12 bits"):
        context.restore(state)
    state.scan = state.scan[:, :, 1:]
    with pytest.raises(InputError, match="the state has 124 values, the program's has 128"):
        context.restore(state)


def test_unknown_instructions():
    with pytest.raises(InputError, match="instructions 'sse1' are unknown"):
        Executor(MICRO, instructions="sse1")
