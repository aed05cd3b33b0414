"""What a design is synthesized for, and the Yosys commands of each target."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

from golden import command
from golden.errors import InputError
from hw.parameter_memory import ROM_MODULE

ECP5, XILINX, LIBERTY = "ecp5", "xilinx", "liberty"
KINDS = f"{ECP5}, {XILINX}, {LIBERTY}:FILE"

_ABC = (
    "+strash;&get,-n;&fraig,-x;&put;scorr;dc2;dretime;strash;&get,-n;&dch,-f;&nf;&put;topo;stime,-p"
)
"""Yosys' own script for a library, and after it the longest path."""


@dataclass(frozen=True)
class Target:
    """A device family or a standard-cell library.

    Parameters
    ----------
    kind : ecp5, xilinx (UltraScale+) or liberty
    library : the Liberty file, plain or gzip, of kind liberty only
    """

    kind: str
    library: Path | None = None

    @property
    def name(self) -> str:
        """Return the target as the user gave it, without the folders of a library."""
        return self.kind if self.library is None else f"{self.kind}:{self.library.name}"

    @property
    def digest(self) -> str:
        """Return what tells this target from another: the kind, and the library's digest."""
        if self.library is None:
            return self.kind
        return f"{self.kind}:{command.digest(self.library.read_bytes())}"


def parse_target(text: str) -> Target:
    """Return the target called ``ecp5``, ``xilinx`` or ``liberty:FILE``.

    Raises
    ------
    InputError
        If it is none of these or the library does not exist.
    """
    kind, colon, path = text.partition(":")
    if kind in (ECP5, XILINX) and not colon:
        return Target(kind)
    if kind != LIBERTY or not path:
        raise InputError(f"unknown target {text!r}; choose one of {KINDS}")
    library = Path(path)
    if not library.is_file():
        raise InputError(f"no Liberty file {path}; give liberty:FILE with a .lib or .lib.gz file")
    return Target(LIBERTY, library)


def library_text(library: Path) -> str:
    """Return a Liberty file's text, unpacked if it is gzip."""
    data = library.read_bytes()
    try:
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{library} is no Liberty file: {error}") from error


def synthesis_commands(target: Target, top: str, library: Path | None) -> list[str]:
    """Return the commands from a read design to its cells.

    Private names are enumerated first: Amaranth's ``$5`` clashes with names that ABC invents.
    Public names stay, so that cells and nets keep the design's own.

    Parameters
    ----------
    target : kind of cells
    top : name of the top module
    library : the unpacked Liberty file, for ABC; of kind liberty only
    """
    commands = [f"hierarchy -check -top {top}", "rename -enumerate"]
    if target.kind == ECP5:
        # A memory in logic is mapped by itself: among other logic ABC lets its words share terms
        # over six levels, as it saves area wherever a path of the design is longer.
        roms = f"*{ROM_MODULE}*"
        return [
            *commands,
            f"setattr -mod -set keep_hierarchy 1 {roms}",
            f"synth_ecp5 -top {top}",
            f"setattr -mod -unset keep_hierarchy {roms}",
            "flatten",
        ]
    if target.kind == XILINX:
        # Pads and clock buffers belong to a board, not to the design.
        family = "synth_xilinx -family xcup -flatten -noiopad -noclkbuf"
        return [*commands, f"{family} -top {top}", "autoname"]
    # Memories stay cells of their own: a chip has them from a memory compiler.
    return [
        *commands,
        f"synth -flatten -run begin:fine -top {top}",
        "opt -fast -full",
        "opt -undriven -fine",
        "techmap",
        "opt -fast",
        f"dfflibmap -liberty {library}",
        f"abc -liberty {library} -script {_ABC}",
        "opt_clean",
        # Which pins are outputs, for the names.
        f"read_liberty -lib {library}",
        # Cells without a name of their own take that of the net they drive, as above.
        "autoname",
    ]
