"""The ports over which state memories are saved and restored, from their units to the top level."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["access_ports", "connect_access"]


def access_ports(units: Mapping[str, wiring.Component]) -> dict[str, In | Out]:
    """Return members that mirror the access ports of units with a state, by the units' names."""
    members: dict[str, In | Out] = {}
    for name, unit in units.items():
        members |= {
            f"{name}_access_address": In(len(unit.access_address)),
            f"{name}_access_write": In(1),
            f"{name}_access_write_data": In(len(unit.access_write_data)),
            f"{name}_access_read_data": Out(len(unit.access_read_data)),
        }
    return members


def connect_access(
    m: Module,
    owner: wiring.Component,
    units: Mapping[str, wiring.Component],
    selected: Value | None = None,
) -> None:
    """Connect the units to the members of ``owner`` that :func:`access_ports` made.

    ``selected`` is the context whose words are meant, None without contexts.
    """
    for name, unit in units.items():
        m.d.comb += [
            unit.access_address.eq(getattr(owner, f"{name}_access_address")),
            unit.access_write.eq(getattr(owner, f"{name}_access_write")),
            unit.access_write_data.eq(getattr(owner, f"{name}_access_write_data")),
            getattr(owner, f"{name}_access_read_data").eq(unit.access_read_data),
        ]
    if selected is not None:
        m.d.comb += [unit.access_context.eq(selected) for unit in units.values()]
