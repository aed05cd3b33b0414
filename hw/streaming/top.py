"""The top level of the streaming organisation: the engine behind AXI4-Stream ports."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.program import Program
from hw.contexts import context_bits
from hw.control import ControlRegisters
from hw.lanes import Lanes
from hw.parameter_memory import MemoryPlan
from hw.streaming.engine import StreamingEngine
from hw.streaming.plan import StreamingPlan
from hw.top import whole_bytes

__all__ = ["FEATURES", "OUTPUTS", "StreamingAccelerator"]

FEATURES, OUTPUTS = "s_axis_features", "m_axis_outputs"


class StreamingAccelerator(wiring.Component):
    """A frame network with AXI4-Stream features in and outputs out.

    Latency and throughput are the engine's. Unless it is ``persistent``, the state begins at zero
    with every frame, and there is nothing to control.

    Parameters
    ----------
    program : a frame network
    plan : from :func:`hw.streaming.choice.choose_streaming`, for the program's shape and scheme
    realisation : where parameters live, and what multiplies
    persistent : the state can outlive a frame, be saved and restored
    contexts : C, streams whose frames may follow each other, each with a state of its own; more
        than one only if ``persistent``

    Members
    -------
    s_axis_features_* : in, tdata holds a sign-extended feature, tlast ends a frame
    m_axis_outputs_* : out, V sign-extended outputs a frame, tlast on the last
    *_tid : with several contexts, of every feature and output: the context of its frame, which is
        the tid of the frame's first feature
    unaligned : out, stays high after a frame without tlast at its end, or with two contexts
    s_axil_* : only if ``persistent``: control, status and state; see :mod:`hw.register_map`

    Raises
    ------
    InputError
        From the engine.
    """

    def __init__(
        self,
        *,
        program: Program,
        plan: StreamingPlan,
        realisation: MemoryPlan,
        persistent: bool = False,
        contexts: int = 1,
    ) -> None:
        self._engine = StreamingEngine(
            program=program,
            plan=plan,
            realisation=realisation,
            persistent=persistent,
            contexts=contexts,
        )
        self._contexts = contexts
        self._control: ControlRegisters | None = None
        self._feature_bits = program.scheme.feature_bits
        members: dict[str, In | Out] = {"unaligned": Out(1)}
        for prefix, bits, flow in (
            (FEATURES, self._feature_bits, In),
            (OUTPUTS, program.scheme.logit_bits, Out),
        ):
            back = Out if flow is In else In
            members |= {
                f"{prefix}_tdata": flow(whole_bytes(bits)),
                f"{prefix}_tlast": flow(1),
                f"{prefix}_tvalid": flow(1),
                f"{prefix}_tready": back(1),
            }
            if contexts > 1:
                members[f"{prefix}_tid"] = flow(context_bits(contexts))
        if persistent:
            self._control = ControlRegisters(
                program=program,
                lanes=Lanes(mac=1, scan=plan.lanes.scan, contexts=contexts),
                access_latency=self._engine.access_latency,
            )
            own = self._control.signature.members.items()
            members |= {name: member for name, member in own if name.startswith("s_axil_")}
        super().__init__(members)

    @property
    def plan(self) -> StreamingPlan:
        """Return the engine's plan."""
        return self._engine.plan

    @property
    def address_width(self) -> int:
        """Bits of an AXI4-Lite address, 0 without registers."""
        return 0 if self._control is None else len(self.s_axil_awaddr)

    @property
    def engine(self) -> StreamingEngine:
        """Return the engine, for its probe points."""
        return self._engine

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.engine = engine = self._engine
        features, outputs = engine.features, engine.outputs
        m.d.comb += [
            features.payload.value.eq(getattr(self, f"{FEATURES}_tdata")[: self._feature_bits]),
            features.payload.last.eq(getattr(self, f"{FEATURES}_tlast")),
            features.valid.eq(getattr(self, f"{FEATURES}_tvalid")),
            getattr(self, f"{FEATURES}_tready").eq(features.ready),
            getattr(self, f"{OUTPUTS}_tdata").eq(outputs.payload.value),
            getattr(self, f"{OUTPUTS}_tlast").eq(outputs.payload.last),
            getattr(self, f"{OUTPUTS}_tvalid").eq(outputs.valid),
            outputs.ready.eq(getattr(self, f"{OUTPUTS}_tready")),
            self.unaligned.eq(engine.unaligned),
        ]
        if self._contexts > 1:
            m.d.comb += [
                features.payload.context.eq(getattr(self, f"{FEATURES}_tid")),
                getattr(self, f"{OUTPUTS}_tid").eq(outputs.payload.context),
            ]
        if (control := self._control) is not None:
            m.submodules.control = control
            for name, member in control.signature.members.items():
                if name == "emit_logits" or (name == "selected" and self._contexts == 1):
                    continue  # a frame's outputs are all that it has, one context is selected
                inner = getattr(control, name)
                outer = getattr(self if name.startswith("s_axil_") else engine, name)
                m.d.comb += inner.eq(outer) if member.flow is In else outer.eq(inner)
        return m
