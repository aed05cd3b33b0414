"""The rows of the accuracy page that are one network or program on all held-out text.

A row's record, ``NAME.json`` in ``docs/accuracy``, names by digest what was measured; while that
stays as it is, nothing is measured again (:mod:`model.accuracy_records`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golden.artifact import file_digest, load_program, to_bytes
from golden.builtin import FOLDER
from golden.command import digest
from golden.errors import InputError
from golden.program import Program
from golden.scheme import Scheme, find_scheme
from model.accuracy_records import Identity, Sources
from model.float_simulation import FloatNetwork
from model.layer_quantization import WeightChoice
from model.network_parameters import extract_parameters
from model.post_training import CALIBRATION_BYTES, GRADIENT_BYTES, quantize_source
from model.quantizer import QuantizationChoice
from model.text_windows import WINDOW, Start, cut_windows, float_start, integer_start, token_bits

__all__ = [
    "ASYMMETRIC", "GROUP", "WINDOWS", "FloatRow", "ProgramRow", "QuantizedRow",
    "quantizer_identity", "scheme_of",
]  # fmt: skip

WINDOWS = (WINDOW, 4 * WINDOW, 16 * WINDOW)
"""Bytes between resets of the state: the figure of the tables first, then those of the drift."""
ASYMMETRIC = ("w4a4-h",)
"""Schemes whose programs have zero points (``model.quantize --asymmetric``)."""
GROUP = 32
"""Columns of a row that share a real scale in the rows of any scale."""


def _window_bits(
    name: str, start: Start, sources: Sources, windows: tuple[int, ...]
) -> dict[str, float]:
    """Return the bits a byte costs by window, with a bar called ``name``."""
    stream = sources.tokens.held_out
    with sources.bar(name, len(windows) * len(stream)) as advance:
        return {
            str(window): float(token_bits(start, cut_windows(stream, window), advance).mean())
            for window in windows
        }


def _whole(sources: Sources, preset: str, seed: int, windows: tuple[int, ...]) -> Identity:
    return {
        **sources.identity(preset, seed),
        "windows": list(windows),
        "tokens": len(sources.tokens.held_out),
    }


def scheme_of(name: str) -> Scheme:
    """Return the scheme as the pages measure it."""
    own = find_scheme(name)
    return dataclasses.replace(own, asymmetric=name in ASYMMETRIC)


def quantizer_identity(
    scheme: str, choice: QuantizationChoice, *, gradient_bytes: int = GRADIENT_BYTES
) -> Identity:
    """Return what names a quantization: the scheme and every option."""
    return {
        "scheme": scheme,
        "options": dataclasses.asdict(choice),
        "calibration_tokens": CALIBRATION_BYTES,
        "gradient_tokens": gradient_bytes,
    }


@dataclass(frozen=True, kw_only=True)
class FloatRow:
    """A float network.

    Parameters
    ----------
    preset : its name
    seed : of its training; 0 is the one that comes with the project
    """

    preset: str = "bytelm"
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of the record."""
        return f"{self.preset}-float-{self.seed}"

    def identity(self, sources: Sources) -> Identity:
        """Return what is measured."""
        return _whole(sources, self.preset, self.seed, WINDOWS)

    def measure(self, sources: Sources) -> dict[str, Any]:
        """Return the bits a byte by window."""
        network = FloatNetwork(extract_parameters(sources.network(self.preset, self.seed).model))
        return {"bits": _window_bits(self.name, float_start(network), sources, WINDOWS)}


@dataclass(frozen=True, kw_only=True)
class ProgramRow:
    """A built-in program.

    Parameters
    ----------
    preset : the network's
    program : what it is called behind the preset: the scheme, with ``-qat`` if it was trained
    windows : bytes between resets of the state
    """

    program: str
    preset: str = "bytelm"
    windows: tuple[int, ...] = WINDOWS[:1]

    @property
    def name(self) -> str:
        """Name of the record."""
        return f"{self.preset}-{self.program}-0"

    @property
    def artifact(self) -> Path:
        """The program's file."""
        return FOLDER / f"{self.preset}-{self.program}.safetensors"

    def identity(self, sources: Sources) -> Identity:
        """Return what is measured."""
        return {
            **_whole(sources, self.preset, 0, self.windows),
            "artifact": self.artifact.name,
            "artifact_sha256": file_digest(self.artifact),
        }

    def measure(self, sources: Sources) -> dict[str, Any]:
        """Return the bits a byte by window; the program must have been made of the network."""
        program = load_program(self.artifact)
        own = sources.identity(self.preset, 0)["checkpoint_sha256"]
        if program.provenance.get("checkpoint_sha256") != own:
            raise InputError(
                f"{self.artifact} was not made of {self.preset}'s checkpoint; write it anew with "
                f"python -m model.quantize --preset {self.preset}"
            )
        start = integer_start(program)
        return {"bits": _window_bits(self.name, start, sources, self.windows)}


@dataclass(frozen=True, kw_only=True)
class QuantizedRow:
    """A program that is quantized to be measured, and not kept.

    Parameters
    ----------
    scheme : its widths
    seed : of the float network's training
    any_scale : a real scale for every :data:`GROUP` columns, which only a simulation has, in
        place of a power of two a row
    """

    scheme: str
    seed: int
    any_scale: bool = False
    preset: str = "bytelm"

    @property
    def name(self) -> str:
        """Name of the record."""
        scales = "-any-scale" if self.any_scale else ""
        return f"{self.preset}-{self.scheme}{scales}-{self.seed}"

    @property
    def _windows(self) -> tuple[int, ...]:
        """Drift is shown of programs alone."""
        return WINDOWS[:1] if self.any_scale else WINDOWS

    @property
    def _choice(self) -> QuantizationChoice:
        return QuantizationChoice(weights=WeightChoice(group=GROUP if self.any_scale else None))

    def identity(self, sources: Sources) -> Identity:
        """Return what is measured."""
        return {
            **_whole(sources, self.preset, self.seed, self._windows),
            **quantizer_identity(self.scheme, self._choice),
            "asymmetric": scheme_of(self.scheme).asymmetric,
        }

    def measure(self, sources: Sources) -> dict[str, Any]:
        """Quantize; return the bits a byte by window and the program's digest if it has one."""
        network = sources.network(self.preset, self.seed)
        done = quantize_source(network, sources.tokens, scheme_of(self.scheme), self._choice)
        program: Program = done.draft.build(done.provenance, simulated=self.any_scale)
        bits = _window_bits(self.name, integer_start(program), sources, self._windows)
        record: dict[str, Any] = {"bits": bits}
        if not self.any_scale:
            record["artifact_sha256"] = digest(to_bytes(program))
        return record
