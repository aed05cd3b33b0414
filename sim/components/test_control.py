"""Control registers alone; sim/test_state_restore.py has them on a whole engine."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pytest
from amaranth.sim import Simulator

from golden.presets import find_preset
from golden.random_program import random_program
from golden.scheme import find_scheme
from hw.control import ControlRegisters
from hw.lanes import Lanes
from hw.register_map import FORMAT_VERSION, IDENTIFICATION, Register
from sim.components.axi_lite_bench import OKAY, SLVERR, Host

HOLD, RESET_AT_LAST, EMIT_LOGITS = 1, 2, 4
RESET, RESUME, COMMIT = 1, 2, 4
IDLE, STARTS_FRESH, PAUSED = 1, 2, 4
LATENCY = 3
LANES = Lanes(mac=16, scan=4)


@pytest.fixture(scope="module")
def program():
    return random_program(find_preset("micro"), find_scheme("w8a8"), 5)


def run(design, *benches):
    simulator = Simulator(design)
    simulator.add_clock(1e-8)
    bench, *background = benches
    simulator.add_testbench(bench)
    for other in background:
        simulator.add_testbench(other, background=True)
    simulator.run()


def make_control(program, **arguments):
    return ControlRegisters(program=program, lanes=LANES, access_latency=LATENCY, **arguments)


def test_fixed_registers_tell_the_shape(program):
    control, shape = make_control(program), program.shape
    expected = {
        Register.IDENTIFICATION: IDENTIFICATION,
        Register.FORMAT_VERSION: FORMAT_VERSION,
        Register.VOCABULARY: shape.vocabulary,
        Register.LAYERS: shape.n_layer,
        Register.D_MODEL: shape.d_model,
        Register.D_INNER: shape.d_inner,
        Register.D_STATE: shape.d_state,
        Register.D_CONV: shape.d_conv,
        Register.STATE_FORMAT: 4 << 16 | program.scheme.state_bits,
        Register.WINDOW_FORMAT: 3 << 16 | program.scheme.activation_bits,
    }

    async def bench(context):
        host = Host(context, control)
        for register, value in expected.items():
            assert await host.get(register) == value
            assert await host.get(register + 3) == value  # the lowest bits are ignored
            assert await host.write(register, 0) == SLVERR

    run(control, bench)


@pytest.mark.parametrize("emit", [False, True])
def test_levels_keep_what_is_written(program, emit):
    control = make_control(program, emit_logits=emit)
    levels = (control.hold, control.reset_at_last, control.emit_logits)

    async def bench(context):
        host = Host(context, control)
        initial = RESET_AT_LAST | (EMIT_LOGITS if emit else 0)
        assert await host.get(Register.CONTROL) == initial
        for value in range(8):
            await host.put(Register.CONTROL, 0xFFFFFFF8 | value)
            assert [context.get(level) for level in levels] == [value >> i & 1 for i in range(3)]
            assert await host.get(Register.CONTROL) == value
        assert await host.write(Register.CONTROL, 0, strobe=0b1110) == OKAY
        assert await host.get(Register.CONTROL) == 7

    run(control, bench)


def test_commands_are_pulses_of_one_cycle(program):
    control = make_control(program)
    pulses = []

    async def watch(context):
        ports = (control.reset_request, control.resume_request, control.scan_access_write)
        while True:
            _, _, *values = await context.tick().sample(*ports)
            if any(values):
                pulses.append(tuple(values))

    async def bench(context):
        host = Host(context, control)
        await host.put(Register.COMMAND, RESET)
        assert await host.write(Register.COMMAND, RESET, strobe=0b1110) == OKAY
        assert await host.get(Register.COMMAND) == 0
        for command in (RESUME, COMMIT, RESET | RESUME):
            assert await host.write(Register.COMMAND, command) == SLVERR
        context.set(control.idle, 1)
        assert await host.write(Register.COMMAND, RESUME) == SLVERR  # not held
        await host.put(Register.CONTROL, HOLD)
        await host.put(Register.COMMAND, RESUME)
        await host.put(Register.COMMAND, COMMIT)
        await host.put(Register.STATE_ADDRESS, 32)
        assert await host.write(Register.COMMAND, COMMIT) == SLVERR  # beyond the memory

    run(control, bench, watch)
    assert pulses == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def test_status_and_counters(program):
    control = make_control(program)

    async def bench(context):
        host = Host(context, control)
        for idle, fresh, hold, accepted in np.ndindex(2, 2, 2, 2):
            context.set(control.idle, idle)
            context.set(control.starts_fresh, fresh)
            context.set(control.accepted, accepted)
            await host.put(Register.CONTROL, hold)
            free = idle and not accepted
            expected = IDLE * free + STARTS_FRESH * fresh + PAUSED * (free and hold)
            assert await host.get(Register.STATUS) == expected
        counters = (Register.TOKENS, Register.BUSY_CYCLES, Register.STALLED_CYCLES)
        context.set(control.idle, 1)
        context.set(control.accepted, 0)
        before = [await host.get(register) for register in counters]
        for idle, accepted, running, offered in [
            *[(0, 1, 0, 1)] * 3,  # tokens
            *[(0, 0, 1, 1)] * 5,  # busy, the next one waits its turn
            *[(1, 0, 0, 1)] * 7,  # stalled
            *[(1, 0, 0, 0)] * 9,
        ]:
            context.set(control.idle, idle)
            context.set(control.accepted, accepted)
            context.set(control.running, running)
            context.set(control.token_valid, offered)
            await context.tick()
        after = [await host.get(register) for register in counters]
        assert [new - old for new, old in zip(after, before, strict=True)] == [3, 8, 7]
        for register in (*counters, Register.STATUS):
            assert await host.write(register, 0) == SLVERR

    run(control, bench)


def test_unmapped_addresses_are_refused(program):
    control = make_control(program)
    mapped = {int(register) for register in Register} | {Register.STATE_DATA + 4}

    async def bench(context):
        host = Host(context, control)
        for address in range(0, 256, 4):
            if address not in mapped:
                assert await host.read(address) == (0, SLVERR)
                assert await host.write(address, 0xFFFFFFFF) == SLVERR
        assert await host.get(Register.CONTROL) == RESET_AT_LAST | EMIT_LOGITS

    run(control, bench)


class StateMemories:
    """Both state memories beside the control registers, as the engine shows them."""

    def __init__(self, control):
        self.control = control
        self.words = {"scan": [0] * 32, "window": [0] * 32}

    async def serve(self, context):
        units = list(self.words)
        names = [f"{u}_access_{p}" for u in units for p in ("address", "write", "write_data")]
        history = {unit: deque([0] * (LATENCY - 1)) for unit in units}
        while True:
            ports = [getattr(self.control, name) for name in names]
            _, _, *values = await context.tick().sample(*ports)
            for position, unit in enumerate(units):
                address, write, data = values[3 * position : 3 * position + 3]
                history[unit].append(self.words[unit][address])
                shown = history[unit].popleft()
                context.set(getattr(self.control, f"{unit}_access_read_data"), shown)
                if write:
                    self.words[unit][address] = data


class RegisterModel:
    """What the state registers must do while the engine is paused."""

    def __init__(self, scheme):
        self.select = self.step = self.address = self.shadow = 0
        self.widths = [4 * scheme.state_bits, 3 * scheme.activation_bits]
        self.memory = [[0] * 32, [0] * 32]

    def write(self, address, data, strobe):
        if address == Register.STATE_SELECT:
            value = merged(self.select | self.step << 1, data, strobe)
            self.select, self.step = value & 1, value >> 1 & 1
        elif address == Register.STATE_ADDRESS:
            self.address = merged(self.address, data, strobe)
        elif self.address >= 32:
            return SLVERR
        else:
            self.fill((address - Register.STATE_DATA) // 4, data, strobe)
        return OKAY

    def fill(self, part, data, strobe):
        old = self.shadow >> 32 * part & 0xFFFFFFFF
        self.shadow ^= (old ^ merged(old, data, strobe)) << 32 * part
        if part == 1 - self.select and strobe:
            mask = (1 << self.widths[self.select]) - 1
            self.memory[self.select][self.address] = self.shadow & mask
            self.address += self.step

    def read(self, address):
        if self.address >= 32:
            return 0, SLVERR
        part = (address - Register.STATE_DATA) // 4
        word = self.memory[self.select][self.address]
        if part == 1 - self.select:
            self.address += self.step
        return word >> 32 * part & 0xFFFFFFFF, OKAY


def merged(old, data, strobe):
    mask = sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1)
    return (old & ~mask) | (data & mask)


STATE_REGISTERS = [
    Register.STATE_SELECT,
    Register.STATE_ADDRESS,
    *[Register.STATE_DATA, Register.STATE_DATA + 4] * 3,
]


@pytest.mark.parametrize("seed", range(4))
def test_random_accesses_with_random_stalls(program, seed):
    """Every state register against a model; reads beside writes; all channels pause."""
    control, model = make_control(program), RegisterModel(program.scheme)
    memories, choose = StateMemories(control), random.Random(seed)

    async def bench(context):
        context.set(control.idle, 1)
        host = Host(context, control, choose)
        await host.put(Register.CONTROL, HOLD)
        for part in range(2):  # the shadow is not reset: give it a value
            await host.put(Register.STATE_DATA + 4 * part, 0)
        for _ in range(400):
            data, strobe = choose.getrandbits(32), choose.choice([0xF, 0xF, choose.getrandbits(4)])
            address = choose.choice(STATE_REGISTERS)
            if address == Register.STATE_ADDRESS:
                data, strobe = choose.randrange(33), 0xF
            if address >= Register.STATE_DATA and choose.random() < 0.5:
                assert await host.read(address) == model.read(address)
                continue
            offers = {"aw": {"awaddr": address}, "w": {"wdata": data, "wstrb": strobe}}
            offers["ar"] = {"araddr": Register.IDENTIFICATION}
            given = await host.transact(offers, {"b", "r"})
            expected = {"b": (model.write(address, data, strobe),), "r": (IDENTIFICATION, OKAY)}
            assert given == expected
            assert await host.get(Register.STATE_ADDRESS) == model.address
        assert model.memory == list(memories.words.values()), f"seed {seed}"

    run(control, bench, memories.serve)


def test_state_is_zero_while_the_next_token_starts_fresh(program):
    control = make_control(program)
    memories = StateMemories(control)
    memories.words["scan"][3] = 0x123456789ABC

    async def bench(context):
        context.set(control.idle, 1)
        host = Host(context, control)
        assert await host.read(Register.STATE_DATA) == (0, SLVERR)  # not held
        assert await host.write(Register.STATE_DATA, 1) == SLVERR
        await host.put(Register.CONTROL, HOLD)
        await host.put(Register.STATE_ADDRESS, 3)
        for fresh, word in ((0, 0x56789ABC), (1, 0), (0, 0x56789ABC)):
            context.set(control.starts_fresh, fresh)
            assert await host.get(Register.STATE_DATA) == word
        context.set(control.idle, 0)
        assert await host.read(Register.STATE_DATA) == (0, SLVERR)

    run(control, bench, memories.serve)


@pytest.mark.parametrize("contexts", [1, 4])
def test_only_contexts_of_the_design_can_be_selected(program, contexts):
    lanes = Lanes(mac=16, scan=4, contexts=contexts)
    control = ControlRegisters(program=program, lanes=lanes, access_latency=LATENCY)

    async def bench(context):
        host = Host(context, control)
        assert await host.get(Register.CONTEXTS) == contexts
        for number in range(contexts):
            await host.put(Register.CONTEXT, number)
            assert await host.write(Register.CONTEXT, contexts) == SLVERR
            assert await host.write(Register.CONTEXT, 1 << 31 | number) == SLVERR
            assert await host.get(Register.CONTEXT) == number == context.get(control.selected)

    run(control, bench)
