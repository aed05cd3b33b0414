"""How parallel the engine is, and the limits that a shape sets."""

from __future__ import annotations

from dataclasses import dataclass

from golden.configuration import NetworkShape
from golden.errors import InputError
from hw.contexts import check_contexts


def divisors(number: int) -> list[int]:
    """Return the divisors of a positive integer in rising order."""
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Lane counts of an engine, and of how many streams it keeps the state.

    Parameters
    ----------
    mac : P, lanes of the multiply-accumulate array; divides d_model and d_inner
    scan : S, lanes of the scan engine; divides d_state
    contexts : C, independent streams; a power of two
    """

    mac: int
    scan: int
    contexts: int = 1

    def check(self, shape: NetworkShape) -> Lanes:
        """Return the lanes if ``shape`` can be built with them, else raise InputError."""
        check_contexts(self.contexts)
        for name, size in (("d_model", shape.d_model), ("d_inner", shape.d_inner)):
            if self.mac < 1 or size % self.mac:
                common = [p for p in divisors(shape.d_model) if shape.d_inner % p == 0]
                raise InputError(
                    f"mac lanes = {self.mac} does not divide {name} = {size}; "
                    f"choose one of {', '.join(map(str, common))}"
                )
        if self.scan < 1 or shape.d_state % self.scan:
            raise InputError(
                f"scan lanes = {self.scan} does not divide d_state = {shape.d_state}; "
                f"choose one of {', '.join(map(str, divisors(shape.d_state)))}"
            )
        return self


def default_lanes(shape: NetworkShape) -> Lanes:
    """Return lanes that keep array and scan about equally busy, for at most 32 MAC lanes.

    The scan runs under the z rows of in_proj and under out_proj: E N / S cycles against
    (E + E) D / P of the array.
    """
    mac = max(p for p in divisors(shape.d_model) if shape.d_inner % p == 0 and p <= 32)
    needed = shape.d_state * mac / (2 * shape.d_model)
    scan = min((s for s in divisors(shape.d_state) if s >= needed), default=shape.d_state)
    # One step wider: the read-out must finish early enough for out_proj to start on time.
    wider = [s for s in divisors(shape.d_state) if s > scan]
    return Lanes(mac=mac, scan=wider[0] if wider else scan)


def chosen_lanes(
    shape: NetworkShape, mac: int | None, scan: int | None, contexts: int = 1
) -> Lanes:
    """Return the lanes that a user asked for, the usual ones where not, checked."""
    usual = default_lanes(shape)
    return Lanes(
        mac=usual.mac if mac is None else mac,
        scan=usual.scan if scan is None else scan,
        contexts=contexts,
    ).check(shape)
