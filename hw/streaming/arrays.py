"""The arrays of a streaming engine."""

from __future__ import annotations

from functools import partial

from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from hw.parameter_memory import MemoryPlan
from hw.streaming.matrix_stage import MatrixStage, VectorOrder
from hw.streaming.plan import WINDOWS, StreamingPlan

__all__ = ["build_arrays", "enters_whole", "input_slots"]

_INPUT_SLOTS = 3
"""Tokens of input: one read, one waiting, one being written."""


def input_slots(program: Program) -> int:
    """Return the tokens of input that are kept: two frames where these enter as a whole."""
    frame = program.shape.frame
    assert frame is not None  # the streaming plan refuses others
    return 2 * frame.tokens + 1 if enters_whole(program) else _INPUT_SLOTS


def enters_whole(program: Program) -> bool:
    """Return whether a frame's tokens must enter without gaps: a convolution looks ahead."""
    return program.shape.average is not None and program.shape.convolved


def build_arrays(
    program: Program, plan: StreamingPlan, realisation: MemoryPlan
) -> dict[str, MatrixStage]:
    """Return the arrays of embedding and blocks by name; their weights hold all layers."""
    scheme, shape, e = program.scheme, program.shape, program.shape.d_inner
    layers, shifts, slots = program.layers, program.shifts, plan.slots
    array = partial(
        MatrixStage,
        plan=realisation,
        weight_bits=scheme.weight_bits,
        input_bits=scheme.projection_input_bits,
    )
    arrays = {
        "front": _front(program, plan, realisation),
        "x": array(
            name="x",
            weights=[layer.in_proj.weight[:e] for layer in layers],
            shifts=[own.x for own in shifts],
            output_bits=scheme.activation_bits if shape.convolved else ACTIVATION_INPUT_BITS,
            lanes=plan.lanes.x,
            order=slots["x"],
        ),
        "projected": _projected(program, array, plan),
        "out": array(
            name="out",
            weights=[layer.out_proj.weight for layer in layers],
            shifts=[own.out for own in shifts],
            output_bits=scheme.residual_bits,
            lanes=plan.lanes.out,
            order=slots["gated"],
        ),
    }
    if shape.gated:
        arrays["z"] = array(
            name="z",
            weights=[layer.in_proj.weight[e:] for layer in layers],
            shifts=[own.z for own in shifts if own.z is not None],
            output_bits=ACTIVATION_INPUT_BITS,
            lanes=plan.lanes.z,
            order=slots["z"],
        )
    return arrays


def _front(program: Program, plan: StreamingPlan, realisation: MemoryPlan) -> MatrixStage:
    """Return the array of the embedding: of a row of features, or of a patch of projected rows."""
    scheme, front, frame = program.scheme, program.feature_embedding, program.shape.frame
    assert frame is not None
    patches = frame.patch is not None
    return MatrixStage(
        name="front",
        weights=[front.projection.weight],
        shifts=[program.feature_shift] * len(front.bias),
        biases=list(front.bias),
        weight_bits=scheme.embedding_bits,
        input_bits=scheme.feature_bits,
        output_bits=scheme.residual_bits,
        lanes=plan.lanes.front,
        order=VectorOrder.patches(frame, WINDOWS) if patches else input_slots(program),
        plan=realisation,
    )


def _projected(program: Program, array: partial[MatrixStage], plan: StreamingPlan) -> MatrixStage:
    """Return the array that reads u: of dt, B and C, or of the sigmoid's argument."""
    own = partial(
        array, name="projected", lanes=plan.lanes.projected, order=plan.slots["u"],
        shifts=[shifts.projected for shifts in program.shifts],
    )  # fmt: skip
    if program.shape.average is None:
        return own(
            weights=[layer.x_proj.weight for layer in program.scan_layers],
            output_bits=program.scheme.activation_bits,
        )
    matrices = [layer.dt_proj for layer in program.average_layers]
    return own(
        weights=[matrix.weight for matrix in matrices],
        biases=[matrix.bias for matrix in matrices if matrix.bias is not None],
        output_bits=ACTIVATION_INPUT_BITS,
    )
