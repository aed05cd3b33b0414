"""The programs that come with the package, found by preset and scheme."""

from __future__ import annotations

from pathlib import Path

from golden.artifact import load_program
from golden.errors import InputError
from golden.presets import find_preset
from golden.program import Program
from golden.random_program import random_program
from golden.scheme import SCHEMES, Scheme

FOLDER = Path(__file__).parent / "artifacts"
RANDOM_PRESETS = ("micro", "micro-mamba2")
"""Presets without a trained network: their weights are random, from seed 0."""
TRAINED_SCHEMES = (
    "w8a8", "w4a8", "w4a16", "w4a5-se",
    "w8a8-h", "w4a8-h", "w4a6-se-h", "w4a5-se-h", "w4a4-h",
)  # fmt: skip
"""Schemes of the trained language models in :data:`FOLDER`."""
QAT_SCHEMES = ("w8a8-h", "w4a8-h", "w4a5-se-h", "w4a4-h", "ternary-h")
"""Schemes whose program was trained as well (model.qat): ``bytelm-SCHEME-qat`` in the folder."""
FRAME_SCHEMES = ("w8a8", "w4a8")
"""Schemes of the trained frame networks in :data:`FOLDER`."""


def builtin_path(preset: str, scheme: str) -> Path:
    """Return where the artifact of a trained preset lies."""
    return FOLDER / f"{preset}-{scheme}.safetensors"


def trained_schemes(preset: str) -> tuple[str, ...]:
    """Return the schemes of a preset's programs here, the usual ones if it has none."""
    found = tuple(name for name in SCHEMES if builtin_path(preset, name).is_file())
    return found or TRAINED_SCHEMES


def load_builtin(preset: str, scheme: Scheme, artifact: Path | None = None) -> Program:
    """Return the program of ``artifact``, or the built-in one of ``preset`` and ``scheme``.

    With an artifact the preset is just the design's name, and the shape is the artifact's.

    Raises
    ------
    InputError
        If the preset is unknown, there is no such artifact, or it is of another scheme.
    """
    if artifact is None:
        shape = find_preset(preset)
        if preset in RANDOM_PRESETS:
            return random_program(shape, scheme, seed=0)
        artifact = builtin_path(preset, scheme.name)
        trained = builtin_path(preset, f"{scheme.name}-qat")
        if trained.is_file() and not artifact.is_file():
            artifact = trained  # of ternary schemes there is no other
    program = load_program(artifact)
    if program.scheme.name != scheme.name:
        raise InputError(
            f"{artifact} was quantized as {program.scheme.name}, not {scheme.name}; "
            f"give --scheme {program.scheme.name}"
        )
    return program
