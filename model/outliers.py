"""Plants outlier channels in a network."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from model.network_parameters import LayerParameters, NetworkParameters

__all__ = ["plant_outliers", "plant_scan_outliers"]

_STRENGTH = 32.0
_SCAN_STRENGTH = 8.0


def _factor(
    size: int, count: int, strength: float, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return ones (size,) with ``count`` channels of ``strength``."""
    factor = np.ones(size)
    factor[random.choice(size, count, replace=False)] = strength
    return factor


def plant_outliers(
    parameters: NetworkParameters, count: int, seed: int, strength: float = _STRENGTH
) -> NetworkParameters:
    """Return the same function with ``count`` outlier channels in front of every in_proj.

    A channel of the norm's weight is multiplied by ``strength`` and in_proj's column divided by it,
    as trained language models do on their own in a few channels (Dettmers et al. 2022).
    """
    random = np.random.default_rng(seed)

    def planted(own: LayerParameters) -> LayerParameters:
        factor = _factor(parameters.shape.d_model, count, strength, random)
        return dataclasses.replace(
            own, norm_weight=own.norm_weight * factor, in_proj=own.in_proj / factor
        )

    return dataclasses.replace(parameters, layers=tuple(planted(own) for own in parameters.layers))


def plant_scan_outliers(
    parameters: NetworkParameters, count: int, seed: int, strength: float = _SCAN_STRENGTH
) -> NetworkParameters:
    """Return a network with ``count`` outlier channels in the scan and in front of every out_proj.

    The convolution of a channel is multiplied by ``strength``, the columns of x_proj and out_proj
    that read it are divided by it. SiLU in between is not linear, so that the function is another:
    a loss has to be taken against the planted network itself. Only Mamba-1 has x_proj.
    """
    random = np.random.default_rng(seed)

    def planted(own: LayerParameters) -> LayerParameters:
        factor = _factor(parameters.shape.d_inner, count, strength, random)
        return dataclasses.replace(
            own, taps=own.taps * factor[:, None], taps_bias=own.taps_bias * factor,
            x_proj=own.x_proj / factor, out_proj=own.out_proj / factor,
        )  # fmt: skip

    return dataclasses.replace(parameters, layers=tuple(planted(own) for own in parameters.layers))
