"""Verilog of a StreamBuffer on Verilator with cocotb, through the project's runner."""

import pytest
from amaranth.back import verilog

from golden.errors import InputError
from hw.stream_buffer import StreamBuffer
from sim import verilator_tools
from sim.cocotb_runner import SimulationError, build, simulate
from sim.verilator_tools import control_file, port_names, verilator_executable

BENCH = "sim.components.stream_buffer_bench"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stream_buffer")
    source = directory / "stream_buffer.v"
    source.write_text(verilog.convert(StreamBuffer(8, 5), name="stream_buffer"))
    return build(
        sources=[source],
        top="stream_buffer",
        directory=directory / "build",
        probes={"stream_buffer": ["put_row"]},
    )


def test_verilog_behaves_as_the_component(simulator, tmp_path):
    assert simulate(simulator, test_module=BENCH, directory=tmp_path) == 2
    assert (tmp_path / "results.xml").is_file()


def test_failing_bench_raises_with_seed_and_log(simulator, tmp_path):
    with pytest.raises(SimulationError, match=r"seed 5, log .*simulation\.log"):
        simulate(simulator, test_module=BENCH, directory=tmp_path, seed=5, testcase="always_fails")


def test_unknown_test_raises(simulator, tmp_path):
    with pytest.raises(SimulationError, match=BENCH):
        simulate(simulator, test_module=BENCH, directory=tmp_path, testcase="no_such_test")


def test_ports_are_read_from_the_verilog():
    text = verilog.convert(StreamBuffer(8, 3), name="unit")
    assert set(port_names(text, "unit")) == {
        "clk", "rst", "level",
        "i__payload", "i__ready", "i__valid",
        "o__payload", "o__ready", "o__valid",
    }  # fmt: skip
    with pytest.raises(ValueError, match="no module 'other'"):
        port_names(text, "other")


def test_control_file_names_what_is_visible():
    assert control_file({"unit": ["level", "row*"]}).splitlines() == [
        "`verilator_config",
        'public_flat_rw -module "unit" -var "level"',
        'public_flat_rw -module "unit" -var "row*"',
    ]


def test_missing_tools_are_named(monkeypatch):
    assert verilator_executable().is_file()
    monkeypatch.setattr(verilator_tools, "NEEDED_PROGRAMS", ("no-such-program",))
    with pytest.raises(InputError, match="needs no-such-program"):
        verilator_executable()
