"""cocotb test bench of a StreamBuffer's Verilog: random stalls on both sides against a deque."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge, Timer

CYCLES = 2000


async def start(dut: Any) -> None:
    """Start the clock and hold the reset for two cycles."""
    dut.i__valid.value = 0
    dut.o__ready.value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0


@cocotb.test()
async def random_stalls(dut: Any) -> None:
    """Every payload comes out once and in order, and the level counts them."""
    await start(dut)
    queue: deque[int] = deque()
    taken = 0
    for _ in range(CYCLES):
        await Timer(1, "ns")  # drive away from the edge
        payload = random.randrange(1 << len(dut.i__payload))
        valid, ready = random.random() < 0.6, random.random() < 0.6
        dut.i__valid.value = valid
        dut.i__payload.value = payload
        dut.o__ready.value = ready
        await ReadOnly()
        assert dut.level.value.to_unsigned() == len(queue)
        assert dut.o__valid.value.is_resolvable
        accepted = valid and bool(dut.i__ready.value)
        if ready and dut.o__valid.value:
            assert dut.o__payload.value.to_unsigned() == queue.popleft()
            taken += 1
        if accepted:
            queue.append(payload)
        await RisingEdge(dut.clk)
    assert taken > CYCLES // 4


@cocotb.test()
async def only_named_signals_are_visible(dut: Any) -> None:
    """Of the signals inside, the probe alone is there."""
    await start(dut)
    assert dut.put_row.value.to_unsigned() == 0
    assert not hasattr(dut, "take_row")


@cocotb.test(skip=True)
async def always_fails(dut: Any) -> None:
    """Shows that a failing test bench fails the run; started by name."""
    await start(dut)
    raise AssertionError("failing as it should")
