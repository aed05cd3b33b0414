"""The stand-alone test bench: Verilog and vectors that any simulator runs without Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from golden.command import atomic_write
from golden.program import Program
from golden.vectors import Trace
from hw.contexts import context_bits
from hw.control import address_bits
from hw.expectation import expected_probe
from hw.lanes import Lanes
from hw.probes import probe_widths
from hw.register_map import Register
from hw.schedule import Schedule

__all__ = [
    "WATCHDOG_MARGIN",
    "Check",
    "hex_lines",
    "stream_beats",
    "write_bench",
    "write_testbench",
]

_TEMPLATES = Path(__file__).parent / "templates"
_RESET_AT_LAST, _EMIT_LOGITS = 1 << 1, 1 << 2
WATCHDOG_MARGIN = 10_000
"""Cycles without a transfer that are no defect, besides what the schedule allows."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One checker of the bench.

    Parameters
    ----------
    name : of the probe point or stream, and of its vector files
    width : bits a value
    signed : how a value is printed
    count : values a token
    """

    name: str
    width: int
    signed: bool
    count: int


def hex_lines(values: np.ndarray, width: int) -> bytes:
    """Return integers as ``$readmemh`` reads them, one a line, in two's complement."""
    digits, mask = (width + 3) // 4, (1 << width) - 1
    return "".join(f"{value & mask:0{digits}x}\n" for value in values.ravel().tolist()).encode()


def _whole_bytes(bits: int) -> int:
    return -(-bits // 8) * 8


def _streams(program: Program) -> list[Check]:
    """Return the output streams with their widths on AXI4-Stream."""
    vocabulary = program.shape.vocabulary
    token = _whole_bytes((vocabulary - 1).bit_length())
    logit = _whole_bytes(program.scheme.logit_bits)
    return [
        Check(name="results", width=token, signed=False, count=1),
        Check(name="logits", width=logit, signed=True, count=vocabulary),
    ]


def stream_beats(
    values: np.ndarray, last: np.ndarray, context: np.ndarray, width: int, id_width: int
) -> bytes:
    """Return the vector file of a stream: TLAST above the data's ``width`` bits, TID above it."""
    marked = (values & (1 << width) - 1) | last.astype(np.int64) << width
    return hex_lines(marked | context << width + 1, width + 1 + id_width)


def _stream_files(trace: Trace, streams: list[Check], id_width: int) -> dict[str, bytes]:
    """Return the vectors of the three streams by file name."""
    results, logits = streams
    last, context = trace.last, trace.context
    final = np.zeros((len(trace.tokens), logits.count), dtype=np.int64)
    final[:, -1] = 1
    token, logit = trace.probes["token"], trace.probes["logits"]
    return {
        "stream_tokens.hex": stream_beats(trace.tokens, last, context, results.width, id_width),
        "stream_results.hex": stream_beats(token.ravel(), last, context, results.width, id_width),
        "stream_logits.hex": stream_beats(
            logit.reshape(final.shape), final, context[:, None], logits.width, id_width
        ),
    }


def write_bench(bench: Path, template: str, **variables: Any) -> None:
    """Write ``tb.v`` from a template, and the script that runs it, into folder ``bench``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    text = environment.get_template(template).render(variables)
    atomic_write(bench / "tb.v", text.encode())
    script = bench / "run.sh"
    atomic_write(script, (_TEMPLATES / "run.sh").read_bytes())
    script.chmod(0o755)


def write_testbench(
    folder: Path,
    *,
    top: str,
    program: Program,
    lanes: Lanes,
    schedule: Schedule,
    trace: Trace,
) -> None:
    """Write ``tb/tb.v``, ``tb/run.sh`` and ``tb/vectors/*.hex`` into a generated directory.

    Deterministic: the same arguments write the same bytes.

    Parameters
    ----------
    folder : generated directory, with ``rtl/*.v`` and ``mem/*.hex``
    top : name of the top module
    program, lanes, schedule : the design
    trace : golden vectors with states, made with ``reset_at_last``
    """
    bench = folder / "tb"
    streams, probes = _streams(program), []
    id_width = context_bits(lanes.contexts)
    files = _stream_files(trace, streams, id_width)
    for name, (width, signed) in probe_widths(program, lanes).items():
        values, offsets = expected_probe(name, program, lanes, trace), schedule.probes[name]
        probes.append(Check(name=name, width=width, signed=signed, count=len(offsets)))
        files[f"probe_{name}.hex"] = hex_lines(values, width)
        files[f"probe_{name}.cycles.hex"] = hex_lines(offsets, 32)
    for name, content in files.items():
        atomic_write(bench / "vectors" / name, content)
    write_bench(
        bench,
        "tb.v.j2",
        top=top,
        tokens=len(trace.tokens),
        vocabulary=program.shape.vocabulary,
        interval=schedule.interval,
        patience=4 * (schedule.interval + schedule.latency) + WATCHDOG_MARGIN,
        control_address=int(Register.CONTROL),
        control_value=_RESET_AT_LAST | _EMIT_LOGITS,
        address_width=address_bits(program, lanes),
        token_width=streams[0].width,
        logit_width=streams[1].width,
        id_width=id_width,
        probes=probes,
        streams=streams,
        values=sum(check.count for check in probes) * len(trace.tokens),
    )
