"""The child process of :mod:`hw.report.yosys`: runs a file of Yosys commands, one a line."""

from __future__ import annotations

import sys
from pathlib import Path

from pyosys import libyosys

if __name__ == "__main__":
    design = libyosys.Design()
    for command in Path(sys.argv[1]).read_text().splitlines():
        design.run_pass(command)
