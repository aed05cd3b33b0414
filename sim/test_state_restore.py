"""A whole accelerator whose state is saved and restored over AXI4-Lite, bit for bit."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pytest
from amaranth.sim import Simulator

from golden.presets import find_preset
from golden.random_program import random_program
from golden.scheme import find_scheme
from golden.state import State
from golden.vectors import trace
from hw.lanes import Lanes
from hw.parameter_memory import MemoryPlan
from hw.register_map import Register
from hw.top import Accelerator
from sim.components.axi_lite_bench import Host
from sim.operations import state_words

HOLD, RESET_AT_LAST, EMIT_LOGITS = 1, 2, 4
RESET, RESUME = 1, 2
IDLE, STARTS_FRESH, PAUSED = 1, 2, 4
STEP, WINDOW = 2, 1
LANES = Lanes(mac=16, scan=4)


@pytest.fixture(scope="module")
def program():
    return random_program(find_preset("micro"), find_scheme("w8a8"), 5)


def run(design, bench, background):
    simulator = Simulator(design)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.add_testbench(background, background=True)
    simulator.run()


class Machine:
    """A whole accelerator under simulation, its streams fed and drained without stalls."""

    def __init__(self, program):
        self.program = program
        self.design = Accelerator(program=program, lanes=LANES, plan=MemoryPlan())
        self.waiting, self.results, self.logits = deque(), [], []

    async def feed(self, context):
        design = self.design
        context.set(design.m_axis_results_tready, 1)
        context.set(design.m_axis_logits_tready, 1)
        while True:
            context.set(design.s_axis_tokens_tvalid, int(bool(self.waiting)))
            if self.waiting:
                context.set(design.s_axis_tokens_tdata, self.waiting[0])
            ports = [design.s_axis_tokens_tvalid, design.s_axis_tokens_tready]
            for name in ("results", "logits"):
                ports += [getattr(design, f"m_axis_{name}_{end}") for end in ("tvalid", "tdata")]
            _, _, valid, ready, result, token, logit, value = await context.tick().sample(*ports)
            if valid and ready:
                self.waiting.popleft()
            if result:
                self.results.append(token)
            if logit:
                bits = len(design.m_axis_logits_tdata)
                self.logits.append(value - (value >> (bits - 1) << bits))

    async def play(self, context, tokens):
        """Run tokens and return their arg-max and logits."""
        self.results.clear()
        self.logits.clear()
        self.waiting.extend(tokens.tolist())
        count = len(tokens) * self.program.shape.vocabulary
        while len(self.results) < len(tokens) or len(self.logits) < count:
            await context.tick()
        return list(self.results), list(self.logits)

    async def pause(self, host):
        await host.put(Register.CONTROL, HOLD | RESET_AT_LAST | EMIT_LOGITS)
        while not await host.get(Register.STATUS) & PAUSED:
            pass

    async def resume(self, host):
        await host.put(Register.CONTROL, RESET_AT_LAST | EMIT_LOGITS)

    async def save(self, host):
        """Return all words of both memories."""
        memories = []
        for select, parts in ((0, 2), (WINDOW, 1)):
            await host.put(Register.STATE_SELECT, select | STEP)
            await host.put(Register.STATE_ADDRESS, 0)
            words = []
            for _ in range(32):
                data = [await host.get(Register.STATE_DATA + 4 * part) for part in range(parts)]
                words.append(sum(value << 32 * part for part, value in enumerate(data)))
            memories.append(words)
        return memories

    async def restore(self, host, memories):
        """Write all words of both memories and continue from them."""
        for select, (words, parts) in enumerate(zip(memories, (2, 1), strict=True)):
            await host.put(Register.STATE_SELECT, select | STEP)
            await host.put(Register.STATE_ADDRESS, 0)
            for word in words:
                for part in range(parts):
                    await host.put(Register.STATE_DATA + 4 * part, word >> 32 * part & 0xFFFFFFFF)
        await host.put(Register.COMMAND, RESUME)

    def golden(self, tokens):
        """Return the trace of one unfinished sequence, and its state as memory words."""
        expected = trace(self.program, tokens, np.zeros(len(tokens)), with_state=False)
        state = State(expected.window, expected.state)
        return expected, state_words(self.program, LANES, state, 0)


def outputs(expected, first=0):
    values = (expected.probes[name][first:].ravel().tolist() for name in ("token", "logits"))
    return tuple(values)


def test_saved_state_is_the_golden_one_and_restores_bit_for_bit(program):
    machine, random_tokens = Machine(program), np.random.default_rng(2)
    before, between, after = (random_tokens.integers(0, 64, length) for length in (4, 2, 3))

    async def bench(context):
        host = Host(context, machine.design, random.Random(1))
        await machine.resume(host)
        expected, words = machine.golden(before)
        assert await machine.play(context, before) == outputs(expected)
        await machine.pause(host)
        saved = await machine.save(host)
        assert saved == words
        await host.put(Register.COMMAND, RESET)
        assert await host.get(Register.STATUS) == IDLE | STARTS_FRESH | PAUSED
        assert await machine.save(host) == [[0] * 32] * 2
        await machine.resume(host)
        assert await machine.play(context, between) == outputs(machine.golden(between)[0])
        await machine.pause(host)
        await machine.restore(host, saved)
        assert await machine.save(host) == saved
        await machine.resume(host)
        expected, words = machine.golden(np.concatenate([before, after]))
        assert await machine.play(context, after) == outputs(expected, len(before))
        await machine.pause(host)
        assert await machine.save(host) == words
        assert await host.get(Register.TOKENS) == len(before) + len(between) + len(after)

    run(machine.design, bench, machine.feed)


def test_restoring_after_a_reset_needs_no_token_in_between(program):
    machine, random_tokens = Machine(program), np.random.default_rng(3)
    before, after = (random_tokens.integers(0, 64, length) for length in (3, 3))
    expected, _ = machine.golden(np.concatenate([before, after]))
    saved = machine.golden(before)[1]  # computed, never seen by this machine

    async def bench(context):
        host = Host(context, machine.design)
        await machine.pause(host)
        await machine.restore(host, saved)
        await machine.resume(host)
        assert await machine.play(context, after) == outputs(expected, len(before))

    run(machine.design, bench, machine.feed)


def test_hold_stops_between_offered_tokens(program):
    machine, tokens = Machine(program), np.random.default_rng(4).integers(0, 64, 5)

    async def bench(context):
        host = Host(context, machine.design)
        await machine.resume(host)
        machine.waiting.extend(tokens.tolist())
        await context.tick().repeat(600)
        await machine.pause(host)
        taken = await host.get(Register.TOKENS)
        assert 0 < taken == len(tokens) - len(machine.waiting) < len(tokens)
        assert await machine.save(host) == machine.golden(tokens[:taken])[1]
        stalled = [await host.get(Register.STALLED_CYCLES) for _ in range(2)]
        assert 0 < stalled[0] < stalled[1]
        busy = [await host.get(Register.BUSY_CYCLES) for _ in range(2)]
        assert busy[0] == busy[1] > 500
        await machine.resume(host)
        while machine.waiting:
            await context.tick()
        await machine.pause(host)
        assert await machine.save(host) == machine.golden(tokens)[1]

    run(machine.design, bench, machine.feed)
