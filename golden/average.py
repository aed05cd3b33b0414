"""A block whose mixer is a moving average: its integers and the shifts between them."""

from __future__ import annotations

from dataclasses import dataclass

from golden.configuration import NetworkShape
from golden.fixed_point import Integers
from golden.layer import Block, BlockShifts, Linear, checked_shifts, common_shifts
from golden.piecewise import ACTIVATION_INPUT_FRACTION
from golden.scheme import Scheme


@dataclass(frozen=True, kw_only=True)
class AverageLayer(Block):
    """One block with a moving average in integers; see :mod:`golden.operations.moving_average`.

    Without a convolution x is SiLU's input, so that ``formats.x`` is 12; without a gate
    ``formats.gate`` is 0.

    Parameters
    ----------
    convolution : centred depthwise taps, oldest first, with bias, (e, K); None if there is none
    dt_proj : argument of the sigmoid, with bias, (e, e)
    """

    convolution: Linear | None
    dt_proj: Linear


@dataclass(frozen=True, kw_only=True)
class AverageShifts(BlockShifts):
    """Bits that each requantizer of a block with a moving average drops.

    Vectors: convolution, or None, and projected (e,), in front of the sigmoid.
    """

    convolution: Integers | None

    @classmethod
    def of(
        cls,
        layer: AverageLayer,
        shape: NetworkShape,
        scheme: Scheme,
        residual_fraction: int,
        index: int,
    ) -> AverageShifts:
        """Derive the shifts of ``layer``, number ``index`` of a network, from its formats.

        Raises
        ------
        InputError
            If the hardware cannot apply a shift; the message names layer and tensor.
        """
        formats, activation_input = layer.formats, ACTIVATION_INPUT_FRACTION
        convolution = None
        if layer.convolution is not None:
            convolution = layer.convolution.fraction_bits + formats.x - activation_input
        averaged = formats.scan_u + scheme.lift
        values = common_shifts(layer, shape, residual_fraction) | {
            "convolution": convolution,
            "projected": layer.dt_proj.fraction_bits + formats.u - activation_input,
            "gated": averaged + formats.gate - formats.before_rotation,
        }
        return cls(**checked_shifts(values, layer, index))
