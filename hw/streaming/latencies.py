"""The units' latencies as the streaming plan needs them, without building anything."""

from __future__ import annotations

from golden.configuration import NetworkShape
from golden.scheme import Scheme
from hw.lanes import Lanes
from hw.latencies import (
    ACTIVATION,
    RECIPROCAL_ROOT,
    REQUANTIZER,
    STATE_READ,
    STATE_WRITE,
    latencies,
)
from hw.multiplier import PIPELINED_PRODUCT
from hw.streaming.block_plan import AverageLatencies, StreamingLatencies

__all__ = ["streaming_latencies"]

_RESIDUAL, _POOL = 3, 6
_SQUARES = 3
_SCALING = 2 * (1 + REQUANTIZER)


def streaming_latencies(shape: NetworkShape, scheme: Scheme, scan_lanes: int) -> StreamingLatencies:
    """Return the latencies; :class:`hw.streaming.engine.StreamingEngine` checks its units."""
    pools = shape.frame is not None and shape.frame.hidden is not None
    settled = _POOL if pools else _RESIDUAL
    shared = latencies(shape, scheme, Lanes(mac=1, scan=scan_lanes))
    return StreamingLatencies(
        convolution=shared.convolution,
        activation=shared.activation,
        scan_code=shared.scan_code,
        scan=shared.scan,
        scan_delta=shared.scan_delta,
        scan_output=shared.scan_output,
        scan_state=shared.scan_state,
        dt_offset=shared.dt_offset,
        b_offset=shared.bc_offset,
        c_offset=shared.scan_state - 1,
        scan_u_offset=shared.scan_u_offset,
        gate_offset=shared.gate_offset,
        residual=_RESIDUAL,
        pool=_POOL,
        norm=settled + _SQUARES + RECIPROCAL_ROOT + _SCALING,
        rotation=shared.rotation,
        hidden_activation=ACTIVATION + REQUANTIZER,
        average=None if shape.average is None else _average(shape),
    )


def _average(shape: NetworkShape) -> AverageLatencies:
    """Return the cycles through :class:`hw.average_unit.AverageUnit`."""
    decay = ACTIVATION + REQUANTIZER
    state = decay + PIPELINED_PRODUCT + 1 + REQUANTIZER
    return AverageLatencies(
        decay=decay,
        state=state,
        gated=state + shape.gated + REQUANTIZER,
        u_offset=decay - 3,
        gate_offset=state - 2,
        recurrence=state + STATE_WRITE + 1 - (decay - 1 - STATE_READ),
    )
