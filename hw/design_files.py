"""The parts of a generated directory that every organisation of the engine writes alike."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from amaranth.lib.wiring import Component

from golden import command, vector_files, vectors
from golden.artifact import to_bytes
from golden.program import Program
from hw.parameter_memory import ROM_MODULE, ROM_VERILOG, MemoryPlan
from hw.primitives import MULTIPLIER_MODULE, MULTIPLIER_VERILOG, Primitives
from hw.verilog import emit

__all__ = ["IMAGE_FOLDER", "top_name", "write_golden", "write_sources"]

IMAGE_FOLDER = "mem"
"""Where parameter memories read their images, from the generated directory."""


def top_name(preset: str, scheme: str) -> str:
    """Return the top module's name, a plain Verilog identifier."""
    return "".join(c if c.isalnum() else "_" for c in f"{preset}_{scheme}")


def write_sources(
    folder: Path, component: Component, top: str, realisation: MemoryPlan
) -> dict[str, str]:
    """Write Verilog and memory images; return the Verilog by file name."""
    rtl = {**emit(component, top), f"{ROM_MODULE}.v": ROM_VERILOG}
    if realisation.primitives is not Primitives.NONE:
        rtl[f"{MULTIPLIER_MODULE}.v"] = MULTIPLIER_VERILOG
    for name, text in rtl.items():
        command.atomic_write(folder / "rtl" / name, text.encode())
    for name in realisation.images:
        image = folder / IMAGE_FOLDER / f"{name}.hex"
        command.atomic_write(image, realisation.hex_text(name).encode())
    return rtl


def write_golden(
    folder: Path,
    program: Program,
    trace: vectors.Trace,
    stimulus: vectors.Stimulus,
    cycles: Mapping[str, np.ndarray],
) -> str:
    """Write program, vectors and predicted cycles by probe; return the program's SHA-256."""
    artifact = to_bytes(program)
    digest, golden = command.digest(artifact), folder / "golden"
    command.atomic_write(
        golden / vector_files.FILE_NAME, vector_files.to_bytes(trace, stimulus, digest)
    )
    command.atomic_write(golden / "predicted_cycles.npz", _archive(cycles))
    command.atomic_write(golden / "program.safetensors", artifact)
    return digest


def _archive(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return a deterministic npz."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, values, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())
    return buffer.getvalue()
