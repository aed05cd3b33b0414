"""The units' latencies as expressions of shape, scheme and lanes, without building anything.

:class:`hw.engine.Engine` reads the same numbers from its components; a test keeps both equal, so
that a schedule can be computed for shapes far too large to simulate.
"""

from __future__ import annotations

from golden.configuration import NetworkShape, Scheme
from golden.operations import hadamard
from hw.lanes import Lanes
from hw.schedule import Latencies

MEMORY = 2
"""A parameter memory: its block and an output register."""
BUFFER = 2
REQUANTIZER = 2
ACTIVATION = 5 + MEMORY
"""SiLU or softplus: magnitude, table, product (2), correction, sum."""
ENCODER = 1 + REQUANTIZER
RECIPROCAL_ROOT = 9
ROTATION_LAYER = 1 + MEMORY + REQUANTIZER
"""From the first use of a rotation's layer to its row 0."""


def _tree(terms: int) -> int:
    """Return the levels of a registered adder tree."""
    return (terms - 1).bit_length()


def _rotation(shape: NetworkShape, scheme: Scheme) -> int:
    """Return the cycles from the last gated value to the first rotated one, 0 without rotation."""
    if scheme.rotation_bits is None:
        return 0
    block, doublings = hadamard.factors(shape.d_inner)
    return (3 if block > 1 else 0) + 2 * doublings + MEMORY + REQUANTIZER


def latencies(shape: NetworkShape, scheme: Scheme, lanes: Lanes) -> Latencies:
    """Return the latencies of an engine of this shape, scheme and parallelism.

    Raises
    ------
    InputError
        If the lanes do not fit the shape, or the scheme rotates a size that it cannot.
    """
    lanes.check(shape)
    steps = shape.d_state // lanes.scan
    front = _tree(-(-shape.dt_rank // steps)) + steps
    read_out = front + steps + _tree(lanes.scan)
    scan = 41 + read_out
    code = REQUANTIZER + 1 if scheme.dual_scale is None else ENCODER
    return Latencies(
        embedding=3 + MEMORY,
        residual_probe=2,
        norm=10 + RECIPROCAL_ROOT,
        norm_duration=3 + RECIPROCAL_ROOT + shape.d_model,
        convolution=5 + _tree(shape.d_conv + 1) + REQUANTIZER,
        activation=ACTIVATION + REQUANTIZER + 1,
        scan_code=ACTIVATION + code,
        scan=scan,
        scan_delta=17 + front,
        scan_output=38 + read_out,
        scan_state=34 + front,
        dt_offset=3,
        bc_offset=26 + front,
        scan_u_offset=23 + front,
        gate_offset=36 + read_out,
        rotation=_rotation(shape, scheme),
        gated_product=0 if shape.mlp is None else BUFFER + 1 + REQUANTIZER,
        scan_duration=scan + (shape.d_inner - 1) * steps + 1,
        recurrence=8,
        logits=0,
        token=1,
        row=5 + MEMORY + REQUANTIZER,
    )
