"""The top level of the streaming organisation: the engine behind AXI4-Stream ports."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.program import Program
from hw.parameter_memory import MemoryPlan
from hw.streaming.engine import StreamingEngine
from hw.streaming.plan import StreamingPlan
from hw.top import whole_bytes

__all__ = ["FEATURES", "OUTPUTS", "StreamingAccelerator"]

FEATURES, OUTPUTS = "s_axis_features", "m_axis_outputs"


class StreamingAccelerator(wiring.Component):
    """A frame network with AXI4-Stream features in and outputs out.

    Latency and throughput are the engine's. The state begins at zero with every frame, so there
    is nothing to control.

    Parameters
    ----------
    program : a frame network
    plan : from :func:`hw.streaming.choice.choose_streaming`, for the program's shape and scheme
    realisation : where parameters live, and what multiplies

    Members
    -------
    s_axis_features_* : in, tdata holds a sign-extended feature, tlast ends a frame
    m_axis_outputs_* : out, V sign-extended outputs a frame, tlast on the last
    unaligned : out, stays high after a frame without tlast at its end

    Raises
    ------
    InputError
        From the engine.
    """

    def __init__(self, *, program: Program, plan: StreamingPlan, realisation: MemoryPlan) -> None:
        self._engine = StreamingEngine(program=program, plan=plan, realisation=realisation)
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
        super().__init__(members)

    @property
    def plan(self) -> StreamingPlan:
        """Return the engine's plan."""
        return self._engine.plan

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
        return m
