"""Pictures of a report: area by component, clock over seeds, the schedule as a Gantt chart."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from golden.command import atomic_write
from hw.report.gantt import Chart

_STAGES = {
    "rows": ("#bab0ac", "projection of rows"),
    "front": ("#ff9da6", "embedding"),
    "in_x": ("#4c78a8", "in_proj, x rows"),
    "x": ("#4c78a8", "in_proj, x rows"),
    "x_proj": ("#72b7b2", "x_proj"),
    "projected": ("#72b7b2", "x_proj"),
    "in_dt": ("#83bcb6", "in_proj, dt rows"),
    "in_z": ("#9ecae9", "in_proj, z rows"),
    "z": ("#9ecae9", "in_proj, z rows"),
    "scan": ("#b279a2", "scan"),
    "out": ("#54a24b", "out_proj"),
    "mlp_z": ("#d6a5c9", "MLP, z rows"),
    "mlp_up": ("#ffbf79", "MLP, up rows"),
    "mlp_out": ("#88d27a", "MLP, down"),
    "hidden": ("#9d755d", "hidden layer"),
    "head": ("#eeca3b", "head"),
}
"""Colour and label of what the units work on, in the names of both organisations."""
_IDLE = "#e45756"
_RESOURCES = (
    ("TRELLIS_COMB", "COMB"),
    ("TRELLIS_FF", "FF"),
    ("MULT18X18D", "MULT18X18D"),
    ("DP16KD", "DP16KD"),
)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes depend on the figure alone."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "scanwright"}):
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    atomic_write(path, buffer.getvalue())


def _resources(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the cell types to draw: the ECP5's known ones, else the commonest of the target."""
    known = [(kind, label) for kind, label in _RESOURCES if kind in report["cells"]]
    if known:
        return known
    common = sorted(report["cells"].items(), key=lambda item: -item[1])[:4]
    return [(kind, kind) for kind, _ in common]


def area(report: dict[str, Any]) -> Figure:
    """Draw the cells of each component, one panel a cell type, largest component on top."""
    title = f"{report['preset']} {report['scheme']} on {report['target']}: cells by component"
    if "standard_cells" in report:
        gates = _joined_gates(report)
        panels = [("NAND2-equivalents", gates)]
    else:
        panels = [
            (label, {name: cells.get(kind, 0) for name, cells in report["components"].items()})
            for kind, label in _resources(report)
        ]
    order = sorted(panels[0][1], key=lambda name: panels[0][1][name])
    figure = Figure(figsize=(3 + 3 * len(panels), 0.8 + 0.32 * len(order)), layout="constrained")
    figure.suptitle(title)
    for number, (label, values) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        heights = [values.get(name, 0) for name in order]
        drawn = axes.barh(order, heights, color="#4c78a8")
        axes.bar_label(drawn, [f"{value:,.0f}" if value else "" for value in heights], padding=2)
        axes.set_title(f"{label}, {sum(heights):,.0f} in all", fontsize=10)
        axes.margins(x=0.25)
        axes.set_xticks([])
        axes.tick_params(axis="y", labelleft=number == 0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def _joined_gates(report: dict[str, Any]) -> dict[str, float]:
    """Return the NAND2-equivalents of each component."""
    joined = dict.fromkeys(report["components"], 0.0)
    for path, value in report["standard_cells"]["nand2_equivalents_by_instance"].items():
        name = ".".join(path.split(".")[:2])
        joined[name] = joined.get(name, 0.0) + value
    return joined


def clock(report: dict[str, Any]) -> Figure:
    """Draw the routed clock of every seed, the median and the clock asked for."""
    seeds = report["clock_mhz_by_seed"]
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.bar(list(seeds), list(seeds.values()), color="#4c78a8", width=0.6)
    axes.bar_label(drawn, [f"{value:.1f}" for value in seeds.values()], padding=2)
    median = report["clock_mhz"]
    axes.axhline(median, color="black", label=f"median {median:.1f} MHz")
    target = report["target_mhz"]
    axes.axhline(target, color=_IDLE, linestyle="--", label=f"asked for {target:.0f} MHz")
    axes.set(
        xlabel="seed", ylabel="MHz after routing", ylim=(0, 1.3 * max(*seeds.values(), target))
    )
    axes.legend(loc="upper right", ncols=2, frameon=False)
    axes.set_title(f"{report['preset']} {report['scheme']}, {report['device']}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def schedule(report: dict[str, Any], chart: Chart) -> Figure:
    """Draw one token or frame: every unit a row as high as its lanes, idle lane-cycles in red."""
    rows = len(chart.lanes)
    end = chart.start + chart.cycles
    figure = Figure(figsize=(13, 2.2 + 0.8 * rows), layout="constrained")
    axes = figure.add_subplot()
    for row, unit in enumerate(chart.lanes):
        base = rows - 1 - row + 0.1
        axes.broken_barh([(chart.start, chart.cycles)], (base, 0.8), color=_IDLE, linewidth=0)
        for bar in (bar for bar in chart.bars if bar.unit == unit):
            axes.broken_barh(
                [(bar.start, bar.end - bar.start)],
                (base, 0.8 * bar.busy),
                facecolor=_STAGES[bar.name][0],
                edgecolor="white",
                linewidth=0.3,
            )
    names = [
        f"{unit}, {lanes} {'lane' if lanes == 1 else 'lanes'}\n{chart.useful(unit):.1%} useful"
        for unit, lanes in chart.lanes.items()
    ]
    axes.set_yticks([rows - 0.5 - row for row in range(rows)], names)
    axes.axvline(end, color="black", linewidth=1.2)
    axes.text(end, rows + 0.02, f"next {chart.work}", ha="center", va="bottom")
    axes.set(xlim=(chart.start, chart.start + 1.01 * chart.cycles), ylim=(0, rows))
    axes.set_xlabel("cycle, at full speed; a bar is as high as the share of lanes it uses")
    title = f"{report['preset']} {report['scheme']}: {chart.cycles:,} cycles a {chart.work}"
    axes.set_title(title, loc="left", fontsize=11, pad=16)
    used = {bar.name for bar in chart.bars}
    handles = [Patch(color=c, label=label) for key, (c, label) in _STAGES.items() if key in used]
    handles.append(Patch(color=_IDLE, label="idle lane-cycles"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def write_pictures(folder: Path, report: dict[str, Any], chart: Chart) -> list[Path]:
    """Write ``area.png``, ``schedule.png`` and, of a routed design, ``clock.png``."""
    figures = {"area": area(report), "schedule": schedule(report, chart)}
    if "clock_mhz" in report:
        figures["clock"] = clock(report)
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in figures]
