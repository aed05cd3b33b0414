"""Token embedding: one row of the embedding table into the residual stream."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.program import Program
from hw.parameter_memory import MemoryPlan, ParameterMemory, pack_fields


class Embedding(wiring.Component):
    """Streams ``embedding[token, i] << embedding_shift[token]`` for i in 0..D-1.

    Element i appears in cycle ``start + latency + i``. Latency: 5. Throughput: one element a
    cycle, the next token D cycles later at the earliest.

    Parameters
    ----------
    program : source of table, shifts and widths
    plan : where the tables live

    Members
    -------
    start : in, with ``token``
    token : in, saturated to V - 1
    load_valid, load_index, load_value : out, signed residual integers
    """

    latency = 5

    def __init__(self, *, program: Program, plan: MemoryPlan) -> None:
        shape, scheme = program.shape, program.scheme
        self._program, self._plan = program, plan
        self._bits = scheme.embedding_bits
        super().__init__(
            {
                "start": In(1),
                "token": In(range(shape.vocabulary)),
                "load_valid": Out(1),
                "load_index": Out(range(shape.d_model)),
                "load_value": Out(signed(scheme.residual_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        front, d = self._program.token_embedding, self._program.shape.d_model
        shifts = [int(shift) for shift in front.shift]
        shift_bits = max(1, max(shifts).bit_length())
        m.submodules.table = table = ParameterMemory(
            name="embedding",
            width=self._bits,
            words=[pack_fields([v], self._bits) for v in front.table.ravel().tolist()],
            plan=self._plan,
        )
        m.submodules.shifts = amounts = ParameterMemory(
            name="embedding_shift", width=shift_bits, words=shifts, plan=self._plan
        )
        base = Signal.like(table.address)
        position = Signal(range(d))
        started, busy = Signal(), Signal()
        # token D is a constant multiple; it gets a cycle of its own.
        m.d.sync += [started.eq(self.start), base.eq(self.token * d)]
        m.d.comb += amounts.address.eq(self.token)
        with m.If(started):
            m.d.sync += [busy.eq(1), position.eq(0), table.address.eq(base)]
        with m.Elif(busy):
            m.d.sync += table.address.eq(table.address + 1)
            with m.If(position == d - 1):
                m.d.sync += busy.eq(0)
            with m.Else():
                m.d.sync += position.eq(position + 1)
        # Two cycles of the memory, then the shift's register.
        valid, index = [busy], [position]
        for stage in range(3):
            valid.append(Signal(name=f"valid_{stage}"))
            index.append(Signal.like(position, name=f"index_{stage}"))
            m.d.sync += [valid[-1].eq(valid[-2]), index[-1].eq(index[-2])]
        value = table.data[: self._bits].as_signed()
        m.d.sync += self.load_value.eq(value << amounts.data)
        m.d.comb += [self.load_valid.eq(valid[-1]), self.load_index.eq(index[-1])]
        return m
