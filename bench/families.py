"""The model families side by side: ``python -m bench.families --collect REPORT... --update FILE``.

A column is a design: its cells and cycles are those of a ``report.json`` of
``python -m hw.report`` (``--seeds 0`` suffices, nothing here needs routing), its parameters those
of the network's training record, its bits per byte the records of
``python -m model.evaluate --table`` over the whole held-out text, and its stored bits those of the
built-in program. ``--collect`` keeps the figures of reports and programs in
``bench/families.json``, so that the table can be written and checked without them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.collected import table_application, tools_text
from bench.peer import PEER_CELLS
from golden import command
from golden.builtin import load_builtin
from golden.document import Marks, markdown_table
from golden.errors import InputError
from golden.json_file import read_object
from golden.program import Program
from golden.scheme import find_scheme

FIGURES = Path(__file__).parent / "families.json"
CHECKPOINTS, RECORDS = Path("model/checkpoints"), Path("docs/accuracy")
MARKS = Marks("families", "python -m bench.families --update")
KEPT = (
    "preset", "scheme", "mac_lanes", "scan_lanes", "cycles_per_token", "array_utilisation",
    "scan_utilisation", "tools",
)  # fmt: skip


def stored_bits(program: Program) -> dict[str, int]:
    """Return the bits of a language model's weights: the blocks' matrices, and all of them.

    All are the matrices, taps, norms, rates, skips, embedding and head; biases, exponents and
    tables are not counted.
    """
    scheme, shape = program.scheme, program.shape
    matrices = [m for layer in program.scan_layers for m in (layer.in_proj, layer.out_proj)]
    small = (shape.n_layer + 1) * shape.d_model * scheme.norm_weight_bits
    for layer in program.scan_layers:
        if shape.heads is None:
            matrices += [layer.x_proj, layer.dt_proj]
        else:
            small += layer.head_selection.gate_norm_weight.size * scheme.norm_weight_bits
        small += layer.convolution.weight.size * scheme.convolution_weight_bits
        small += layer.decay_rate.size * scheme.decay_rate_bits + layer.skip.size * scheme.skip_bits
    for mlp in program.mlps or ():
        matrices += [mlp.gate, mlp.up, mlp.down]
        small += mlp.norm_weight.size * scheme.norm_weight_bits
    blocks = sum(matrix.weight.size for matrix in matrices) * scheme.weight_bits
    ends = program.token_embedding.table.size * scheme.embedding_bits
    ends += program.head.weight.size * scheme.head_weight_bits
    return {"matrix_bits": blocks, "weight_bits": blocks + ends + small}


def collect(reports: list[Path]) -> list[dict[str, Any]]:
    """Return what the table needs of every report and of its program, in the order given.

    Raises
    ------
    InputError
        If a file is missing, or is of a frame network or a program that is not built in.
    """
    found = []
    for path in reports:
        report = read_object(path, "run: python -m hw.report")
        program = load_builtin(report["preset"], find_scheme(report["scheme"]))
        kept = {name: report[name] for name in KEPT}
        kept["dense_trits"] = report.get("dense_trits", False)
        kept["cells"] = {kind: report["cells"].get(kind, 0) for kind in PEER_CELLS}
        found.append(kept | stored_bits(program))
    return found


def _bits_per_byte(preset: str, program: str) -> float:
    """Return the bits a byte costs, from the record of ``model.evaluate --table``."""
    name = f"{preset}-{program}-0"
    remedy = f"run: python -m model.evaluate --table --only {name}"
    return float(read_object(RECORDS / f"{name}.json", remedy)["bits"]["4096"])


def _column(design: dict[str, Any]) -> dict[str, str]:
    """Return a design's figures by the name of their row."""
    preset, scheme = design["preset"], design["scheme"]
    record = read_object(CHECKPOINTS / f"{preset}.training.json", "run: python -m model.train")
    exact, bits = _bits_per_byte(preset, "float"), _bits_per_byte(preset, scheme)
    rows = {
        "parameters": f"{record['parameters']:,}",
        "bits per byte, float": f"{exact:.4f}",
        "bits per byte, integers": f"{bits:.4f} ({100 * (bits / exact - 1):+.2f} %)",
        "bits of the blocks' matrices": f"{design['matrix_bits']:,}",
        "bits of all weights": f"{design['weight_bits']:,}",
        "cycles a token, known ahead": f"{design['cycles_per_token']:,}",
        "array useful": f"{design['array_utilisation']:.1%}",
        "scan useful": f"{design['scan_utilisation']:.1%}",
    }
    cells = design["cells"]
    return rows | {kind.removeprefix("TRELLIS_"): f"{cells[kind]:,}" for kind in PEER_CELLS}


def table(designs: list[dict[str, Any]]) -> str:
    """Return the Markdown table, a column a design, and what the figures are."""
    lanes = sorted({(design["mac_lanes"], design["scan_lanes"]) for design in designs})
    if len(lanes) != 1:
        raise InputError(f"the reports have lanes {lanes}; compare designs of equal lanes")
    mac, scan = lanes[0]
    columns = [_column(design) for design in designs]
    names = [
        f"`{design['preset']}` {design['scheme']}{', dense' if design['dense_trits'] else ''}"
        for design in designs
    ]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    note = (
        f"{mac} MAC and {scan} scan lanes; bits per byte over the whole held-out text; cells of an "
        f"ECP5 after packing, not routed: {tools_text(designs)}."
    )
    return f"{markdown_table(['one engine, three families', *names], rows)}\n\n{note}"


application = table_application(
    "Print the model families side by side.",
    marks=MARKS, kept=FIGURES, collect=collect, table=table,
)  # fmt: skip

if __name__ == "__main__":
    command.run(application)
