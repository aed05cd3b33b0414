"""A pipe whose state outlives frames: policy, command, save, restore and rollback, under stalls."""

from __future__ import annotations

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from golden.configuration import AverageShape, FrameShape, NetworkShape, PatchShape
from golden.frames import FrameExecutor
from golden.random_program import random_program
from golden.scheme import SCHEMES
from golden.state import State
from golden.vectors import random_stimulus
from hw.lanes import Lanes
from hw.parameter_memory import MemoryPlan
from hw.register_map import Register
from hw.streaming.choice import choose_streaming
from hw.streaming.top import StreamingAccelerator
from sim.components.axi_lite_bench import Host
from sim.operations import state_words

HOLD, RESET_AT_LAST = 1, 2
RESET, RESUME = 1, 2
IDLE, STARTS_FRESH, PAUSED = 1, 2, 4
STEP = 2

SCAN = NetworkShape(
    vocabulary=3, d_model=4, d_inner=6, d_state=2, d_conv=3, dt_rank=1, n_layer=2,
    frame=FrameShape(features=2, tokens=2, hidden=3),
)  # fmt: skip
AVERAGES = NetworkShape(
    vocabulary=2, d_model=4, d_inner=6, d_state=1, d_conv=1, dt_rank=6, n_layer=2,
    frame=FrameShape(features=3, tokens=1, patch=PatchShape(width=4, kernel=1, stride=1)),
    average=AverageShape(),
)  # fmt: skip
"""As ``slim-k1``: a frame is a token, and what is averaged is the stream."""


