"""Schemes: how wide every kind of number is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from golden.errors import InputError
from golden.fixed_point import integer_range

_WIDTH_LIMITS: dict[str, tuple[int, int]] = {
    "weight_bits": (2, 8),
    "embedding_bits": (4, 16),
    "head_bits": (4, 16),
    "feature_bits": (8, 16),
    "convolution_weight_bits": (4, 8),
    "activation_bits": (4, 16),
    "projection_bits": (4, 16),
    "weight_group": (4, 1024),
    "residual_bits": (10, 18),
    "norm_weight_bits": (8, 16),
    "decay_rate_bits": (4, 16),
    "delta_bits": (4, 16),
    "decay_bits": (4, 16),
    "state_bits": (6, 18),
    "skip_bits": (8, 16),
    "scan_output_bits": (6, 18),
    "gate_bits": (6, 18),
    "logit_bits": (8, 20),
    "rotation_bits": (8, 18),
}
_OPTIONAL = ("head_bits", "rotation_bits", "projection_bits", "weight_group")

_CODE_BITS = 15
"""Widest codes with zero points: less those they are signed integers of 16 bits."""

GROUP_SHIFT_BITS = 2
"""Width of the shift of a group of weights: by up to 3 bits it may be coarser than its row."""


@dataclass(frozen=True, kw_only=True)
class DualScale:
    """The W4A5-SE storage of the scan input: a code and one flag that selects the scale (Q6).

    Parameters
    ----------
    code_bits : width of the symmetric code, so 4 means -7..7
    ratio_log2 : the coarse step is ``2**ratio_log2`` fine steps, so the MUX picks a shift
    """

    code_bits: int = 4
    ratio_log2: int = 2

    def __post_init__(self) -> None:
        if not 2 <= self.code_bits <= 8:
            raise InputError(f"code_bits = {self.code_bits} is outside 2..8; choose one of these")
        if not 0 <= self.ratio_log2 <= 4:
            raise InputError(
                f"ratio_log2 = {self.ratio_log2} is outside 0..4; hardware shifts by that much"
            )

    @classmethod
    def of_ratio(cls, ratio: float, code_bits: int = 4) -> DualScale:
        """Return the storage whose coarse step is ``ratio`` fine ones.

        Raises
        ------
        InputError
            If a shift cannot multiply by the ratio.
        """
        powers = {float(1 << log2): log2 for log2 in range(5)}
        if ratio not in powers:
            known = ", ".join(f"{power:g}" for power in powers)
            raise InputError(
                f"ratio = {ratio:g} is none of {known}, which hardware can shift by; "
                "simulate others with model.evaluate --modes research-se"
            )
        return cls(code_bits=code_bits, ratio_log2=powers[ratio])

    @property
    def code_limit(self) -> int:
        """Largest magnitude of a code; the most negative two's-complement code is not used."""
        return (1 << (self.code_bits - 1)) - 1

    @property
    def value_bits(self) -> int:
        """Width of the dequantized integer."""
        return self.code_bits + self.ratio_log2


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Widths in bits of every kind of number in a program; exponents belong to the program.

    ``dual_scale`` is None when the scan reads plain integers.
    ``embedding_bits`` is the width of the embedding's rows, or of the matrices in front of a frame
    network's blocks; ``head_bits`` that of the head's weights, if it is another. Both up to 16, at
    which they are as good as not quantized.
    ``feature_bits`` is the width of a frame network's input features; language models ignore it.
    ``decay_bits`` counts fractional bits: the decay ``exp(delta A)`` lies in 0..2**decay_bits.
    ``rotation_bits`` is the width of the gated values that a Hadamard transform rotates before they
    become out_proj's activations; None if nothing is rotated (Q10).
    ``projection_bits`` is the width of what in_proj, x_proj and out_proj read, if it is another
    than ``activation_bits``; the latter then holds for x, dt, B, C and the inputs of scan and head.
    ``asymmetric`` gives the codes that x_proj reads a zero point a channel (Q3): they are unsigned,
    as wide as the scheme's, and stand for code less zero point, an integer of one bit more.
    ``weight_group`` is how many columns of a matrix share a scale, a power of two: within a row a
    group of weights is up to three bits coarser than the row's exponent says (Q4). None gives a row
    one scale, as have dt_proj, the convolution and the head always.
    ``ternary`` restricts the blocks' matrices to -1, 0 and 1, stored in ``weight_bits`` = 2.
    """

    name: str
    weight_bits: int = 8
    embedding_bits: int = 8
    feature_bits: int = 12
    convolution_weight_bits: int = 8
    activation_bits: int = 8
    residual_bits: int = 18
    norm_weight_bits: int = 16
    decay_rate_bits: int = 10
    delta_bits: int = 12
    decay_bits: int = 12
    state_bits: int = 12
    skip_bits: int = 16
    scan_output_bits: int = 12
    gate_bits: int = 12
    logit_bits: int = 16
    dual_scale: DualScale | None = None
    rotation_bits: int | None = None
    projection_bits: int | None = None
    head_bits: int | None = None
    weight_group: int | None = None
    ternary: bool = False
    asymmetric: bool = False

    def __post_init__(self) -> None:
        for name, (low, high) in _WIDTH_LIMITS.items():
            value = getattr(self, name)
            if name in _OPTIONAL and value is None:
                continue
            if not isinstance(value, int) or not low <= value <= high:
                raise InputError(
                    f"{name} = {value!r} of scheme {self.name} is outside {low}..{high} bits; "
                    "choose a width in that range"
                )
        if self.weight_group is not None and self.weight_group & (self.weight_group - 1):
            raise InputError(
                f"weight_group = {self.weight_group} of scheme {self.name} is no power of two; "
                "choose one, such as 128"
            )
        if self.asymmetric and self.projection_input_bits > _CODE_BITS:
            raise InputError(
                f"scheme {self.name} is asymmetric with projections of "
                f"{self.projection_input_bits} bits; codes with zero points have {_CODE_BITS} at "
                "most"
            )
        if self.ternary and self.weight_group is not None:
            raise InputError(
                f"scheme {self.name} is ternary, a row of such weights has one scale; leave groups "
                "out"
            )
        if self.ternary and self.weight_bits != 2:
            raise InputError(
                f"scheme {self.name} is ternary with weight_bits = {self.weight_bits}; "
                "ternary weights take 2 bits"
            )

    @property
    def weight_range(self) -> tuple[int, int]:
        """Least and largest weight of the blocks' matrices."""
        return (-1, 1) if self.ternary else integer_range(self.weight_bits)

    @property
    def scaled_weight_bits(self) -> int:
        """Width of a block's weight in the unit of its row."""
        largest = 0 if self.weight_group is None else (1 << GROUP_SHIFT_BITS) - 1
        return self.weight_bits + largest

    @property
    def head_weight_bits(self) -> int:
        """Width of the weights of the head, and of a frame network's hidden layer before it."""
        return self.embedding_bits if self.head_bits is None else self.head_bits

    @property
    def head_trits(self) -> int:
        """Balanced ternary digits of a weight of the head in ternary schemes.

        Lanes that add, subtract or skip take one digit a cycle; 6 of them reach beyond 8 bits.
        """
        digits = 1
        while (3**digits - 1) // 2 < 1 << (self.head_weight_bits - 1):
            digits += 1
        return digits

    @property
    def projection_input_bits(self) -> int:
        """Width of what in_proj, x_proj and out_proj read."""
        return self.activation_bits if self.projection_bits is None else self.projection_bits

    @property
    def scan_input_bits(self) -> int:
        """Width of the integer u that the scan multiplies with."""
        return self.dual_scale.value_bits if self.dual_scale else self.activation_bits

    @property
    def scan_storage_bits(self) -> int:
        """Stored width of one scan input: code and flag, or the activation itself."""
        return self.dual_scale.code_bits + 1 if self.dual_scale else self.activation_bits

    @property
    def gated_bits(self) -> int:
        """Width of a gated value: wider than out_proj's input if it is still to be rotated."""
        return self.projection_input_bits if self.rotation_bits is None else self.rotation_bits

    @property
    def average_bits(self) -> int:
        """Width of a moving average: that of a state, but not less than its input's."""
        return max(self.state_bits, self.scan_input_bits)

    @property
    def lift(self) -> int:
        """Fraction bits that a moving average has more than its input; its range is the same."""
        return self.average_bits - self.scan_input_bits

    @property
    def update_bits(self) -> int:
        """Width of ``delta B u`` aligned to the product ``decay h``, with two guard bits."""
        return self.state_bits + self.decay_bits + 2


