"""Rotations: the same function in a basis without outlier channels (Q10).

The residual stream's rotation costs nothing, as it is multiplied into the weights.
RMSNorm without a weight commutes with every orthogonal matrix R, ``norm(r R) = norm(r) R``. With
the norm's weight folded into the matrix behind it, R is free: what writes the stream (embedding,
out_proj) is multiplied by R, what reads it (in_proj, head) by R again, and the products are those
of before, as ``R R^T = I`` (QuaRot, Ashkboos et al. 2024). Every channel of the new stream is a
mixture of all old ones, so their ranges agree and so do the columns' second moments.

out_proj's input cannot be rotated that way, as a product with a gate comes before it. The machine
transforms it with a Hadamard matrix H of order e, and out_proj holds ``W H^T / e``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.operations import hadamard
from model.network_parameters import LayerParameters, MLPParameters, NetworkParameters

__all__ = ["hadamard_columns", "random_rotation", "rotate_residual"]

Array = npt.NDArray[Any]


def random_rotation(size: int, seed: int) -> Array:
    """Return an orthogonal matrix (size, size), uniformly drawn: QR of normal numbers."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    # The signs make the factorization unique and with it the distribution uniform.
    return np.asarray(q * np.sign(np.diag(r)))


def hadamard_columns(size: int) -> Array:
    """Return ``H^T`` (size, size) of golden's transform: rows of values times it are transformed.

    ``weight @ hadamard_columns(size) / size`` undoes that for a matrix's rows.

    Raises
    ------
    InputError
        If there is no transform of that size.
    """
    return hadamard.transform(np.eye(size, dtype=np.int64)).astype(np.float64)


def rotate_residual(parameters: NetworkParameters, rotation: Array) -> NetworkParameters:
    """Return the network with ``rotation`` (d, d) of its residual stream; the same function."""

    def layer(own: LayerParameters) -> LayerParameters:
        return dataclasses.replace(
            own,
            norm_weight=np.ones_like(own.norm_weight),
            in_proj=(own.in_proj * own.norm_weight) @ rotation,
            out_proj=rotation.T @ own.out_proj,
        )

    def mlp(own: MLPParameters) -> MLPParameters:
        return MLPParameters(
            norm_weight=np.ones_like(own.norm_weight),
            gate=(own.gate * own.norm_weight) @ rotation,
            up=(own.up * own.norm_weight) @ rotation,
            down=rotation.T @ own.down,
        )

    return dataclasses.replace(
        parameters,
        mlps=None if parameters.mlps is None else tuple(mlp(own) for own in parameters.mlps),
        embedding=parameters.embedding @ rotation,
        layers=tuple(layer(own) for own in parameters.layers),
        final_norm_weight=np.ones_like(parameters.final_norm_weight),
        head=(parameters.head * parameters.final_norm_weight) @ rotation,
    )
