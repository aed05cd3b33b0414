"""The probe points of a language model's engine: every named value of the golden model."""

from __future__ import annotations

from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from hw.lanes import Lanes

__all__ = ["probe_widths"]


def probe_widths(program: Program, lanes: Lanes) -> dict[str, tuple[int, bool]]:
    """Return width and signedness of every probe point, in the order of the network."""
    scheme, bits = program.scheme, program.scheme.activation_bits
    inputs = scheme.projection_input_bits
    rotated = {} if scheme.rotation_bits is None else {"rotated": (inputs, True)}
    mlp = {} if program.mlps is None else {
        "mlp_gate": (scheme.gate_bits, True),
        "up": (scheme.scan_output_bits, True),
        "mlp_gated": (inputs, True),
    }  # fmt: skip
    selected, normed = {"projected": (bits, True)}, {}
    if program.shape.heads is not None:
        selected = {
            "dt": (ACTIVATION_INPUT_BITS, True),
            "decay": (scheme.decay_bits + 1, False),
        }
        normed = {"normed": (scheme.gated_bits, True)}
    return {
        "residual": (scheme.residual_bits, True),
        "norm": (max(inputs, bits), True),
        "x": (bits, True),
        "convolution": (ACTIVATION_INPUT_BITS, True),
        "u": (program.u_bits, True),
        "scan_u": (scheme.scan_storage_bits, scheme.dual_scale is None),
        **selected,
        "gate": (scheme.gate_bits, True),
        "delta": (scheme.delta_bits, False),
        "state": (lanes.scan * scheme.state_bits, False),
        "scan_output": (scheme.scan_output_bits, True),
        "gated": (program.gated_bits, True),
        **normed,
        **rotated,
        **mlp,
        "logits": (scheme.logit_bits, True),
        "token": ((program.shape.vocabulary - 1).bit_length(), False),
    }
