"""An AXI4-Lite host for cocotb: commands, and the way to the state of a context."""

from __future__ import annotations

import random
from typing import Any

from cocotb.triggers import FallingEdge, RisingEdge

from hw.register_map import Register

__all__ = ["HOLD", "PAUSED", "RESET_AT_LAST", "RegisterHost"]

HOLD, RESET_AT_LAST = 1 << 0, 1 << 1
STEP = 1 << 1
RESET, RESUME = 1 << 0, 1 << 1
STARTS_FRESH, PAUSED = 1 << 1, 1 << 2
_WORD = 32


class RegisterHost:
    """Reads and writes the registers of a generated top level, one access at a time.

    Parameters
    ----------
    dut : the top level
    control : value of CONTROL while the engine runs
    stalls : source of pauses before each access and each answer; None never pauses
    """

    def __init__(self, dut: Any, control: int, stalls: random.Random | None = None) -> None:
        self.dut, self.control, self.stalls = dut, control, stalls

    async def _pause(self) -> None:
        for _ in range(self.stalls.randrange(3) if self.stalls else 0):
            await RisingEdge(self.dut.clk)

    async def _transact(self, offers: dict[str, dict[str, int]], answer: str) -> tuple[int, int]:
        """Offer all payloads, take one answer; return its data (0 for a write) and response."""
        dut = self.dut
        await self._pause()
        # What is offered before a falling edge and ready in it is taken by the next rising edge.
        await RisingEdge(dut.clk)
        for channel, payload in offers.items():
            for name, value in payload.items():
                getattr(dut, f"s_axil_{name}").value = value
            getattr(dut, f"s_axil_{channel}valid").value = 1
        waiting = set(offers)
        while waiting:
            await FallingEdge(dut.clk)
            taken = {name for name in waiting if getattr(dut, f"s_axil_{name}ready").value}
            await RisingEdge(dut.clk)
            for name in taken:
                getattr(dut, f"s_axil_{name}valid").value = 0
            waiting -= taken
        await self._pause()
        ready = getattr(dut, f"s_axil_{answer}ready")
        ready.value = 1
        await FallingEdge(dut.clk)
        while not getattr(dut, f"s_axil_{answer}valid").value:
            await FallingEdge(dut.clk)
        data = dut.s_axil_rdata.value.to_unsigned() if answer == "r" else 0
        response = getattr(dut, f"s_axil_{answer}resp").value.to_unsigned()
        await RisingEdge(dut.clk)
        ready.value = 0
        return data, response

    async def put(self, address: int, data: int) -> None:
        """Write a register; it must accept."""
        offers = {"aw": {"awaddr": address}, "w": {"wdata": data, "wstrb": 0xF}}
        _, response = await self._transact(offers, "b")
        if response:
            raise RuntimeError(f"writing {data:#x} to {address:#x} was answered with {response}")

    async def get(self, address: int) -> int:
        """Read a register; it must answer."""
        data, response = await self._transact({"ar": {"araddr": address}}, "r")
        if response:
            raise RuntimeError(f"reading {address:#x} was answered with {response}")
        return data

    async def start(self) -> None:
        """Let tokens in."""
        await self.put(Register.CONTROL, self.control)

    async def pause(self) -> None:
        """Let no token in and wait until the last one has left every unit."""
        await self.put(Register.CONTROL, self.control | HOLD)
        while not await self.get(Register.STATUS) & PAUSED:
            pass

    async def reset(self, context: int) -> None:
        """Let the next token of a context start a sequence; others go on."""
        await self.put(Register.CONTEXT, context)
        await self.put(Register.COMMAND, RESET)

    async def operate(self, operation: dict[str, Any], saved: dict[str, list[list[int]]]) -> None:
        """Carry out an operation between tokens or frames, with words from and into ``saved``.

        ``operation`` has the keys of :class:`sim.operations.Operation`.
        """
        context, name = operation["context"], operation["name"]
        if operation["kind"] == "reset":
            await self.reset(context)
            return
        await self.pause()
        if operation["kind"] == "save":
            saved[name] = await self.save(context)
        else:
            await self.restore(context, saved[name])
        await self.start()

    async def _memories(self) -> list[tuple[int, int]]:
        """Return words and data registers a word of the state memories, from the registers."""
        layers, channels, states, convolved = [
            await self.get(register)
            for register in (
                Register.LAYERS,
                Register.D_INNER,
                Register.D_STATE,
                Register.CONVOLVED,
            )
        ]
        found = []
        for register in (Register.STATE_FORMAT, Register.WINDOW_FORMAT):
            layout = await self.get(register)
            bits, count = layout & 0xFFFF, layout >> 16
            scan = register is Register.STATE_FORMAT
            words = channels * (states // count) if scan else convolved
            found.append((layers * words, -(-bits * count // _WORD)))
        return [memory for memory in found if memory[0]]

    async def save(self, context: int) -> list[list[int]]:
        """Return all words of the memories of a context while paused."""
        await self.put(Register.CONTEXT, context)
        memories = []
        for select, (words, parts) in enumerate(await self._memories()):
            await self.put(Register.STATE_SELECT, select | STEP)
            await self.put(Register.STATE_ADDRESS, 0)
            memories.append([await self._read_word(parts) for _ in range(words)])
        return memories

    async def _read_word(self, parts: int) -> int:
        data = [await self.get(Register.STATE_DATA + 4 * part) for part in range(parts)]
        return sum(value << _WORD * part for part, value in enumerate(data))

    async def restore(self, context: int, memories: list[list[int]]) -> None:
        """Write all words of the memories of a context while paused, and resume from them."""
        await self.put(Register.CONTEXT, context)
        for select, (_, parts) in enumerate(await self._memories()):
            await self.put(Register.STATE_SELECT, select | STEP)
            await self.put(Register.STATE_ADDRESS, 0)
            for word in memories[select]:
                for part in range(parts):
                    data = word >> _WORD * part & 0xFFFFFFFF
                    await self.put(Register.STATE_DATA + 4 * part, data)
        await self.put(Register.COMMAND, RESUME)
