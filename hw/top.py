"""The top level: the engine behind AXI4-Stream and AXI4-Lite ports."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.program import Program
from hw.contexts import context_bits
from hw.control import ControlRegisters
from hw.engine import Engine
from hw.lanes import Lanes
from hw.parameter_memory import MemoryPlan
from hw.schedule import Schedule

TOKENS, RESULTS, LOGITS = "s_axis_tokens", "m_axis_results", "m_axis_logits"


def whole_bytes(bits: int) -> int:
    """Return the width of AXI4-Stream data that carries ``bits``: a multiple of eight."""
    return -(-bits // 8) * 8


class Accelerator(wiring.Component):
    """A language model with AXI4-Stream tokens in, arg-max and logits out, AXI4-Lite control.

    Latency and throughput are the engine's, plus one cycle a stream buffer.

    Parameters
    ----------
    program : the network
    lanes : parallelism and contexts
    plan : where parameter memories live

    Members
    -------
    s_axis_tokens_* : in, tdata holds the token in whole bytes, tlast ends a sequence
    m_axis_results_* : out, the arg-max of each token with its tlast
    m_axis_logits_* : out, V sign-extended logits a token, tlast on the last
    *_tid : with several contexts, of every token, result and logit: its context
    s_axil_* : control, status and state; see :mod:`hw.register_map`

    Raises
    ------
    InputError
        From the engine.
    """

    def __init__(self, *, program: Program, lanes: Lanes, plan: MemoryPlan) -> None:
        self._engine = Engine(program=program, lanes=lanes, plan=plan)
        self._control = ControlRegisters(
            program=program,
            lanes=lanes,
            access_latency=self._engine.access_latency,
            # A host that only wants the arg-max may leave the logit stream unconnected.
            emit_logits=False,
        )
        self._contexts = lanes.contexts
        self._token_bits = len(self._engine.tokens.payload.token)
        self._logit_bits = program.scheme.logit_bits
        members: dict[str, In | Out] = {}
        for prefix, bits, flow in (
            (TOKENS, self._token_bits, In),
            (RESULTS, self._token_bits, Out),
            (LOGITS, self._logit_bits, Out),
        ):
            back = Out if flow is In else In
            members |= {
                f"{prefix}_tdata": flow(whole_bytes(bits)),
                f"{prefix}_tlast": flow(1),
                f"{prefix}_tvalid": flow(1),
                f"{prefix}_tready": back(1),
            }
            if lanes.contexts > 1:
                members[f"{prefix}_tid"] = flow(context_bits(lanes.contexts))
        for name, member in self._control.signature.members.items():
            if name.startswith("s_axil_"):
                members[name] = member
        super().__init__(members)

    @property
    def schedule(self) -> Schedule:
        """Return the engine's schedule."""
        return self._engine.schedule

    @property
    def engine(self) -> Engine:
        """Return the engine, for its probe points."""
        return self._engine

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.engine = engine = self._engine
        m.submodules.control = control = self._control
        for name, member in control.signature.members.items():
            inner = getattr(control, name)
            outer = getattr(self if name.startswith("s_axil_") else engine, name)
            m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        self._connect_streams(m, engine)
        return m

    def _connect_streams(self, m: Module, engine: Engine) -> None:
        """Map the engine's streams to AXI4-Stream; a token is zero-extended, a logit signed."""
        tokens, results, logits = engine.tokens, engine.results, engine.logits
        oversized = getattr(self, f"{TOKENS}_tdata")[self._token_bits :].any()
        token = getattr(self, f"{TOKENS}_tdata")[: self._token_bits]
        m.d.comb += [
            # Data above the vocabulary's bits reads as the largest token, not as another one.
            tokens.payload.token.eq(token | oversized.replicate(self._token_bits)),
            tokens.payload.last.eq(getattr(self, f"{TOKENS}_tlast")),
            tokens.valid.eq(getattr(self, f"{TOKENS}_tvalid")),
            getattr(self, f"{TOKENS}_tready").eq(tokens.ready),
            getattr(self, f"{RESULTS}_tdata").eq(results.payload.token),
            getattr(self, f"{LOGITS}_tdata").eq(logits.payload.value),
        ]
        for prefix, stream in ((RESULTS, results), (LOGITS, logits)):
            m.d.comb += [
                getattr(self, f"{prefix}_tlast").eq(stream.payload.last),
                getattr(self, f"{prefix}_tvalid").eq(stream.valid),
                stream.ready.eq(getattr(self, f"{prefix}_tready")),
            ]
        if self._contexts > 1:
            m.d.comb += [
                tokens.payload.context.eq(getattr(self, f"{TOKENS}_tid")),
                getattr(self, f"{RESULTS}_tid").eq(results.payload.context),
                getattr(self, f"{LOGITS}_tid").eq(logits.payload.context),
            ]
