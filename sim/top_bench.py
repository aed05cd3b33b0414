"""cocotb test of a generated top level: plays a stimulus, writes what came out.

Plusargs: ``stimulus`` names a JSON file with the keys of :class:`sim.cosimulation.Stimulus`,
``outcome`` the JSON file to write, ``progress`` a file that receives each token as it is known.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, TextIO

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Event, FallingEdge, RisingEdge, gather, select

from golden.sampling import Sampler
from sim.register_host import RegisterHost


def _file(name: str) -> Path:
    """Return the file that a plusarg names."""
    return Path(str(cocotb.plusargs[name]))


async def _start(dut: Any, stimulus: dict[str, Any]) -> RegisterHost:
    """Start the clock, reset, set the control register, and return the host."""
    for signal in (
        "s_axis_tokens_tdata", "s_axis_tokens_tlast", "s_axis_tokens_tvalid",
        "m_axis_results_tready", "m_axis_logits_tready", "s_axil_awaddr", "s_axil_awvalid",
        "s_axil_wdata", "s_axil_wstrb", "s_axil_wvalid", "s_axil_bready", "s_axil_araddr",
        "s_axil_arvalid", "s_axil_rready",
    ):  # fmt: skip
        getattr(dut, signal).value = 0
    if stimulus["contexts"] > 1:
        dut.s_axis_tokens_tid.value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns", impl="gpi").start()
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    control = 2 * stimulus["reset_at_last"] + 4 * stimulus["emit_logits"]
    seed = stimulus["stall_seed"]
    host = RegisterHost(dut, control, None if seed is None else random.Random(seed))
    await host.start()
    return host


class Player:
    """Drives the streams, at full speed or with random stalls, and collects the outputs."""

    def __init__(
        self, dut: Any, stimulus: dict[str, Any], host: RegisterHost, progress: TextIO
    ) -> None:
        self.dut, self.stimulus, self.host = dut, stimulus, host
        self.saved: dict[str, list[list[int]]] = dict(stimulus["states"])
        self.results: list[list[int]] = []
        self.logits: list[list[int]] = []
        self.tokens: list[int] = list(stimulus["tokens"])
        self.last: list[int] = list(stimulus["last"])
        self.contexts: int = stimulus["contexts"]
        self.context: list[int] = list(stimulus["context"]) or [0] * len(self.tokens)
        self.random = random.Random(stimulus["stall_seed"])
        self.progress = progress
        self.beat = Event()
        self.sampler: Sampler | None = None
        if stimulus["temperature"] > 0:
            self.sampler = Sampler(
                logit_fraction=stimulus["logit_fraction"],
                temperature=stimulus["temperature"],
                seed=stimulus["sampling_seed"],
            )

    @property
    def stalling(self) -> bool:
        """Return whether both sides stall at random."""
        return self.stimulus["stall_seed"] is not None

    async def send(self) -> None:
        """Offer the tokens one after another; generated ones as soon as their result is there."""
        dut, total = self.dut, len(self.tokens) + self.stimulus["generate"]
        for position in range(total):
            await self._operate(position)
            if position >= len(self.tokens):
                self.context.append(position % self.contexts)
                self.tokens.append(await self._next_token(position))
                self.last.append(0)
            print(self.tokens[position], file=self.progress, flush=True)
            if self.stalling:
                for _ in range(self.random.randrange(self.stimulus["longest_stall"])):
                    await FallingEdge(dut.clk)
            dut.s_axis_tokens_tdata.value = self.tokens[position]
            dut.s_axis_tokens_tlast.value = self.last[position]
            if self.contexts > 1:
                dut.s_axis_tokens_tid.value = self.context[position]
            dut.s_axis_tokens_tvalid.value = 1
            await self._until_taken()
            dut.s_axis_tokens_tvalid.value = 0

    async def _next_token(self, position: int) -> int:
        """Return the token at ``position``, half a cycle after it is known.

        It follows the last earlier token of its context.
        """
        before = [i for i in range(position) if self.context[i] == self.context[position]][-1]
        if self.sampler is None:
            await self._arrived(self.results, before + 1)
            return self.results[before][0]
        vocabulary = self.stimulus["vocabulary"]
        await self._arrived(self.logits, (before + 1) * vocabulary)
        beats = self.logits[before * vocabulary : (before + 1) * vocabulary]
        return self.sampler.choose([value for value, _, _ in beats])

    async def _operate(self, position: int) -> None:
        """Carry out the operations that come before the token at ``position``."""
        for operation in self.stimulus["operations"]:
            if operation["position"] == position:
                await self.host.operate(operation, self.saved)

    async def _arrived(self, beats: list[list[int]], count: int) -> None:
        """Return as soon as ``count`` beats were collected."""
        while len(beats) < count:
            self.beat.clear()
            await self.beat.wait()

    async def _until_taken(self) -> None:
        """Return half a cycle after the edge at which the offered token was taken."""
        dut = self.dut
        if not dut.s_axis_tokens_tready.value:
            await RisingEdge(dut.s_axis_tokens_tready)
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)

    async def collect(self, prefix: str, into: list[list[int]], count: int) -> None:
        """Take ``count`` beats of an output stream, being unready half of the time if stalling."""
        dut = self.dut
        valid, ready = getattr(dut, f"{prefix}_tvalid"), getattr(dut, f"{prefix}_tready")
        data, last = getattr(dut, f"{prefix}_tdata"), getattr(dut, f"{prefix}_tlast")
        context = getattr(dut, f"{prefix}_tid") if self.contexts > 1 else None
        while len(into) < count:
            if not self.stalling and not valid.value:
                await RisingEdge(valid)
            await FallingEdge(dut.clk)
            # What is valid now is taken at the next rising edge exactly if ready is set now.
            taking = not self.stalling or self.random.random() < 0.5
            ready.value = int(taking)
            if taking and valid.value:
                value = data.value
                signed = prefix == "m_axis_logits"
                number = value.to_signed() if signed else value.to_unsigned()
                stream = 0 if context is None else int(context.value)
                into.append([number, int(last.value), stream])
                self.beat.set()
        # The edge that takes the last beat is still to come.
        await RisingEdge(dut.clk)
        ready.value = 0


@cocotb.test()
async def play(dut: Any) -> None:
    """Play the stimulus and write tokens, results and logits."""
    stimulus = json.loads(_file("stimulus").read_text())
    with _file("progress").open("w") as progress:
        outcome = await _play(dut, stimulus, progress)
    _file("outcome").write_text(json.dumps(outcome))


async def _play(dut: Any, stimulus: dict[str, Any], progress: TextIO) -> dict[str, Any]:
    """Run the design through the stimulus; return tokens, results and logits."""
    host = await _start(dut, stimulus)
    player = Player(dut, stimulus, host, progress)
    total = len(player.tokens) + stimulus["generate"]
    beats = total * stimulus["vocabulary"] if stimulus["emit_logits"] else 0
    parts = gather(
        player.send(),
        player.collect("m_axis_logits", player.logits, beats),
        player.collect("m_axis_results", player.results, total),
    )
    finished = True
    if stimulus["watchdog"] is None:
        await parts
    else:
        ended, _ = await select(parts, ClockCycles(dut.clk, stimulus["watchdog"]))
        finished = ended == 0
    await ClockCycles(dut.clk, 4)
    return {
        "tokens": player.tokens,
        "last": player.last,
        "context": player.context,
        "saved": player.saved,
        "results": player.results,
        "logits": player.logits,
        "finished": finished,
    }
