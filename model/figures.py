"""What the figures of the studies share: repeatable SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["svg_bytes"]


def svg_bytes(figure: Figure) -> bytes:
    """Return ``figure`` as SVG; equal figures give equal bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "scanwright", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    return text.getvalue().encode()
