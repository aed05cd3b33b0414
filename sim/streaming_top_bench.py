"""cocotb test of a generated frame network: plays features, writes the outputs and their cycles.

Plusargs: ``stimulus`` names a JSON file with the keys of
:class:`sim.streaming_cosimulation.FrameStimulus`, ``outcome`` the JSON file to write.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, gather, select
from cocotb.utils import get_sim_time

from hw.register_map import Register
from sim.register_host import RESET_AT_LAST, RegisterHost

PERIOD = 10
"""Nanoseconds a cycle."""


def _file(name: str) -> Path:
    """Return the file that a plusarg names."""
    return Path(str(cocotb.plusargs[name]))


async def _start(dut: Any, stimulus: dict[str, Any]) -> RegisterHost:
    """Start the clock, reset, set the policy, and return the host; only persistent designs obey."""
    features = ("tdata", "tlast", "tvalid", *(["tid"] if stimulus["contexts"] > 1 else []))
    for signal in ("m_axis_outputs_tready", *(f"s_axis_features_{end}" for end in features)):
        getattr(dut, signal).value = 0
    if hasattr(dut, "s_axil_awvalid"):
        for end in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
            getattr(dut, f"s_axil_{end}").value = 0
    dut.rst.value = 1
    Clock(dut.clk, PERIOD, unit="ns", impl="gpi").start()
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    seed, control = stimulus["stall_seed"], RESET_AT_LAST * stimulus["reset_at_last"]
    host = RegisterHost(dut, control, None if seed is None else random.Random(seed))
    if not stimulus["reset_at_last"]:
        await host.start()
    await FallingEdge(dut.clk)
    return host


class FramePlayer:
    """Drives both streams, at full speed or with random stalls, and collects the outputs."""

    def __init__(self, dut: Any, stimulus: dict[str, Any], host: RegisterHost) -> None:
        self.dut, self.stimulus, self.host = dut, stimulus, host
        self.saved: dict[str, list[list[int]]] = dict(stimulus["states"])
        self.several = stimulus["contexts"] > 1
        self.random = random.Random(stimulus["stall_seed"])
        self.stalling = stimulus["stall_seed"] is not None
        self.outputs: list[tuple[int, int, int, int]] = []

    async def send(self) -> None:
        """Offer the features one after another, with the host's operations between frames."""
        dut, width = self.dut, len(self.dut.s_axis_features_tdata)
        mask, frames, begins = (1 << width) - 1, 0, True
        for value, last, context in self.stimulus["features"]:
            if begins:
                await self._operate(frames)
            begins, frames = bool(last), frames + last
            if self.stalling and self.random.random() < self.stimulus["pause_rate"]:
                dut.s_axis_features_tvalid.value = 0
                for _ in range(self.random.randrange(self.stimulus["longest_stall"])):
                    await FallingEdge(dut.clk)
            dut.s_axis_features_tdata.value = value & mask
            dut.s_axis_features_tlast.value = last
            if self.several:
                dut.s_axis_features_tid.value = context
            dut.s_axis_features_tvalid.value = 1
            await self._until_taken()
        dut.s_axis_features_tvalid.value = 0
        await self._operate(frames)

    async def _operate(self, position: int) -> None:
        """Carry out the operations behind so many frames, all of which have entered then."""
        due = [own for own in self.stimulus["operations"] if own["position"] == position]
        if not due:
            return
        self.dut.s_axis_features_tvalid.value = 0
        while await self.host.get(Register.TOKENS) < position * self.stimulus["tokens"]:
            pass
        for operation in due:
            await self.host.operate(operation, self.saved)
        await FallingEdge(self.dut.clk)

    async def _until_taken(self) -> None:
        """Return half a cycle after the edge at which the offered feature was taken."""
        dut = self.dut
        # Half a cycle after its edge, ready is that of the next one.
        if not dut.s_axis_features_tready.value:
            await RisingEdge(dut.s_axis_features_tready)
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)

    async def collect(self) -> None:
        """Take the outputs: all at once, or now and then with long pauses if stalling."""
        dut = self.dut
        valid, ready = dut.m_axis_outputs_tvalid, dut.m_axis_outputs_tready
        data, last = dut.m_axis_outputs_tdata, dut.m_axis_outputs_tlast
        context = dut.m_axis_outputs_tid if self.several else None
        pause = 0
        while len(self.outputs) < self.stimulus["outputs"]:
            if not self.stalling and not valid.value:
                await RisingEdge(valid)
            await FallingEdge(dut.clk)
            if self.stalling and not pause and self.random.random() < self.stimulus["pause_rate"]:
                pause = self.random.randrange(self.stimulus["longest_stall"])
            taking = not pause
            pause = max(0, pause - 1)
            # What is valid now is taken at the next rising edge exactly if ready is set now.
            ready.value = int(taking)
            if taking and valid.value:
                number = 0 if context is None else int(context.value)
                cycle = int(get_sim_time("ns")) // PERIOD
                self.outputs.append((data.value.to_signed(), int(last.value), number, cycle))
        # The edge that takes the last output is still to come.
        await RisingEdge(dut.clk)
        ready.value = 0


@cocotb.test()
async def play(dut: Any) -> None:
    """Play the stimulus and write the outputs."""
    stimulus = json.loads(_file("stimulus").read_text())
    player = FramePlayer(dut, stimulus, await _start(dut, stimulus))
    parts = gather(player.send(), player.collect())
    ended, _ = await select(parts, ClockCycles(dut.clk, stimulus["watchdog"]))
    await ClockCycles(dut.clk, 4)
    outcome = {
        "outputs": player.outputs,
        "saved": player.saved,
        "unaligned": int(dut.unaligned.value),
        "finished": ended == 0,
    }
    _file("outcome").write_text(json.dumps(outcome))
