"""The matrices that the shared array multiplies with: which, in what order, and as what words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from golden.fixed_point import Integers
from golden.layer import Linear
from golden.program import Program
from hw.dense_trits import pack_dense
from hw.parameter_memory import pack_fields

__all__ = ["BODY", "HEAD", "Product", "lane_words", "matrices"]

BODY, HEAD = 0, 1
"""Weight memories."""


@dataclass(frozen=True)
class Product:
    """One matrix of the network as the array stores it.

    Parameters
    ----------
    linear : weights, (rows, columns), and the scales of their groups
    shift : bits that the requantizer drops a row
    bank : weight memory, BODY or HEAD
    base, row_base, scale_base : first word in the weight memory, first entry in the row memory,
        first word of the groups' scales
    """

    linear: Linear
    shift: Integers
    bank: int
    base: int
    row_base: int
    scale_base: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.linear.weight.shape
        return rows, columns


def matrices(program: Program) -> list[tuple[str, int, Linear, Integers]]:
    """Return (name, layer, weights, shift) in the order of execution."""
    shape = program.shape
    x_end, z_start = shape.convolution_channels, shape.gate_row
    found = []
    for index, (layer, shifts) in enumerate(
        zip(program.scan_layers, program.scan_shifts, strict=True)
    ):
        in_proj: Linear = layer.in_proj
        selecting = ("in_dt", index, in_proj.rows(x_end, z_start), shifts.dt)
        if shape.heads is None:
            selecting = ("x_proj", index, layer.x_proj, shifts.projected)
        found += [
            ("in_x", index, in_proj.rows(0, x_end), shifts.x),
            selecting,
            ("in_z", index, in_proj.rows(z_start), shifts.z),
            ("out", index, layer.out_proj, shifts.out),
        ]
        if program.mlps is None:
            continue
        mlp, own = program.mlps[index], program.mlp_shifts[index]
        found += [
            ("mlp_z", index, mlp.gate, own.z),
            ("mlp_up", index, mlp.up, own.up),
            ("mlp_out", index, mlp.down, own.out),
        ]
    return [*found, ("head", len(program.scan_layers), program.head, program.head_shift)]


def lane_words(weight: Integers, lanes: int, bits: int, *, dense: bool = False) -> list[int]:
    """Return the weight words of a matrix: word ``g K + k`` holds column k of group g's rows.

    With ``dense`` the weights are trits, of which five are stored in a byte.
    """
    rows, columns = weight.shape
    groups = -(-rows // lanes)
    padded = np.zeros((groups * lanes, columns), np.int64)
    padded[:rows] = weight
    by_word = padded.reshape(groups, lanes, columns).transpose(0, 2, 1).reshape(-1, lanes)
    return [pack_dense(word) if dense else pack_fields(word, bits) for word in by_word.tolist()]
