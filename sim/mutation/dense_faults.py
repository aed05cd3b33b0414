"""Faults of the decoder of five ternary weights a byte (:mod:`hw.dense_trits`)."""

from __future__ import annotations

from sim.mutation.schemata import Fault


def _blind(field: int, places: int) -> Fault:
    """Return a decoder that never takes ``field`` of a byte for an escape."""
    bits = rf"\[{2 * field + 1}:{2 * field}\]"
    return Fault(
        name=f"escape of field {field} not seen",
        unit="engine_projection",
        kind=f"codes with an escape in field {field} of a byte are read as other ones",
        pattern=rf"= (?P<site>data{bits} == 2'h2);",
        faulty="1'h0",
        places=places,
    )


DENSE_FAULTS = tuple(_blind(field, places) for field, places in enumerate((40, 104, 120, 96)))
