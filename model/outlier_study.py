"""What rotation and dual scale are worth: variants of the quantizer beside each other.

Each variant quantizes the same network, as it was trained or with planted outlier channels, without
the loss's gradients, so that nothing but what its name says differs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from golden.scheme import DualScale, Scheme, find_scheme
from model.formats import FormatChoice
from model.quantizer import QuantizationChoice

__all__ = ["VARIANTS", "Variant"]


_USUAL = QuantizationChoice(scale=False)
"""No factors that the function does not notice: they would blur what is compared."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to quantize.

    Parameters
    ----------
    name : of its record
    text : what a reader is told
    question : which variants it is compared with
    scheme : widths
    choice : options of the quantizer
    """

    name: str
    text: str
    question: str
    scheme: Scheme
    choice: QuantizationChoice = _USUAL


def _w4a4(name: str, text: str, *, transform: bool, choice: QuantizationChoice) -> Variant:
    rotated = find_scheme("w4a4-h")
    scheme = rotated if transform else dataclasses.replace(rotated, rotation_bits=None)
    return Variant(
        name=f"w4a4-{name}", text=text, question="4-bit inputs of the matrices", scheme=scheme,
        choice=choice,
    )  # fmt: skip


def _scan_input(name: str, text: str, dual: DualScale | None) -> Variant:
    scheme = dataclasses.replace(find_scheme("w4a8-h"), dual_scale=dual)
    return Variant(
        name=f"w4a8-u-{name}", text=text, question="the scan's input u in w4a8-h", scheme=scheme
    )


_PLAIN = dataclasses.replace(_USUAL, rotate=False, level=False, formats=FormatChoice(common=True))

VARIANTS = (
    _w4a4("rotated", "residual stream and out_proj's input rotated", transform=True,
          choice=_USUAL),
    _w4a4("residual", "residual stream rotated", transform=False, choice=_USUAL),
    _w4a4("levelled", "no rotation, channels levelled by powers of two", transform=False,
          choice=dataclasses.replace(_USUAL, rotate=False)),
    _w4a4("plain", "no rotation, one range a tensor", transform=False, choice=_PLAIN),
    _scan_input("8", "8 bits", None),
    _scan_input("4-and-flag", "4 bits and a flag, coarse step 4 times the fine one", DualScale()),
    _scan_input("5", "5 bits", DualScale(code_bits=5, ratio_log2=0)),
    _scan_input("4", "4 bits", DualScale(ratio_log2=0)),
)  # fmt: skip
"""Of each question the best one first. A ratio of one makes the flag meaningless: a plain code."""
