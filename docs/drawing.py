"""Boxes, arrows and text of the pictures in the documentation, as SVG."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Box", "Wire", "caption", "document"]

STYLE = """\
    svg { color-scheme: light dark; font: 14px sans-serif; }
    .page { fill: #ffffff; }
    .unit { fill: #eef2f7; stroke: #55677d; stroke-width: 1.5; }
    .optional { fill: #ffffff; stroke: #55677d; stroke-width: 1.5; stroke-dasharray: 6 3; }
    .part { fill: #ffffff; stroke: #8b9bb0; }
    .port { fill: none; stroke: none; }
    .array { fill: #3b76b5; } .scan { fill: #c47a1d; } .other { fill: #5d8a54; }
    .wire { fill: none; stroke: #55677d; stroke-width: 1.5; }
    .start { stroke-dasharray: 4 4; }
    .head { fill: #55677d; }
    .name { fill: #16202c; font-weight: bold; }
    .text { fill: #16202c; font-size: 12px; }
    .value { fill: #1f5c99; font-size: 12px; font-style: italic; }
    .bar { fill: #ffffff; font-size: 12px; }
    .grid { stroke: #c9d2dc; }
    @media (prefers-color-scheme: dark) {
      .page { fill: #10161d; }
      .unit { fill: #1c2733; stroke: #8ea0b5; }
      .optional { fill: #10161d; stroke: #8ea0b5; }
      .part { fill: #10161d; stroke: #5d6f84; }
      .wire { stroke: #8ea0b5; }
      .head { fill: #8ea0b5; }
      .name, .text { fill: #e4ebf2; }
      .value { fill: #8cc0f5; }
      .grid { stroke: #33414f; }
    }"""


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and lines of text; ``unit`` names the instances that it stands for.

    Parameters
    ----------
    x, y, width, height : in pixels
    title, lines : text
    units : instances within the engine, or "control" beside it
    kind : class of the rectangle
    """

    x: int
    y: int
    width: int
    height: int
    title: str
    lines: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    kind: str = "unit"

    def svg(self) -> list[str]:
        """Return the elements of the box."""
        top = self.y + 22 if self.title else self.y + 4
        place = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}"'
        drawn = [f'<rect class="{self.kind}" {place} rx="4"/>']
        if self.title:
            drawn.append(caption(self.x + 10, top, self.title, "name"))
        return drawn + [
            caption(self.x + 10, top + 17 * (number + bool(self.title)), line, "text")
            for number, line in enumerate(self.lines)
        ]


@dataclass(frozen=True)
class Wire:
    """An arrow along corner points, with the probe points that it carries.

    Parameters
    ----------
    points : corners
    label : text beside it
    at : where the label starts
    probes : probe points that the label stands for
    """

    points: tuple[tuple[int, int], ...]
    label: str
    at: tuple[int, int]
    probes: tuple[str, ...] = ()
    kind: str = "wire"

    def svg(self) -> list[str]:
        """Return the line, its arrow head and its label."""
        path = " ".join(
            f"{'ML'[position > 0]}{x} {y}" for position, (x, y) in enumerate(self.points)
        )
        drawn = [f'<path class="{self.kind}" d="{path}" marker-end="url(#head)"/>']
        return [*drawn, caption(*self.at, self.label, "value")] if self.label else drawn


def caption(x: int, y: int, words: str, kind: str, anchor: str = "start") -> str:
    """Return an element of text that begins, or has its middle, at a point."""
    escaped = words.replace("&", "&amp;").replace("<", "&lt;")
    placed = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{x}" y="{y}"{placed}>{escaped}</text>'


def document(width: int, height: int, title: str, elements: list[str]) -> str:
    """Return a picture in pixels, light or dark as its reader's pages are."""
    marker = (
        '<marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto" '
        'markerUnits="userSpaceOnUse"><path class="head" d="M0 0 L9 4 L0 8 z"/></marker>'
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"  <title>{title}</title>",
        f"  <style>\n{STYLE}\n  </style>",
        f"  <defs>{marker}</defs>",
        f'  <rect class="page" width="{width}" height="{height}" rx="8"/>',
        *(f"  {element}" for element in elements),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
