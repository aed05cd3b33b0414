"""The families side by side: counted bits, figures from their files, refused reports."""

import json

import pytest

from bench import families
from golden.builtin import load_builtin
from golden.command import run
from golden.errors import InputError
from golden.presets import find_preset
from golden.random_program import random_program
from golden.scheme import find_scheme


@pytest.fixture
def report():
    return {
        "preset": "bitbyte",
        "scheme": "ternary",
        "dense_trits": True,
        "mac_lanes": 32,
        "scan_lanes": 16,
        "cycles_per_token": 24_147,
        "array_utilisation": 0.7,
        "scan_utilisation": 0.03,
        "tools": {"pyosys": "0.70"},
        "cells": {"TRELLIS_COMB": 20_208, "TRELLIS_FF": 18_057, "DP16KD": 141, "TRELLIS_RAMW": 199},
        "instances": {},
    }


@pytest.fixture
def records(tmp_path, monkeypatch):
    for name, bits in (("float", 1.5), ("ternary", 1.53)):
        path = tmp_path / f"bitbyte-{name}-0.json"
        path.write_text(json.dumps({"bits": {"4096": bits}}))
    monkeypatch.setattr(families, "RECORDS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("preset", ["micro", "micro-mamba2"])
def test_bits_are_those_of_every_weight(preset):
    shape, scheme = find_preset(preset), find_scheme("w4a8")
    d, e, n, vocabulary = shape.d_model, shape.d_inner, shape.d_state, shape.vocabulary
    blocks = shape.in_projected * d + e * d
    small = 2 * 16 * d + 8 * shape.d_conv * shape.convolution_channels + 16 * e
    if shape.heads is None:
        blocks += e * (shape.dt_rank + 2 * n) + e * shape.dt_rank
        small += 10 * e * n
    else:
        small += 10 * shape.step_sizes + 16 * e
    found = families.stored_bits(random_program(shape, scheme))
    assert found == {
        "matrix_bits": 4 * blocks,
        "weight_bits": 4 * blocks + 2 * 8 * vocabulary * d + small,
    }


def test_two_bits_a_ternary_weight():
    program = load_builtin("bitbyte", find_scheme("ternary"))
    weights = 3 * (512 * 128 + 40 * 256 + 256 * 8 + 128 * 256 + 3 * 192 * 128)
    assert families.stored_bits(program)["matrix_bits"] == 2 * weights


def test_the_command_collects_updates_and_checks(report, records, capsys):
    source, kept, document = (records / name for name in ("report.json", "kept.json", "page.md"))
    source.write_text(json.dumps(report))
    document.write_text(f"before\n{families.MARKS.begin}\n{families.MARKS.end}\nafter\n")

    def families_command(*words):
        with pytest.raises(SystemExit) as stop:
            run(families.application, [*map(str, words), "--figures", str(kept)])
        return stop.value.code

    assert families_command("--check", document) == 2
    assert families_command(source, "--collect", "--update", document) == 0
    assert families_command("--check", document) == 0
    page = document.read_text()
    assert "| bits per byte, integers | 1.5300 (+2.00 %) |" in page
    assert "| parameters | 637,056 |" in page
    assert "| one engine, three families | `bitbyte` ternary, dense |" in page
    assert "| MULT18X18D | 0 |" in page
    assert families_command(source) == 2
    capsys.readouterr()


def test_unequal_lanes_and_missing_records_are_refused(report, records):
    designs = [report, {**report, "scan_lanes": 4}]
    with pytest.raises(InputError, match=r"lanes \[\(32, 4\), \(32, 16\)\]; compare designs of"):
        families.table(designs)
    (records / "bitbyte-float-0.json").unlink()
    own = {**report, "matrix_bits": 1, "weight_bits": 2}
    with pytest.raises(InputError, match=r"model\.evaluate --table --only bitbyte-float-0"):
        families.table([own])
