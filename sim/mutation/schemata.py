"""Builds faults into generated Verilog so that a plusarg selects one of them at run time."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from golden.errors import InputError

SELECTOR = "mutant"
"""Name of the plusarg and of the variable that every faulty module gets; 0 selects no fault."""

_HEADER_END = re.compile(r"^module [^;]*;", re.MULTILINE)
_DECLARATION = f"""
  integer {SELECTOR};
  initial if (!$value$plusargs("{SELECTOR}=%d", {SELECTOR})) {SELECTOR} = 0;"""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of one expression of the generated Verilog.

    Parameters
    ----------
    name : unique, for reports
    unit : module, its name without that of the top; empty for the top itself
    kind : what is wrong, in words
    pattern : regular expression that finds the place; its group ``site`` is the expression that
        becomes faulty
    faulty : the faulty expression; ``{site}`` and the pattern's other named groups are inserted
    places : how often the pattern must match. Yosys writes a shared expression of the source once
        for each use; the fault is then in all of them.
    """

    name: str
    unit: str
    kind: str
    pattern: str
    faulty: str
    places: int = 1


def _selected(match: re.Match[str], number: int, faulty: str) -> tuple[int, int, str]:
    """Return start, end and replacement of the site of one match."""
    groups = {name: text.strip() for name, text in match.groupdict().items() if text is not None}
    wrong = faulty.format(**groups)
    # A blank ends escaped identifiers, which may stand at the end of an expression.
    text = f"({SELECTOR} == {number} ? ({wrong} ) : ({match['site']} ))"
    return match.start("site"), match.end("site"), text


def inject(text: str, faults: Mapping[int, Fault]) -> str:
    """Return a module's Verilog with ``faults``, by number, selectable.

    Raises
    ------
    InputError
        If a pattern does not match as often as its fault says, or two faults overlap.
    """
    edits = []
    for number, fault in faults.items():
        matches = list(re.finditer(fault.pattern, text))
        if len(matches) != fault.places:
            raise InputError(
                f"fault {fault.name}: {fault.pattern!r} matches {len(matches)} times in module "
                f"{fault.unit or 'top'}, expected {fault.places}; adapt the fault to the Verilog"
            )
        edits += [(*_selected(match, number, fault.faulty), fault.name) for match in matches]
    edits.sort(key=lambda edit: edit[0])
    for (_, end, _, one), (start, _, _, other) in pairwise(edits):
        if start < end:
            raise InputError(f"faults {one} and {other} change the same place; move one of them")
    for start, end, replacement, _ in reversed(edits):
        text = text[:start] + replacement + text[end:]
    header = _HEADER_END.search(text)
    if header is None:
        raise InputError("the Verilog holds no module; generate it anew")
    return text[: header.end()] + _DECLARATION + text[header.end() :]


def build_schemata(design: Path, top: str, faults: Sequence[Fault], folder: Path) -> None:
    """Copy a generated design to ``folder`` with all ``faults`` built in, numbered from 1.

    Raises
    ------
    InputError
        If a fault does not fit the Verilog; the message names it.
    """
    shutil.copytree(design, folder)
    of_unit: dict[str, dict[int, Fault]] = {}
    for number, fault in enumerate(faults, start=1):
        of_unit.setdefault(fault.unit, {})[number] = fault
    for unit, inside in of_unit.items():
        path = folder / "rtl" / f"{top}_{unit}.v" if unit else folder / "rtl" / f"{top}.v"
        if not path.is_file():
            names = ", ".join(fault.name for fault in inside.values())
            raise InputError(f"there is no module {path.stem}; adapt the faults {names}")
        path.write_text(inject(path.read_text(), inside))


def flip_bit(image: Path, word: int, bit: int) -> None:
    """Flip one bit of one word of a memory image.

    Raises
    ------
    InputError
        If the image has no such bit.
    """
    lines = image.read_text().splitlines()
    if not 0 <= word < len(lines) or not 0 <= bit < 4 * len(lines[word]):
        raise InputError(f"{image.name} has no bit {bit} in word {word}; adapt the fault")
    digits = len(lines[word])
    lines[word] = f"{int(lines[word], 16) ^ (1 << bit):0{digits}x}"
    image.write_text("\n".join(lines) + "\n")
