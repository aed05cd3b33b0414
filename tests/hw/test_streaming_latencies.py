"""The closed form of the streaming units' latencies against the units themselves."""

from hypothesis import given, settings
from hypothesis import strategies as st

from golden.configuration import AverageShape, FrameShape, NetworkShape
from golden.random_program import random_program
from golden.scheme import SCHEMES
from hw.activation_stage import ActivationStage
from hw.average_unit import AverageUnit
from hw.convolution import CausalConvolution
from hw.lanes import divisors
from hw.parameter_memory import MemoryPlan
from hw.scan_engine import ScanEngine
from hw.streaming.block_plan import AverageLatencies
from hw.streaming.centred_convolution import CentredConvolution
from hw.streaming.frame_head import FrameHead
from hw.streaming.latencies import streaming_latencies
from hw.streaming.residual_norm import StreamingNorm


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_closed_form_equals_the_units(data):
    shape = NetworkShape(
        vocabulary=3,
        d_model=data.draw(st.integers(2, 9)),
        d_inner=data.draw(st.integers(2, 9)),
        d_state=data.draw(st.sampled_from([1, 2, 3, 4, 8])),
        d_conv=data.draw(st.integers(2, 5)),
        dt_rank=data.draw(st.integers(1, 5)),
        n_layer=data.draw(st.integers(1, 3)),
        frame=FrameShape(features=3, tokens=data.draw(st.sampled_from([1, 2, 8])), hidden=4),
    )
    scheme = SCHEMES[data.draw(st.sampled_from(["w8a8", "w4a8", "w4a5-se"]))]
    lanes = data.draw(st.sampled_from(divisors(shape.d_state)))
    program = random_program(shape, scheme, seed=1)
    late = streaming_latencies(shape, scheme, lanes)
    activation = ActivationStage(program=program, plan=MemoryPlan())
    scan = ScanEngine(program=program, scan_lanes=lanes, plan=MemoryPlan(), slots=2)
    norm = StreamingNorm(program=program, slots=2, plan=MemoryPlan())
    head = FrameHead(
        program=program,
        hidden_lanes=1,
        head_lanes=1,
        hidden_slots=1,
        head_slots=1,
        frames=1,
        plan=MemoryPlan(),
    )
    assert late.convolution == CausalConvolution(program=program, plan=MemoryPlan()).latency
    assert (late.activation, late.scan_code) == (activation.latency, activation.code_latency)
    assert late.scan == scan.latency
    assert (late.scan_delta, late.scan_output) == (scan.delta_latency, scan.scan_output_latency)
    assert late.scan_state == scan.state_latency
    assert late.dt_offset == scan.projected_offset_dt
    assert (late.b_offset, late.c_offset) == (scan.projected_offset_bc, scan.projected_offset_c)
    assert (late.scan_u_offset, late.gate_offset) == (scan.scan_u_offset, scan.gate_offset)
    assert (late.residual, late.pool) == (norm.residual_latency, norm.pool_latency)
    assert late.norm == norm.latency
    assert late.hidden_activation == head.activation_latency


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_closed_form_equals_the_units_of_a_moving_average(data):
    inner = data.draw(st.integers(2, 9))
    shape = NetworkShape(
        vocabulary=3,
        d_model=data.draw(st.integers(2, 9)),
        d_inner=inner,
        d_state=1,
        d_conv=data.draw(st.sampled_from([3, 5, 7])),
        dt_rank=inner,
        n_layer=data.draw(st.integers(1, 3)),
        frame=FrameShape(features=3, tokens=3),
        average=AverageShape(gated=data.draw(st.booleans())),
    )
    scheme = SCHEMES[data.draw(st.sampled_from(["w8a8", "w4a8", "w4a5-se"]))]
    program = random_program(shape, scheme, seed=1)
    late = streaming_latencies(shape, scheme, 1)
    average = AverageUnit(program=program, plan=MemoryPlan(), slots=2)
    norm = StreamingNorm(program=program, slots=2, plan=MemoryPlan())
    assert late.average == AverageLatencies(
        decay=average.decay_latency,
        state=average.state_latency,
        gated=average.latency,
        u_offset=average.u_offset,
        gate_offset=average.gate_offset,
        recurrence=average.hazard_depth,
    )
    assert late.convolution == CentredConvolution(program=program, plan=MemoryPlan()).latency
    assert late.norm == norm.latency
