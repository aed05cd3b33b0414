"""FrameSequences against a model: policy and commands of every context, in the midst of frames."""

import random

import pytest
from amaranth.sim import Simulator

from hw.streaming.frame_sequences import FrameSequences

SETTLE = 4


@pytest.mark.parametrize(("contexts", "tokens"), [(1, 3), (2, 3), (8, 2), (4, 1)])
def test_flags_of_every_context_follow_policy_and_commands(contexts, tokens):
    unit, draw = FrameSequences(settle=SETTLE, contexts=contexts), random.Random(contexts)
    pending, found, due = [True] * contexts, [], []

    async def bench(ctx):
        position, context, quiet, idle = 0, 0, SETTLE, False
        for _ in range(600):
            if position == 0:
                context = draw.randrange(contexts)
            first, last, taken = position == 0, position == tokens - 1, draw.random() < 0.4
            selected, policy, hold = (
                draw.randrange(contexts),
                draw.random() < 0.5,
                draw.random() < 0.1,
            )
            reset, resume = draw.random() < 0.1, draw.random() < 0.05
            inputs = {
                "taken": taken,
                "first": first,
                "last": last,
                "hold": hold,
                "reset_at_last": policy,
                "reset_request": reset,
                "resume_request": resume,
            }
            if contexts > 1:
                inputs |= {"context": context, "selected": selected}
            for name, value in inputs.items():
                ctx.set(getattr(unit, name), int(value))
            outputs = (unit.fresh, unit.starts_fresh, unit.open, unit.idle)
            found.append(tuple(bool(ctx.get(output)) for output in outputs))
            due.append((first and pending[context], pending[selected], not hold, idle))
            # A request in the midst of a frame is about the next one of its context.
            if taken and first:
                pending[context] = False
            if taken and last:
                pending[context] = pending[context] or policy
            if reset:
                pending[selected] = True
            if resume:
                pending[selected] = False
            idle = quiet >= SETTLE and not taken and first
            quiet = 0 if taken else quiet + 1
            position = (position + taken) % tokens
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert found == due
    for column in zip(*found, strict=True):
        assert set(column) == {False, True}
