"""The probe points of a streaming engine: their widths, and the values that they show."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Module
from amaranth.lib import wiring

from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from hw.streaming.matrix_stage import MatrixStage
from hw.streaming.plan import StreamingLanes

__all__ = ["connect_probes", "streaming_probe_widths"]


def streaming_probe_widths(program: Program, lanes: StreamingLanes) -> dict[str, tuple[int, bool]]:
    """Return width and signedness of every probe point, in the order of the network."""
    scheme, shape, frame = program.scheme, program.shape, program.shape.frame
    assert frame is not None
    bits, argument = scheme.activation_bits, (ACTIVATION_INPUT_BITS, True)
    rows = {} if frame.patch is None else {"rows": (scheme.feature_bits, True)}
    convolved = {"x": (bits, True), "convolution": argument} if shape.convolved else {"x": argument}
    gate = {"gate": (scheme.gate_bits, True)} if shape.gated else {}
    if shape.average is None:
        mixer = {
            "projected": (bits, True),
            **gate,
            "delta": (scheme.delta_bits, False),
            "state": (lanes.scan * scheme.state_bits, False),
            "scan_output": (scheme.scan_output_bits, True),
        }
    else:
        mixer = {
            "projected": argument,
            **gate,
            "decay": (scheme.decay_bits + 1, False),
            "state": (scheme.average_bits, True),
        }
    inputs = scheme.projection_input_bits
    rotated = {} if scheme.rotation_bits is None else {"rotated": (inputs, True)}
    pooled = {} if frame.hidden is None else {"pooled": (scheme.residual_bits, True)}
    hidden = {} if frame.hidden is None else {"hidden": (bits, True)}
    return {
        **rows,
        "residual": (scheme.residual_bits, True),
        "norm": (inputs, True),
        **convolved,
        "u": (program.u_bits, True),
        "scan_u": (scheme.scan_storage_bits, scheme.dual_scale is None),
        **mixer,
        "gated": (scheme.gated_bits, True),
        **rotated,
        **pooled,
        "final_norm": (bits, True),
        **hidden,
        "logits": (scheme.logit_bits, True),
    }


def connect_probes(
    m: Module,
    engine: wiring.Component,
    widths: Mapping[str, tuple[int, bool]],
    stages: Mapping[str, MatrixStage],
    units: Mapping[str, wiring.Component],
) -> None:
    """Show every named value of the golden model at the ports of ``engine``.

    Parameters
    ----------
    widths : from :func:`streaming_probe_widths`; its names are the points
    stages, units : of the engine by name
    """
    points: dict[str, tuple[str, str]] = {
        "rows": ("input", "o"),
        "convolution": ("convolution", "mixed"),
        "gate": ("gate", "gate"),
        "rotated": ("rotation", "rotated"),
        **{name: ("norm", name) for name in ("residual", "norm", "pooled")},
        **{name: ("activation", name) for name in ("u", "scan_u")},
        **{name: ("scan", name) for name in ("delta", "decay", "state", "scan_output", "gated")},
        **{name: ("head", name) for name in ("hidden", "logits")},
    }
    for name in widths:
        if name == "final_norm":
            valid, value = units["norm"].final_valid, units["norm"].norm_value
        else:
            unit, prefix = points.get(name, (name, "o"))
            source = units[unit] if name in points else stages[unit]
            valid, value = getattr(source, f"{prefix}_valid"), getattr(source, f"{prefix}_value")
        m.d.comb += [
            getattr(engine, f"probe_{name}_valid").eq(valid),
            getattr(engine, f"probe_{name}_value").eq(value),
        ]
