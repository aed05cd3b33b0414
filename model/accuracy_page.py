"""The tables of the accuracy page and of the README, from the records of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from golden.builtin import QAT_SCHEMES, trained_schemes
from golden.document import markdown_table
from golden.errors import InputError
from golden.presets import find_preset
from model.accuracy_plan import COMPARED, CONFIDENCE, OTHERS, SEEDS, STAGED
from model.accuracy_plot import Bar
from model.accuracy_records import Row, read_record
from model.accuracy_rows import WINDOWS, FloatRow, ProgramRow, QuantizedRow
from model.accuracy_studies import PLANTED, PeersRow, StagesRow, VariantRow
from model.accuracy_targets import ANY_SCALE, PLAIN, POWERS_OF_TWO, TRAINED
from model.mode_report import interval_text
from model.outlier_study import VARIANTS
from model.peers import SCHEMES as PEER_SCHEMES
from model.quantization_report import block_stage

__all__ = ["AccuracyFigures", "block_losses", "page_tables", "readme_table", "result_bars"]

_SEEDS = [f"seed {seed}" for seed in SEEDS]


class AccuracyFigures:
    """Losses from the records.

    Parameters
    ----------
    folder : where the records are
    trained : reports of :mod:`model.qat` by name and training seed
    """

    def __init__(self, folder: Path, trained: Mapping[tuple[str, int], Any]) -> None:
        self._folder, self._trained = folder, trained

    def record(self, row: Row) -> dict[str, Any]:
        """Return the record of a row."""
        return read_record(self._folder, row.name)

    def bits(self, row: Row, window: int = WINDOWS[0]) -> float:
        """Return the bits a byte costs where the state is reset after ``window`` bytes."""
        return float(self.record(row)["bits"][str(window)])

    def loss(self, row: Row, exact: FloatRow, window: int = WINDOWS[0]) -> float:
        """Return the loss in percent of the float network ``exact`` on the same text.

        Raises
        ------
        InputError
            If the records are not of the same network and text.
        """
        own, other = self.record(row), self.record(exact)
        for name in ("checkpoint_sha256", "data_sha256", "tokens"):
            if own[name] != other[name]:
                raise InputError(
                    f"the records {row.name} and {exact.name} differ in {name}; "
                    "delete the older one and measure anew"
                )
        return 100.0 * (self.bits(row, window) / self.bits(exact, window) - 1.0)

    def quantized(self, scheme: str, seed: int) -> float:
        """Return the loss of a scheme with powers of two."""
        row = QuantizedRow(scheme=scheme, seed=seed) if seed else ProgramRow(program=scheme)
        return self.loss(row, FloatRow(seed=seed))

    def any_scale(self, scheme: str, seed: int) -> float:
        """Return the loss of a scheme with real scales."""
        row = QuantizedRow(scheme=scheme, seed=seed, any_scale=True)
        return self.loss(row, FloatRow(seed=seed))

    def trained(self, scheme: str, seed: int) -> float:
        """Return the loss of a trained program: golden's own of seed 0, else its exact twin's."""
        if not seed:
            return self.loss(ProgramRow(program=f"{scheme}-qat"), FloatRow())
        held_out = self._trained[scheme, seed]["held_out"]
        return 100.0 * (float(held_out["trained"]) / float(held_out["float"]) - 1.0)


def _percent(loss: float) -> str:
    return f"{loss:+.2f} %"


def _verdict(worst: float, target: float) -> str:
    return f"{target:g} %: {'met' if worst <= target else 'missed'}"


WAYS: tuple[tuple[str, Callable[[AccuracyFigures, str, int], float], Mapping[str, float]], ...] = (
    ("powers of two", AccuracyFigures.quantized, POWERS_OF_TWO),
    ("any scale", AccuracyFigures.any_scale, ANY_SCALE),
    ("trained", AccuracyFigures.trained, TRAINED),
)
"""Ways to make a program: what they are called, their losses and targets."""


def worst(figures: AccuracyFigures, way: Callable[..., float], scheme: str) -> float:
    """Return the loss of the worse training seed."""
    return max(way(figures, scheme, seed) for seed in SEEDS)


def _results(figures: AccuracyFigures) -> str:
    rows = []
    for scheme in COMPARED:
        row = [scheme]
        for _, way, targets in WAYS:
            row += [_percent(way(figures, scheme, seed)) for seed in SEEDS]
            row.append(_verdict(worst(figures, way, scheme), targets[scheme]))
        rows.append(row)
    header = [cell for name, *_ in WAYS for cell in (*(f"{name}, {s}" for s in _SEEDS), "at most")]
    return markdown_table(["scheme", *header], rows)


def _programs(figures: AccuracyFigures) -> str:
    exact = FloatRow()
    record = figures.record(exact)
    targets = {**PLAIN, **POWERS_OF_TWO, **{f"{own}-qat": at for own, at in TRAINED.items()}}
    rows = [["float", f"{figures.bits(exact):.4f}", "", ""]]
    for name in (*trained_schemes("bytelm"), *(f"{scheme}-qat" for scheme in QAT_SCHEMES)):
        row = ProgramRow(program=name)
        loss = figures.loss(row, exact)
        verdict = _verdict(loss, targets[name]) if name in targets else ""
        rows.append([name, f"{figures.bits(row):.4f}", _percent(loss), verdict])
    origin = f"Held-out text: {record['tokens']:,} bytes of {record['data']}."
    return f"{origin}\n\n{markdown_table(['program', 'bits a byte', 'loss', 'at most'], rows)}"


def _window_losses(figures: AccuracyFigures, row: Row, seed: int) -> list[str]:
    exact = FloatRow(seed=seed)
    return [_percent(figures.loss(row, exact, window)) for window in WINDOWS]


def _drift(figures: AccuracyFigures) -> str:
    rows = []
    for scheme in COMPARED:
        for seed in SEEDS:
            row = QuantizedRow(scheme=scheme, seed=seed) if seed else ProgramRow(program=scheme)
            rows.append([scheme, str(seed), *_window_losses(figures, row, seed)])
        row = ProgramRow(program=f"{scheme}-qat")
        rows.append([row.program, "0", *_window_losses(figures, row, 0)])
    return markdown_table(["scheme", "seed", *(f"{window:,} bytes" for window in WINDOWS)], rows)


def _confidence(figures: AccuracyFigures) -> str:
    networks = figures.record(CONFIDENCE)["networks"]
    exact, rows = networks["float"], []
    for name in ("float", *CONFIDENCE.programs):
        own, row = networks[name], [name]
        for bits in ("bits", "tempered_bits"):
            loss = 100.0 * (own[bits] / exact[bits] - 1.0)
            row += [f"{own[bits]:.4f}", "" if own is exact else _percent(loss)]
        row.insert(3, f"{own['temperature']:.2f}")
        rows.append(row)
    header = ["network", "bits a byte", "loss", "best temperature", "bits with it", "loss"]
    return markdown_table(header, rows)


def _stages(figures: AccuracyFigures) -> dict[str, dict[str, float]]:
    """Return the loss of every stage alone by scheme."""
    return {
        scheme: {
            loss["stage"]: loss["loss_percent"]
            for loss in figures.record(StagesRow(scheme))["stages"]
            if loss["stage"] != "float"
        }
        for scheme in STAGED
    }


def _stage_table(figures: AccuracyFigures) -> str:
    losses = _stages(figures)
    names = list(losses[STAGED[0]])
    rows = [[name, *(_percent(own[name]) for own in losses.values())] for name in names]
    return markdown_table(["stage alone", *losses], rows)


def _peers(figures: AccuracyFigures, outliers: int) -> str:
    found = {
        scheme: {
            own["method"]: interval_text(own)
            for own in figures.record(PeersRow(scheme, outliers))["methods"]
        }
        for scheme in PEER_SCHEMES
    }
    methods = list(found[PEER_SCHEMES[0]])
    rows = [[method, *(own[method] for own in found.values())] for method in methods]
    return markdown_table(["method", *found], rows)


def _variants(figures: AccuracyFigures) -> str:
    rows, question = [], ""
    for variant in VARIANTS:
        own = [figures.record(VariantRow(variant, planted)) for planted in (False, True)]
        first = "" if variant.question == question else variant.question
        question = variant.question
        rows.append([first, variant.text, *(interval_text(record) for record in own)])
    return markdown_table(["of", "how", "as trained", "with outlier channels"], rows)


def _others(figures: AccuracyFigures) -> str:
    rows = []
    for preset in OTHERS:
        exact = FloatRow(preset=preset)
        rows.append([preset, "float", f"{figures.bits(exact):.4f}", ""])
        for scheme in trained_schemes(preset):
            row = ProgramRow(preset=preset, program=scheme)
            loss = _percent(figures.loss(row, exact))
            rows.append([preset, scheme, f"{figures.bits(row):.4f}", loss])
    return markdown_table(["network", "program", "bits a byte", "loss"], rows)


def page_tables(figures: AccuracyFigures) -> dict[str, str]:
    """Return every table of the accuracy page by the name of its markers."""
    return {
        "results": _results(figures),
        "programs": _programs(figures),
        "drift": _drift(figures),
        "confidence": _confidence(figures),
        "stages": _stage_table(figures),
        "peers": _peers(figures, 0),
        "peers with outliers": _peers(figures, PLANTED),
        "variants": _variants(figures),
        "other networks": _others(figures),
    }


def readme_table(figures: AccuracyFigures) -> str:
    """Return the README's table: quantized and trained, the worse seed counts."""
    rows = [["float", f"{figures.bits(FloatRow()):.4f}", "", "", "", "", ""]]
    for scheme in COMPARED:
        row = [scheme]
        for (_, way, targets), suffix in ((WAYS[0], ""), (WAYS[2], "-qat")):
            bits = figures.bits(ProgramRow(program=scheme + suffix))
            loss = _percent(worst(figures, way, scheme))
            row += [f"{bits:.4f}", loss, f"≤ +{targets[scheme]:g} %"]
        rows.append(row)
    header = ["`bytelm`"]
    for name in ("quantized", "trained on"):
        header += [f"{name}: bits a byte", "loss, worse of two seeds", "target"]
    return markdown_table(header, rows)


def result_bars(figures: AccuracyFigures) -> dict[str, dict[str, Bar]]:
    """Return the bars of the picture of the results, by scheme and way."""
    return {
        scheme: {
            name: Bar(loss=worst(figures, way, scheme), target=targets[scheme])
            for name, way, targets in WAYS
        }
        for scheme in COMPARED
    }


def block_losses(figures: AccuracyFigures) -> tuple[dict[str, list[float]], list[str]]:
    """Return the losses of embedding, blocks and head alone by scheme, and their labels."""
    blocks = (block_stage(index) for index in range(find_preset("bytelm").n_layer))
    parts = ["embedding", *blocks, "head"]
    return {name: [own[part] for part in parts] for name, own in _stages(figures).items()}, parts
