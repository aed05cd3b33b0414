"""Every single fault injected into the generated Verilog, or into a memory image, is caught."""

import dataclasses
import json
import logging
from collections import Counter

import pytest

from golden.errors import InputError
from sim.mutation.campaign import (
    DENSE,
    FORMATS,
    HEADS,
    RTL_FAULTS,
    STATE,
    TERNARY,
    Campaign,
    Verdict,
)
from sim.mutation.control_faults import IMAGE_FAULTS
from sim.mutation.report import to_json, to_markdown
from sim.mutation.schemata import Fault, flip_bit, inject

LEAST_FAULTS = 30
VERILOG = """\
module adder (a, b, sum, difference);
  assign sum = a + b;
  assign difference = a - b;
endmodule
"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    return Campaign(tmp_path_factory.mktemp("mutation"))


def test_without_a_fault_every_stream_matches_golden(campaign):
    campaign.check_original()


def test_a_design_that_is_not_golden_is_refused(campaign, monkeypatch):
    scenario = campaign.scenarios[0]
    probes = {**scenario.trace.probes, "token": scenario.trace.probes["token"] ^ 1}
    wrong = dataclasses.replace(scenario.trace, probes=probes)
    monkeypatch.setattr(campaign, "scenarios", [dataclasses.replace(scenario, trace=wrong)])
    with pytest.raises(InputError, match=r"without a fault the design differs .* token, token 0"):
        campaign.run()


def test_every_fault_is_caught(campaign, caplog):
    caplog.set_level(logging.WARNING, logger="SelectiveVerilator")  # a line a run
    survivors = [verdict for verdict in campaign.run() if not verdict.caught]
    listed = "\n".join(f"{fault.name} ({fault.unit}): {fault.kind}" for fault in survivors)
    assert not survivors, f"{len(survivors)} faults survive:\n{listed}"


@pytest.mark.parametrize(
    "subject",
    [
        HEADS,
        TERNARY,
        STATE,
        pytest.param(FORMATS, marks=pytest.mark.slow),
        pytest.param(DENSE, marks=pytest.mark.slow),
    ],
    ids=["heads", "ternary", "state", "formats", "dense"],
)
def test_every_fault_of_other_networks_is_caught(subject, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="SelectiveVerilator")
    survivors = [verdict for verdict in Campaign(tmp_path, subject).run() if not verdict.caught]
    listed = "\n".join(f"{fault.name} ({fault.unit}): {fault.kind}" for fault in survivors)
    assert not survivors, f"{len(survivors)} faults survive:\n{listed}"


def test_every_parameter_memory_has_a_fault(campaign):
    images = {path.stem for path in (campaign.folder / "design" / "mem").glob("*.hex")}
    assert {fault.image for fault in IMAGE_FAULTS} == images


def test_faults_are_many_and_told_apart():
    assert len(RTL_FAULTS) >= LEAST_FAULTS
    faults = (*RTL_FAULTS, *IMAGE_FAULTS)
    for subject in (HEADS, TERNARY, STATE, FORMATS, DENSE):
        faults += (*subject.rtl, *subject.images)
    names = Counter(fault.name for fault in faults)
    assert names.most_common(1)[0][1] == 1


def fault(name="swapped sign", pattern=r"= (?P<site>a \+ b);", faulty="a - b", places=1):
    return Fault(name=name, unit="adder", kind="", pattern=pattern, faulty=faulty, places=places)


def test_a_fault_is_built_in_beside_the_original():
    text = inject(VERILOG, {3: fault()})
    assert "assign sum = (mutant == 3 ? (a - b ) : (a + b ));" in text
    assert "assign difference = a - b;" in text
    assert text.index("integer mutant;") > text.index("module adder (a, b, sum, difference);")


def test_a_fault_refers_to_what_its_pattern_found():
    pattern = r"sum = (?P<site>(?P<left>\w+) \+ (?P<right>\w+));"
    text = inject(VERILOG, {1: fault(pattern=pattern, faulty="{{ {right}, {left} }} - {site}")})
    assert "({ b, a } - a + b )" in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (fault(pattern=r"(?P<site>a \* b)"), "swapped sign.* matches 0 times in module adder"),
        (fault(pattern=r"(?P<site>a) ", places=1), "matches 2 times in module adder, expected 1"),
        (fault(places=2), "matches 1 times in module adder, expected 2"),
    ],
)
def test_a_pattern_that_does_not_fit_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        inject(VERILOG, {1: wrong})


def test_overlapping_faults_are_refused():
    inner = fault(name="dropped operand", pattern=r"a \+ (?P<site>b)", faulty="1'h0")
    with pytest.raises(InputError, match="swapped sign and dropped operand change the same place"):
        inject(VERILOG, {1: fault(), 2: inner})


def test_flipping_a_bit_changes_that_bit(tmp_path):
    image = tmp_path / "image.hex"
    image.write_text("00\n0f\n")
    flip_bit(image, 1, 6)
    assert image.read_text() == "00\n4f\n"


@pytest.mark.parametrize(("word", "bit"), [(2, 0), (0, 8), (-1, 0)])
def test_a_bit_that_is_not_there_is_refused(tmp_path, word, bit):
    image = tmp_path / "image.hex"
    image.write_text("00\n0f\n")
    with pytest.raises(InputError, match=r"image\.hex has no bit"):
        flip_bit(image, word, bit)


def test_the_report_names_survivors():
    caught = Verdict("wrong shift", "norm", "one more", "full speed", "norm", "norm, token 0")
    survivor = Verdict("swapped sign", "scan", "minus", None, None, "")
    assert json.loads(to_json([caught, survivor]))["survivors"] == ["swapped sign"]
    table = to_markdown([caught, survivor])
    assert "1 of 2 faults caught" in table
    assert "| swapped sign | scan | minus | - | SURVIVED |" in table