class Machine:
    """A persistent top level in simulation; both streams stall at random."""

    def __init__(self, program, seed):
        plan = choose_streaming(program.shape, program.scheme, scan=min(2, program.shape.d_state))
        self.program, self.seed = program, seed
        self.lanes = Lanes(mac=1, scan=plan.lanes.scan)
        self.design = StreamingAccelerator(
            program=program, plan=plan, realisation=MemoryPlan(), persistent=True
        )
        self.waiting, self.outputs = deque(), []

    async def feed(self, context):
        design, stalls = self.design, random.Random(self.seed)
        bits = len(design.m_axis_outputs_tdata)
        while True:
            offers = bool(self.waiting) and stalls.random() < 0.7
            context.set(design.s_axis_features_tvalid, int(offers))
            if offers:
                context.set(design.s_axis_features_tdata, self.waiting[0][0])
                context.set(design.s_axis_features_tlast, self.waiting[0][1])
            context.set(design.m_axis_outputs_tready, int(stalls.random() < 0.3))
            ports = [f"s_axis_features_{end}" for end in ("tvalid", "tready")]
            ports += [f"m_axis_outputs_{end}" for end in ("tvalid", "tready", "tdata")]
            found = await context.tick().sample(*(getattr(design, name) for name in ports))
            offered, taken, valid, ready, value = found[-5:]
            if offered and taken:
                self.waiting.popleft()
            if valid and ready:
                self.outputs.append(value - (value >> (bits - 1) << bits))

    def offer(self, frames):
        for frame in frames:
            values = frame.ravel().tolist()
            self.waiting.extend(
                (value, int(i == len(values) - 1)) for i, value in enumerate(values)
            )

    async def play(self, context, frames):
        """Run frames and return their outputs."""
        self.outputs.clear()
        self.offer(frames)
        while len(self.outputs) < len(frames) * self.program.shape.vocabulary:
            await context.tick()
        return list(self.outputs)

    async def pause(self, host, control=0):
        await host.put(Register.CONTROL, HOLD | control)
        while not await host.get(Register.STATUS) & PAUSED:
            pass

    async def _memories(self, host):
        """Return words, and data registers a word, of the memories that there are."""
        found = []
        names = ("LAYERS", "D_INNER", "D_STATE", "CONVOLVED", "STATE_FORMAT", "WINDOW_FORMAT")
        own = {name: await host.get(Register[name]) for name in names}
        for layout, words in (
            (own["STATE_FORMAT"], own["D_INNER"] * own["D_STATE"] // (own["STATE_FORMAT"] >> 16)),
            (own["WINDOW_FORMAT"], own["CONVOLVED"]),
        ):
            bits = (layout >> 16) * (layout & 0xFFFF)
            found.append((own["LAYERS"] * words, -(-bits // 32)))
        return [memory for memory in found if memory[0]]

    async def save(self, host):
        memories = []
        for select, (words, parts) in enumerate(await self._memories(host)):
            await host.put(Register.STATE_SELECT, select | STEP)
            await host.put(Register.STATE_ADDRESS, 0)
            found = []
            for _ in range(words):
                data = [await host.get(Register.STATE_DATA + 4 * part) for part in range(parts)]
                found.append(sum(value << 32 * part for part, value in enumerate(data)))
            memories.append(found)
        return memories

    async def restore(self, host, memories):
        layout = await self._memories(host)
        for select, (words, (_, parts)) in enumerate(zip(memories, layout, strict=True)):
            await host.put(Register.STATE_SELECT, select | STEP)
            await host.put(Register.STATE_ADDRESS, 0)
            for word in words:
                for part in range(parts):
                    await host.put(Register.STATE_DATA + 4 * part, word >> 32 * part & 0xFFFFFFFF)
        await host.put(Register.COMMAND, RESUME)

    def words(self, state):
        return state_words(self.program, self.lanes, state, 0)

    def run(self, bench):
        simulator = Simulator(self.design)
        simulator.add_clock(1e-8)
        simulator.add_testbench(bench)
        simulator.add_testbench(self.feed, background=True)
        simulator.run()


@pytest.fixture(scope="module", params=[SCAN, AVERAGES], ids=["scan", "averages"])
def case(request):
    """Return a program, frames, and golden's outputs and states of one endless stream."""
    program = random_program(request.param, SCHEMES["w8a8"], seed=3)
    rows = request.param.frame.rows
    frames = random_stimulus(program, 6, 5).tokens.reshape(6, rows, -1)
    executor, state = FrameExecutor(program), State.zeros(program, 1)
    outputs, states = [], []
    for frame in frames:
        states.append(state.copy())
        outputs += executor.advance(frame[None], state)[0].tolist()
    return program, frames, outputs, [*states, state]


def test_a_saved_state_continues_bit_for_bit_in_another_simulation(case):
    program, frames, outputs, states = case
    first, second, saved = Machine(program, 1), Machine(program, 2), []
    split = 3 * program.shape.vocabulary

    async def save(context):
        host = Host(context, first.design, random.Random(4))
        await host.put(Register.CONTROL, 0)
        assert await first.play(context, frames[:3]) == outputs[:split]
        await first.pause(host)
        saved.extend(await first.save(host))
        assert saved == first.words(states[3])
        await host.put(Register.CONTROL, 0)
        assert await first.play(context, frames[3:]) == outputs[split:]
        # Rolled back, the same frames give the same outputs.
        await first.pause(host)
        assert await first.save(host) == first.words(states[6])
        await first.restore(host, saved)
        assert await first.save(host) == saved
        await host.put(Register.CONTROL, 0)
        assert await first.play(context, frames[3:]) == outputs[split:]

    async def restore(context):
        host = Host(context, second.design)
        await second.pause(host)
        await second.restore(host, saved)
        await host.put(Register.CONTROL, 0)
        assert await second.play(context, frames[3:]) == outputs[split:]

    first.run(save)
    second.run(restore)


def test_policy_and_command_decide_what_begins_with_zeros(case):
    program, frames, outputs, _ = case
    machine, split = Machine(program, 6), 2 * program.shape.vocabulary
    alone = FrameExecutor(program).forward(frames).ravel().tolist()
    assert alone[split:] != outputs[split:]

    async def bench(context):
        host = Host(context, machine.design, random.Random(7))
        # Initially every frame is a sequence, as without persistence.
        assert await machine.play(context, frames[:2]) == alone[:split]
        assert await host.get(Register.STATUS) & STARTS_FRESH
        # Never, but by command.
        await host.put(Register.CONTROL, 0)
        assert await machine.play(context, frames[:2]) == outputs[:split]
        await host.put(Register.COMMAND, RESET)
        assert await machine.play(context, frames) == outputs
        await machine.pause(host)
        assert await host.get(Register.STATUS) == IDLE | PAUSED
        await host.put(Register.COMMAND, RESET)
        assert not any(any(words) for words in await machine.save(host))
        await host.put(Register.CONTROL, 0)
        assert await machine.play(context, frames[:2]) == outputs[:split]

    machine.run(bench)


def test_hold_stops_between_frames(case):
    program, frames, _, states = case
    machine, tokens = Machine(program, 8), program.shape.frame.tokens

    async def bench(context):
        host = Host(context, machine.design)
        await host.put(Register.CONTROL, 0)
        machine.offer(frames)
        while await host.get(Register.TOKENS) < 2 * tokens:
            pass
        await machine.pause(host)
        taken = await host.get(Register.TOKENS)
        assert 2 * tokens <= taken < 6 * tokens
        assert taken % tokens == 0
        assert await machine.save(host) == machine.words(states[taken // tokens])
        while not (stalled := await host.get(Register.STALLED_CYCLES)):
            pass
        assert await host.get(Register.STALLED_CYCLES) > stalled
        busy = [await host.get(Register.BUSY_CYCLES) for _ in range(2)]
        assert busy[0] == busy[1] > 0
        await host.put(Register.CONTROL, 0)
        while await host.get(Register.TOKENS) < 6 * tokens:
            pass
        await machine.pause(host)
        assert await machine.save(host) == machine.words(states[6])

    machine.run(bench)
