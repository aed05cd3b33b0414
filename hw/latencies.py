"""The units' latencies as expressions of shape, scheme and lanes, without building anything.

:class:`hw.engine.Engine` reads the same numbers from its components; a test keeps both equal, so
that a schedule can be computed for shapes far too large to simulate.
"""

from __future__ import annotations

from golden.configuration import NetworkShape
from golden.operations import hadamard
from golden.scheme import Scheme
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
STATE_READ, STATE_WRITE = 3, 1
"""A state memory: from an address to its word, and from a word to its block."""
ARRAY = 9
"""Address, weight memory (3), choice, product (2, of ternary weights 1), sum, shadow."""
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
    tree, heads = _tree(lanes.scan), shape.heads is not None
    # How far dt_proj, step size and decay run ahead of what else the lanes read; heads have theirs
    # before the scan starts.
    front = _tree(-(-shape.dt_rank // steps)) + steps
    lead = 1 if heads else 22 + front
    scan = 19 + lead + steps + tree
    code = REQUANTIZER + 1 if scheme.dual_scale is None else ENCODER
    head_delta = 6 + MEMORY + ACTIVATION if heads else 0
    return Latencies(
        embedding=3 + MEMORY,
        residual_probe=2,
        norm=10 + RECIPROCAL_ROOT,
        norm_duration=3 + RECIPROCAL_ROOT + shape.d_model,
        convolution=6 + _tree(shape.d_conv + 1) + REQUANTIZER,
        activation=ACTIVATION + REQUANTIZER + 1,
        scan_code=ACTIVATION + code,
        scan=scan,
        scan_delta=0 if heads else 17 + front,
        scan_output=16 + lead + steps + tree,
        scan_state=12 + lead,
        dt_offset=1 if heads else 3,
        bc_offset=3 + lead,
        scan_u_offset=lead,
        gate_offset=14 + lead + steps + tree,
        head_delta=head_delta,
        head_decay=head_delta + 9 + REQUANTIZER if heads else 0,
        gated_norm=9 + RECIPROCAL_ROOT if heads else 0,
        rotation=_rotation(shape, scheme),
        gated_product=0 if shape.mlp is None else BUFFER + 1 + REQUANTIZER,
        head_digits=scheme.head_trits if scheme.ternary else 1,
        scan_duration=scan + (shape.d_inner - 1) * steps + 1,
        recurrence=10,
        logits=0,
        token=2,
        row=ARRAY - scheme.ternary + REQUANTIZER + 1,
    )
