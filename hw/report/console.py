"""The report as tables, and the progress of the tools."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from hw.report.targets import LIBERTY


def _cells_table(report: dict[str, Any]) -> Table:
    kinds = list(report["cells"])
    table = Table(title=f"{report['preset']} {report['scheme']} on {report['target']}")
    table.add_column("component")
    for kind in kinds:
        table.add_column(kind.removeprefix("TRELLIS_"), justify="right")
    for name, cells in report["components"].items():
        table.add_row(name, *(f"{cells[kind]:,}" if kind in cells else "" for kind in kinds))
    table.add_section()
    table.add_row("total", *(f"{report['cells'][kind]:,}" for kind in kinds))
    return table


def _gates_table(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['preset']} {report['scheme']} on {report['target']}")
    table.add_column("instance")
    table.add_column("NAND2-equivalents", justify="right")
    for name, value in report["standard_cells"]["nand2_equivalents_by_instance"].items():
        if value:
            table.add_row(name, f"{value:,.0f}")
    table.add_section()
    table.add_row("total", f"{report['standard_cells']['nand2_equivalents']:,.0f}")
    return table


def show(console: Console, report: dict[str, Any]) -> None:
    """Print the cells by component, and the clock with its critical path or the gates' delay."""
    if report["target"].startswith(LIBERTY):
        measures = report["standard_cells"]
        console.print(_gates_table(report))
        console.print(
            f"longest path {measures['delay_ps'] / 1000:.2f} ns without wires (ABC); "
            f"{measures['memories']} memories are not in the area",
            highlight=False,
        )
        return
    console.print(_cells_table(report))
    if "clock_mhz" not in report:
        return
    work = "frame" if "cycles_per_frame" in report else "token"
    seeds = ", ".join(f"{value:.1f}" for value in report["clock_mhz_by_seed"].values())
    console.print(
        f"{report['clock_mhz']:.1f} MHz median of seeds 1 to {len(report['clock_mhz_by_seed'])} "
        f"({seeds}) on {report['device']}; {report[f'cycles_per_{work}']:,} cycles a {work}, "
        f"{report[f'{work}s_per_second']:,.0f} {work}s/s; ports {report['ports']}",
        highlight=False,
    )
    path = report["critical_path"]
    console.print(
        f"critical path of seed {path['seed']}: {path['logic_ns']:.1f} ns logic, "
        f"{path['routing_ns']:.1f} ns routing, through",
        highlight=False,
    )
    for signal in path["signals"]:
        console.print(f"  {signal}", highlight=False, markup=False)
