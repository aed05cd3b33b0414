"""Registers that hold a token's dt, B and C for the scan."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.configuration import NetworkShape
from hw.pipeline import index_bits

__all__ = ["ScanOperands"]


class ScanOperands(wiring.Component):
    """Hold the rows of x_proj and hand out those of one step.

    ``dt[j] = projected[dt_step M + j]`` for the M multipliers of the step size, zero beyond R;
    ``b[j] = projected[R + b_step S + j]`` and ``c[j] = projected[R + N + c_step S + j]`` for the
    S lanes.

    Latency: ``1`` cycle from a step to its operands. A value whose ``valid`` is high in cycle w
    is seen by a step that is shown in any cycle after w. Throughput: one step a cycle.

    With ``copies`` each of dt, B and C is copied when its use begins, so that the next token's
    rows may arrive during the use; the copies see what was written in earlier cycles.

    Parameters
    ----------
    shape : NetworkShape
        R and N.
    bits : int
        Width of an operand.
    products : int
        Multipliers of the step size, M.
    scan_lanes : int
        Lanes, S.
    copies : bool
        Keep copies.

    Members
    -------
    valid, index, value : In(1), In(index_bits(R + 2 N)), In(signed(bits))
        Write of one row, in the order dt, B, C.
    dt_begin, b_begin, c_begin : In(1)
        Take the copy, one cycle before the first step is shown.
    dt_step, b_step, c_step : In(index_bits(N / S))
        Step whose operands come next.
    dt : Out(ArrayLayout(signed(bits), products))
        Operands of the step size.
    b, c : Out(ArrayLayout(signed(bits), scan_lanes))
        Operands of the lanes.
    """

    latency = 1

    def __init__(
        self, *, shape: NetworkShape, bits: int, products: int, scan_lanes: int, copies: bool
    ) -> None:
        self._shape, self._bits, self._copies = shape, bits, copies
        self._products, self._lanes = products, scan_lanes
        steps = index_bits(shape.d_state // scan_lanes)
        super().__init__(
            {
                "valid": In(1),
                "index": In(index_bits(shape.projected)),
                "value": In(signed(bits)),
                "dt_begin": In(1),
                "b_begin": In(1),
                "c_begin": In(1),
                "dt_step": In(steps),
                "b_step": In(steps),
                "c_step": In(steps),
                "dt": Out(data.ArrayLayout(signed(bits), products)),
                "b": Out(data.ArrayLayout(signed(bits), scan_lanes)),
                "c": Out(data.ArrayLayout(signed(bits), scan_lanes)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        """Build the registers and their multiplexers."""
        m = Module()
        rows = [
            Signal(signed(self._bits), name=f"row_{row}", reset_less=True)
            for row in range(self._shape.projected)
        ]
        for index, row in enumerate(rows):
            with m.If(self.valid & (self.index == index)):
                m.d.sync += row.eq(self.value)
        rank, states = self._shape.dt_rank, self._shape.d_state
        dt, b, c = rows[:rank], rows[rank : rank + states], rows[rank + states :]
        if self._copies:
            dt = _copied(m, dt, self.dt_begin, "dt")
            b = _copied(m, b, self.b_begin, "b")
            c = _copied(m, c, self.c_begin, "c")
        dt += [Signal.like(dt[0], name=f"zero_{pad}") for pad in range(-rank % self._products)]
        m.d.sync += [
            self.dt.eq(_select(dt, self.dt_step, self._products)),
            self.b.eq(_select(b, self.b_step, self._lanes)),
            self.c.eq(_select(c, self.c_step, self._lanes)),
        ]
        return m


def _copied(m: Module, rows: Sequence[Signal], begin: Value, name: str) -> list[Signal]:
    """Return registers that take the rows when ``begin`` is high."""
    copies = [Signal.like(row, name=f"{name}_copy_{index}") for index, row in enumerate(rows)]
    with m.If(begin):
        m.d.sync += [copy.eq(row) for copy, row in zip(copies, rows, strict=True)]
    return copies


def _select(rows: Sequence[Value], step: Value, count: int) -> Value:
    """Return the ``count`` rows of ``step``, the first lowest; the last ones for later steps."""
    words = [Cat(*rows[start : start + count]) for start in range(0, len(rows), count)]
    return Array(words)[step] if len(words) > 1 else words[0]
