"""The artifact: round trip, repeatable bytes, and refusal of every kind of damage."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from golden.artifact import (
    file_digest,
    from_bytes,
    load_program,
    save_program,
    to_bytes,
)
from golden.errors import InputError
from golden.executor import Executor
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.scheme import SCHEMES
from tests.damaged_artifact import DATA, EDITS, HEADER_END, LENGTHS, rewritten


def read(data: bytes, tmp_path):
    path = tmp_path / "program.safetensors"
    path.write_bytes(data)
    return load_program(path)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_saving_what_was_loaded_gives_the_same_bytes(scheme, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    program = random_program(PRESETS["micro"], scheme, seed=7)
    digest = save_program(program, first)
    restored = load_program(first)
    assert save_program(restored, second) == digest == file_digest(first)
    assert first.read_bytes() == second.read_bytes()
    assert hashlib.sha256(first.read_bytes()).hexdigest() == digest
    tokens = np.arange(20)[None]
    before, after = (Executor(p).forward(tokens)[0] for p in (program, restored))
    assert np.array_equal(before, after)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    shape, scheme = PRESETS["micro"], SCHEMES["w4a5-se"]
    assert to_bytes(random_program(shape, scheme, seed=0)) == DATA
    assert to_bytes(random_program(shape, scheme, seed=1)) != DATA


@pytest.mark.parametrize("length", LENGTHS)
def test_truncated_file_is_refused(length, tmp_path):
    with pytest.raises(InputError, match=r"model\.quantize"):
        read(DATA[:length], tmp_path)


def test_longer_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"model\.quantize"):
        read(DATA + b"\0", tmp_path)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_any_flipped_byte_is_refused(position, flip):
    damaged = bytearray(DATA)
    damaged[position] ^= flip
    try:
        restored = from_bytes(bytes(damaged), "damaged")
    except InputError as error:
        assert "model.quantize" in str(error)  # noqa: PT017 - what survives is checked below
    else:
        # JSON allows other spellings of the same manifest, such as a space in another place.
        assert position < HEADER_END
        assert to_bytes(restored) == DATA


@pytest.mark.parametrize("position", [0, 3, 8, 20, HEADER_END - 1, HEADER_END, len(DATA) - 1])
def test_a_flipped_bit_in_every_part_is_refused(position, tmp_path):
    damaged = bytearray(DATA)
    damaged[position] ^= 0x10
    with pytest.raises(InputError, match=r"model\.quantize"):
        read(bytes(damaged), tmp_path)


@pytest.mark.parametrize(("change", "message"), EDITS)
def test_edited_manifest_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read(rewritten(change), tmp_path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no artifact at .*missing"):
        load_program(tmp_path / "missing")


def test_another_safetensors_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a program artifact"):
        read(save({"weight": np.zeros(3)}), tmp_path)
