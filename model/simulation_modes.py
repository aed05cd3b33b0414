"""The source texts' simulation modes (Q8), all on the same text: what the scan's input costs.

``int8`` is the integer program in the golden model. The others are that program in real arithmetic
(:mod:`model.simulated_program`) with another storage of u in front of the scan; ``x_proj`` reads
INT8 in every mode (Q7).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.errors import InputError
from golden.program import Program
from model.document_statistics import Difference, PairedBootstrap
from model.float_simulation import FloatNetwork
from model.scan_input import DualScaleInput, ScanInput, ThreeSegmentInput, float_input
from model.simulated_program import SimulatedProgram
from model.text_windows import Advance, Start, float_start, inputs_of, integer_start, token_bits

__all__ = [
    "DEFAULT_RATIOS", "MODES", "ModeResult", "ObservedInput", "ResearchChoice", "choose_modes",
    "compare_modes", "dual_scale_steps", "prepare_modes", "run_modes",
]  # fmt: skip

Array = npt.NDArray[Any]

MODES = ("int8", "fp32-ssm-input", "float-sim-int8", "research-se", "three-segment")
DEFAULT_RATIOS = (3.0, 4.0, 2025.0)
QUANTILES = (0.99, 0.995, 0.999)
_WORKERS = 2
"""Simulations at a time: each is one thread, and most of it runs without Python's lock."""


@dataclass(frozen=True, kw_only=True)
class ResearchChoice:
    """Options of ``research-se``.

    Parameters
    ----------
    ratios : coarse over fine step, one simulation each; any real number from 1 on
    quantile : of ``|u|`` that the fine code reaches
    code_bits : width of the symmetric code: 4 for a5, 5 for a6, 8 for the texts' INT8 codes
    margin : share of that range beyond which the flag is set
    per_channel : one fine step a channel, else one a layer
    """

    ratios: tuple[float, ...] = DEFAULT_RATIOS
    quantile: float = 0.99
    code_bits: int = 4
    margin: float = 1.0
    per_channel: bool = False

    def __post_init__(self) -> None:
        if self.quantile not in QUANTILES:
            raise InputError(
                f"quantile = {self.quantile} is not one of {', '.join(map(str, QUANTILES))}; "
                "choose one of these"
            )
        if not 2 <= self.code_bits <= 8:
            raise InputError(f"code bits = {self.code_bits} is outside 2..8; choose one of these")

    @property
    def code_limit(self) -> int:
        """Largest magnitude of a code."""
        return (1 << (self.code_bits - 1)) - 1


def choose_modes(text: str) -> tuple[str, ...]:
    """Return the modes of ``all`` or of names with commas between, ``int8`` among them.

    Raises
    ------
    InputError
        If a name is unknown.
    """
    names = MODES if text == "all" else tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in MODES:
            raise InputError(f"unknown mode {name!r}; choose all or from {', '.join(MODES)}")
    return tuple(name for name in MODES if name in names or name == "int8")


class ObservedInput:
    """Records the activated values of calibration text while it stores nothing away."""

    def __init__(self, layers: int) -> None:
        self.values: list[list[Array]] = [[] for _ in range(layers)]

    def __call__(self, layer: int, activated: Array) -> Array:
        """Keep the magnitudes (positions, e) and return the values themselves."""
        self.values[layer].append(np.abs(activated).reshape(-1, activated.shape[-1]))
        return activated


def dual_scale_steps(program: Program, targets: Array, choice: ResearchChoice) -> Array:
    """Return the fine steps, (layers, 1) or (layers, e), from calibration windows (b, l)."""
    observed = ObservedInput(program.shape.n_layer)
    SimulatedProgram(program, scan_input=observed).start(len(targets))(inputs_of(targets))
    axis = 0 if choice.per_channel else None
    rows = [
        np.quantile(np.concatenate(values), choice.quantile, axis=axis).reshape(-1)
        for values in observed.values
    ]
    return np.stack(rows) / choice.code_limit


def _storages(
    program: Program, modes: tuple[str, ...], calibration: Array, choice: ResearchChoice
) -> dict[str, ScanInput | None]:
    """Return what each simulated mode stores; None is the program's own storage."""
    storages: dict[str, ScanInput | None] = {}
    if "fp32-ssm-input" in modes:
        storages["fp32-ssm-input"] = float_input
    if "float-sim-int8" in modes:
        storages["float-sim-int8"] = None
    if "research-se" in modes:
        steps = dual_scale_steps(program, calibration, choice)
        for ratio in choice.ratios:
            storages[f"research-se ratio {ratio:g}"] = DualScaleInput(
                steps, ratio, choice.code_limit, choice.margin
            )
    if "three-segment" in modes:
        steps = np.ldexp(1.0, -np.stack([layer.formats.scan_u for layer in program.layers]))
        storages["three-segment"] = ThreeSegmentInput(steps)
    return storages


def prepare_modes(
    program: Program,
    network: FloatNetwork,
    modes: tuple[str, ...],
    calibration: Array,
    choice: ResearchChoice,
) -> dict[str, Start]:
    """Return what runs each mode, and the float network as ``float``.

    Parameters
    ----------
    calibration : windows of text (b, l) on which ``research-se`` finds its steps

    Raises
    ------
    InputError
        If the program stores the scan's input by dual scale: the modes' baseline is INT8.
    """
    if program.scheme.dual_scale is not None:
        raise InputError(
            f"the modes' baseline stores u as INT8, scheme {program.scheme.name} as a code and a "
            "flag; give an artifact without dual scale"
        )
    starts: dict[str, Start] = {"float": float_start(network), "int8": integer_start(program)}
    for name, storage in _storages(program, modes, calibration, choice).items():
        starts[name] = SimulatedProgram(program, scan_input=storage).start
    return starts


def run_modes(
    starts: dict[str, Start], pieces: list[Array], advance: Advance | None = None
) -> dict[str, Array]:
    """Return the bits of every token by mode; pieces of :func:`model.text_windows.cut_windows`."""

    def measure(start: Start) -> Array:
        return token_bits(start, pieces, advance)

    with ThreadPoolExecutor(_WORKERS) as pool:
        return dict(zip(starts, pool.map(measure, starts.values()), strict=True))


@dataclass(frozen=True)
class ModeResult:
    """One row of the table: bits a token, loss against ``int8`` and against float."""

    name: str
    bits: float
    against_int8: Difference
    against_float: Difference


def compare_modes(costs: dict[str, Array], numbers: Array, seed: int) -> list[ModeResult]:
    """Return the table's rows; ``numbers`` is the document of every token.

    Raises
    ------
    AssertionError
        If the float simulation of INT8 differs from the integer program in any token.
    """
    simulated = costs.get("float-sim-int8")
    if simulated is not None and not np.array_equal(simulated, costs["int8"]):
        wrong = int((simulated != costs["int8"]).sum())
        raise AssertionError(
            f"float-sim-int8 differs from int8 in {wrong} of {len(simulated)} tokens; they must be "
            "equal, so the simulation or the executor breaks the contract"
        )
    bootstrap = PairedBootstrap(numbers, seed)
    return [
        ModeResult(
            name,
            float(own.mean()),
            bootstrap.compare(own, costs["int8"]),
            bootstrap.compare(own, costs["float"]),
        )
        for name, own in costs.items()
    ]
