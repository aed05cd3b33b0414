"""The largest losses, in percent of the float network's bits a byte, that the project asks for."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ANY_SCALE", "PLAIN", "POWERS_OF_TWO", "TRAINED"]

PLAIN: Mapping[str, float] = {"w8a8": 1.0, "w4a8": 4.5, "w4a5-se": 6.0}
"""Without rotation, quantized after training."""
POWERS_OF_TWO: Mapping[str, float] = {
    "w8a8-h": 0.25, "w4a8-h": 1.7, "w4a5-se-h": 2.7, "w4a4-h": 8.0,
}  # fmt: skip
"""Quantized after training, scales are powers of two."""
ANY_SCALE: Mapping[str, float] = {
    "w8a8-h": 0.15, "w4a8-h": 1.1, "w4a5-se-h": 2.0, "w4a4-h": 6.0,
}  # fmt: skip
"""Quantized after training, scales are real."""
TRAINED: Mapping[str, float] = {
    "w8a8-h": 0.10, "w4a8-h": 0.8, "w4a5-se-h": 1.2, "w4a4-h": 2.5,
}  # fmt: skip
"""Trained on in its integers, scales are powers of two."""
