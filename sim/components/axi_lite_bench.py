"""An AXI4-Lite host for Amaranth's simulator that stalls at random and watches the rules."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

OKAY, SLVERR = 0, 2
_OFFERS = {"aw": ("awaddr",), "w": ("wdata", "wstrb"), "ar": ("araddr",)}
_ANSWERS = {"b": ("bresp",), "r": ("rdata", "rresp")}


@dataclass
class Host:
    """Carries out reads and writes on the ``s_axil_*`` members of a component.

    Every channel pauses at random: address and data of a write come in any order, answers wait
    for their taker. While nothing is offered the payloads are random.

    Parameters
    ----------
    context : of the simulation
    design : component with the members
    stalls : source of pauses; None never pauses
    patience : cycles after which an access has failed
    """

    context: Any
    design: Any
    stalls: random.Random | None = None
    patience: int = 1000
    cycles: int = field(default=0, init=False)

    def _port(self, name: str) -> Any:
        return getattr(self.design, f"s_axil_{name}")

    def _goes(self) -> bool:
        return self.stalls is None or self.stalls.random() < 0.4

    def _offer(self, channel: str, payload: dict[str, int] | None) -> None:
        """Show a payload, or None to show nothing."""
        self.context.set(self._port(f"{channel}valid"), int(payload is not None))
        for name in _OFFERS[channel]:
            port = self._port(name)
            noise = self.stalls.getrandbits(len(port)) if self.stalls else 0
            self.context.set(port, noise if payload is None else payload[name])

    async def transact(
        self, offers: dict[str, dict[str, int]], answers: set[str]
    ) -> dict[str, tuple[int, ...]]:
        """Offer all payloads and return all answers, channels in parallel.

        Raises
        ------
        AssertionError
            If an answer comes unasked or too early, changes while it waits, or never comes.
        """
        waiting, shown, given = dict(offers), set(), {}
        held: dict[str, tuple[int, ...]] = {}
        for _ in range(self.patience):
            for channel in _OFFERS:
                if channel in waiting and channel not in shown and self._goes():
                    shown.add(channel)
                self._offer(channel, waiting[channel] if channel in shown else None)
            ready = {channel: self._goes() for channel in _ANSWERS}
            for channel, value in ready.items():
                self.context.set(self._port(f"{channel}ready"), int(value))
            sample = await self._tick()
            for channel in _ANSWERS:
                payload = sample[channel]
                if channel in held:
                    assert payload == held[channel], f"{channel} changed while it waited"
                if payload is None:
                    continue
                needs = {"aw", "w"} if channel == "b" else {"ar"}
                assert channel in answers, f"{channel} answers what was not asked"
                assert not needs & waiting.keys(), f"{channel} answers before {needs} was taken"
                held[channel] = payload
                if ready[channel]:
                    given[channel] = held.pop(channel)
                    answers = answers - {channel}
            for channel in list(shown):
                if sample[channel]:
                    shown.discard(channel)
                    del waiting[channel]
            if not waiting and not answers:
                return given
        raise AssertionError(f"no answer in {self.patience} cycles; waiting for {answers}")

    async def _tick(self) -> dict[str, Any]:
        """Pass one clock edge; return who was ready, and answers or None, before it."""
        names = [f"{channel}ready" for channel in _OFFERS]
        for channel, payload in _ANSWERS.items():
            names += [f"{channel}valid", *payload]
        values = await self.context.tick().sample(*(self._port(name) for name in names))
        self.cycles += 1
        seen = dict(zip(names, values[2:], strict=True))
        sample: dict[str, Any] = {channel: seen[f"{channel}ready"] for channel in _OFFERS}
        for channel, payload in _ANSWERS.items():
            valid = seen[f"{channel}valid"]
            sample[channel] = tuple(seen[name] for name in payload) if valid else None
        return sample

    async def write(self, address: int, data: int, strobe: int = 0xF) -> int:
        """Write and return the response."""
        offers = {"aw": {"awaddr": address}, "w": {"wdata": data, "wstrb": strobe}}
        return (await self.transact(offers, {"b"}))["b"][0]

    async def read(self, address: int) -> tuple[int, int]:
        """Read and return data and response."""
        data, response = (await self.transact({"ar": {"araddr": address}}, {"r"}))["r"]
        return data, response

    async def get(self, address: int) -> int:
        """Read what must be readable."""
        data, response = await self.read(address)
        assert response == OKAY, f"reading {address:#x} was refused"
        return data

    async def put(self, address: int, data: int) -> None:
        """Write what must be writable."""
        assert await self.write(address, data) == OKAY, f"writing {address:#x} was refused"