_SIX_BITS = DualScale(code_bits=5)
"""The texts' codes up to 15, which are 6 bits with their flag."""


def _rotated(name: str, **widths: Any) -> Scheme:
    """Return a scheme whose gated values are rotated; finer decay rates lose 0.07 % less."""
    return Scheme(name=name, rotation_bits=12, decay_rate_bits=12, **widths)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(name="w8a8"),
        Scheme(name="w4a8", weight_bits=4),
        # 16 bits of B and C would not fit the read-out's accumulator for 64 states and more.
        Scheme(name="w4a16", weight_bits=4, activation_bits=12, projection_bits=16),
        Scheme(name="w4a6-se", weight_bits=4, dual_scale=_SIX_BITS),
        Scheme(name="w4a5-se", weight_bits=4, dual_scale=DualScale()),
        Scheme(name="ternary", weight_bits=2, ternary=True),
        _rotated("w8a8-h"),
        _rotated("w4a8-h", weight_bits=4),
        _rotated("w4a6-se-h", weight_bits=4, dual_scale=_SIX_BITS),
        _rotated("w4a5-se-h", weight_bits=4, dual_scale=DualScale()),
        # What a matrix reads is 4 bits, the scan and the head keep 8 (LightMamba, Wei et al. 2025).
        _rotated("w4a4-h", weight_bits=4, projection_bits=4),
        _rotated("ternary-h", weight_bits=2, ternary=True),
    )
}
"""Schemes by name; ``-h`` rotates out_proj's input by a Hadamard transform."""


def find_scheme(name: str) -> Scheme:
    """Return the scheme called ``name``; raise InputError listing the known ones."""
    if name not in SCHEMES:
        raise InputError(f"unknown scheme {name!r}; choose one of {', '.join(SCHEMES)}")
    return SCHEMES[name]
