"""Plants outlier channels in a network without changing its function."""

from __future__ import annotations

import dataclasses

import numpy as np

from model.network_parameters import LayerParameters, NetworkParameters

__all__ = ["plant_outliers"]

_STRENGTH = 32.0


def plant_outliers(
    parameters: NetworkParameters, count: int, seed: int, strength: float = _STRENGTH
) -> NetworkParameters:
    """Return the same function with ``count`` outlier channels in front of every in_proj.

    A channel of the norm's weight is multiplied by ``strength`` and in_proj's column divided by it,
    as trained language models do on their own in a few channels (Dettmers et al. 2022).
    """
    random = np.random.default_rng(seed)

    def planted(own: LayerParameters) -> LayerParameters:
        factor = np.ones(parameters.shape.d_model)
        factor[random.choice(len(factor), count, replace=False)] = strength
        return dataclasses.replace(
            own, norm_weight=own.norm_weight * factor, in_proj=own.in_proj / factor
        )

    return dataclasses.replace(parameters, layers=tuple(planted(own) for own in parameters.layers))
