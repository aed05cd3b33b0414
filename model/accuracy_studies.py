"""The rows of the accuracy page that are studies: of stages, histograms, methods and outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from golden.artifact import file_digest, load_program
from golden.builtin import builtin_path
from golden.scheme import find_scheme
from model.accuracy_records import Identity, Sources
from model.accuracy_rows import quantizer_identity
from model.document_statistics import PairedBootstrap, document_numbers
from model.float_simulation import FloatNetwork
from model.network_parameters import NetworkParameters, extract_parameters
from model.outlier_study import Variant
from model.outliers import plant_outliers, plant_scan_outliers
from model.peers import CALIBRATION_BYTES, SIZE, PeerComparison
from model.post_training import CALIBRATION_WINDOW, quantize_source
from model.quantizer import QuantizationChoice, quantize_network
from model.stage_report import REPORT_BYTES, stage_report
from model.statistics import SIZE as STATISTICS_SIZE
from model.statistics import collect
from model.text_windows import (
    WINDOW,
    choose_windows,
    cut_windows,
    float_start,
    integer_start,
    token_bits,
)

__all__ = ["PLANTED", "PeersRow", "StagesRow", "StatisticsRow", "VariantRow"]

PLANTED = 8
"""Outlier channels planted in front of every in_proj; half as many in every scan."""
_PRESET = "bytelm"


@dataclass(frozen=True)
class StagesRow:
    """What each stage of a scheme costs alone: also the report of ``model.quantize``."""

    scheme: str

    @property
    def name(self) -> str:
        """Name of the record."""
        return f"{_PRESET}-{self.scheme}-stages"

    def identity(self, sources: Sources) -> Identity:
        """Return what is measured."""
        return {
            **sources.identity(_PRESET, 0),
            **quantizer_identity(self.scheme, QuantizationChoice()),
            "tokens": REPORT_BYTES,
        }

    def measure(self, sources: Sources) -> dict[str, Any]:
        """Quantize; return the loss of every stage."""
        done = quantize_source(
            sources.network(_PRESET, 0), sources.tokens, find_scheme(self.scheme),
            QuantizationChoice(),
        )  # fmt: skip
        program = done.draft.build(done.provenance)
        return stage_report(done, program, sources.tokens.held_out)


@dataclass(frozen=True)
class StatisticsRow:
    """Histograms of a built-in program's values before and after rounding.

    Parameters
    ----------
    scheme : the program's
    tensors : which of its requantizers
    """

    scheme: str
    tensors: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the record."""
        return f"{_PRESET}-{self.scheme}-statistics"

    def identity(self, sources: Sources) -> Identity:
        """Return what is measured."""
        return {
            **sources.identity(_PRESET, 0),
            "artifact_sha256": file_digest(builtin_path(_PRESET, self.scheme)),
            "tensors": list(self.tensors),
            "tokens": STATISTICS_SIZE,
        }

    def measure(self, sources: Sources) -> dict[str, Any]:
        """Return the statistics of every layer."""
        program = load_program(builtin_path(_PRESET, self.scheme))
        layers = collect(program, sources.tokens.held_out[:STATISTICS_SIZE])
        return {"layers": [{name: own[name] for name in self.tensors} for own in layers]}


@dataclass(frozen=True)
class PeersRow:
    """Published methods beside ours at the widths of one scheme.

    Parameters
    ----------
    scheme : the widths
    outliers : channels planted before, the function unchanged
    """

    scheme: str
    outliers: int = 0

    @property
    def name(self) -> str:
        """Name of the record."""
        return f"{_PRESET}-{self.scheme}-peers" + ("-outliers" if self.outliers else "")

    def identity(self, sources: Sources) -> Identity:
        """Return what is measured."""
        own = {
            **sources.identity(_PRESET, 0),
            "scheme": self.scheme,
            "outliers": self.outliers,
            "tokens": SIZE,
            "calibration_tokens": CALIBRATION_BYTES,
        }
        if not self.outliers:
            own["artifact_sha256"] = file_digest(builtin_path(_PRESET, self.scheme))
        return own

    def measure(self, sources: Sources) -> dict[str, Any]:
        """Return the rows of the table."""
        comparison = PeerComparison(
            sources.network(_PRESET, 0), sources.tokens, size=SIZE,
            calibration_bytes=CALIBRATION_BYTES, outliers=self.outliers,
        )  # fmt: skip
        artifact = None if self.outliers else builtin_path(_PRESET, self.scheme)
        rows = comparison.rows(find_scheme(self.scheme), artifact=artifact)
        return {"float": comparison.bits, "methods": rows}


@dataclass(frozen=True)
class VariantRow:
    """One variant of the quantizer, on the trained network or on one with outlier channels."""

    variant: Variant
    planted: bool

    @property
    def name(self) -> str:
        """Name of the record."""
        network = "outliers" if self.planted else "trained"
        return f"{_PRESET}-variant-{self.variant.name}-{network}"

    def identity(self, sources: Sources) -> Identity:
        """Return what is measured."""
        return {
            **sources.identity(_PRESET, 0),
            **quantizer_identity(self.variant.scheme.name, self.variant.choice, gradient_bytes=0),
            "calibration_tokens": CALIBRATION_BYTES,
            "outliers": PLANTED if self.planted else 0,
            "tokens": SIZE,
        }

    def _parameters(self, sources: Sources) -> NetworkParameters:
        parameters = extract_parameters(sources.network(_PRESET, 0).model)
        if not self.planted:
            return parameters
        return plant_scan_outliers(plant_outliers(parameters, PLANTED, 0), PLANTED // 2, 0)

    def measure(self, sources: Sources) -> dict[str, Any]:
        """Return bits a byte and the loss against the same float network, with its interval."""
        parameters, text = self._parameters(sources), sources.tokens
        windows = CALIBRATION_BYTES // CALIBRATION_WINDOW
        calibration = choose_windows(text.train, windows, CALIBRATION_WINDOW, 0)
        own = self.variant
        program = quantize_network(parameters, own.scheme, calibration, own.choice).build()
        stream = text.held_out[:SIZE]
        pieces = cut_windows(stream, WINDOW)
        with sources.bar(self.name, 2 * len(stream)) as advance:
            exact = token_bits(float_start(FloatNetwork(parameters)), pieces, advance)
            costs = token_bits(integer_start(program), pieces, advance)
        found = PairedBootstrap(document_numbers(stream), 0).compare(costs, exact)
        return {
            "float": float(exact.mean()), "bits": float(costs.mean()), **found.to_json(),
            "text": own.text, "question": own.question,
        }  # fmt: skip
