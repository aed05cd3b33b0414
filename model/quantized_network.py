"""A program as a torch network that computes golden's integers times their scales, and trains.

Every value of :class:`golden.reference.ReferenceExecutor` appears here as a real number, exactly:
the integer that golden has times its scale. Weights are real masters in units of their format's
range, rounded on the way in; formats and rates are constants. Tokens (b, l), residual (b, l, d).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from golden.errors import InputError
from golden.program import Program
from golden.validation import validate
from model.quantized_layer import QuantizedLayer, QuantizedMLP
from model.quantized_parts import Stored, Watch, WeightedNorm, stored_matrix, trained
from model.straight_through import fake_quantize

__all__ = ["QuantizedNetwork"]


def _ignore(name: str, layer: int, values: Tensor) -> None:
    del name, layer, values


class QuantizedNetwork(nn.Module):
    """The trainable twin of ``program``, a language model's.

    Parameters
    ----------
    program : where training starts; its formats and rates stay
    dtype : of the values between operations. float64 is exact for every program; float32 is for
        products below 2**24, which holds for all of bytelm's values but a row's sum in theory

    Raises
    ------
    InputError
        If the program is a frame network's.
    """

    def __init__(self, program: Program, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        if program.shape.frame is not None:
            raise InputError(
                "only language models are trained as programs here; train a positioning network "
                "with model.positioning qat"
            )
        self.program, self.dtype = program, dtype
        scheme = program.scheme
        front = program.token_embedding
        fraction = program.residual_fraction - front.shift[:, None]
        self.embedding = Stored(front.table, fraction, scheme.embedding_bits)
        self.layers = nn.ModuleList(
            QuantizedLayer(program, index) for index in range(program.shape.n_layer)
        )
        self.mlps = nn.ModuleList(
            QuantizedMLP(program, mlp, index) for index, mlp in enumerate(program.mlps or ())
        )
        self.norm = WeightedNorm(
            program, program.final_norm_weight, program.final_norm_weight_fraction,
            fraction=program.final_norm_fraction, bits=scheme.activation_bits,
        )  # fmt: skip
        self.head = stored_matrix(program.head, scheme.head_weight_bits)

    @property
    def _blocks(self) -> Iterator[QuantizedLayer]:
        """The layers in their order, with the type that ``ModuleList`` forgets."""
        for layer in self.layers:
            yield cast("QuantizedLayer", layer)

    def forward(self, tokens: Tensor, watch: Watch = _ignore) -> Tensor:
        """Return the logits (b, l, V) of tokens (b, l), sequences from a zero state."""
        program, scheme = self.program, self.program.scheme
        residual = functional.embedding(tokens, self.embedding.real().to(self.dtype))  # b l d
        watch("residual", -1, residual)
        for index, layer in enumerate(self._blocks):
            residual = layer(residual, watch)
            if self.mlps:
                residual = self.mlps[index](residual, watch)
        norm = self.norm(residual)  # b l d
        watch("norm", -1, norm)
        logits = fake_quantize(
            norm @ self.head.real().to(norm).T, 2.0**program.logit_fraction, scheme.logit_bits
        )  # b l V
        watch("logits", -1, logits)
        return logits

    def build(self, provenance: dict[str, object]) -> Program:
        """Return the validated program of the trained integers."""
        program, front = self.program, self.program.token_embedding
        layers = tuple(
            own.written_to(layer)
            for own, layer in zip(self._blocks, program.scan_layers, strict=True)
        )
        mlps = tuple(
            cast("QuantizedMLP", own).written_to(mlp)
            for own, mlp in zip(self.mlps, program.mlps or (), strict=True)
        )
        return validate(
            dataclasses.replace(
                program,
                layers=layers,
                mlps=mlps or None,
                front=dataclasses.replace(front, table=self.embedding.integers()),
                final_norm_weight=self.norm.weight.integers(),
                head=trained(program.head, self.head),
                provenance=provenance,
            )
        )
