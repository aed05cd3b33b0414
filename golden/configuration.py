"""Shapes, schemes and presets: what is built and how wide its numbers are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from golden.errors import InputError
from golden.fixed_point import integer_range

_WIDTH_LIMITS: dict[str, tuple[int, int]] = {
    "weight_bits": (2, 8),
    "embedding_bits": (4, 8),
    "feature_bits": (8, 16),
    "convolution_weight_bits": (4, 8),
    "activation_bits": (4, 16),
    "projection_bits": (4, 16),
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
_OPTIONAL = ("rotation_bits", "projection_bits")

HEAD_TRITS = 6
"""Balanced ternary digits of a weight of the head in ternary schemes: lanes that add, subtract or
skip take one digit a cycle."""

_SIZE_LIMIT = 1 << 20
_TOKENS_LIMIT = 1 << 12


def _check_size(name: str, value: object, low: int, high: int = _SIZE_LIMIT) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise InputError(
            f"{name} = {value!r} is not an integer in {low}..{high}; give a size in that range"
        )


@dataclass(frozen=True, kw_only=True)
class PatchShape:
    """How overlapping patches of a frame's rows become its tokens: a convolution over time.

    Parameters
    ----------
    width : values that a row's features are projected to, C
    kernel : rows a token sees, P
    stride : rows from a token's first to the next token's first, S
    """

    width: int
    kernel: int
    stride: int

    def __post_init__(self) -> None:
        _check_size("width", self.width, 1)
        _check_size("kernel", self.kernel, 1, _TOKENS_LIMIT)
        _check_size("stride", self.stride, 1, self.kernel)


@dataclass(frozen=True, kw_only=True)
class FrameShape:
    """What a frame network reads and how its head ends: frames of feature vectors, not text.

    Parameters
    ----------
    features : values a row of the input, F
    tokens : tokens a frame, T
    hidden : width of the layer between the mean over the tokens and the head, H; the mean is a
        shift, so that T is a power of two then. None: the head reads the norms of all tokens
    patch : how rows become tokens; None if every row is a token
    """

    features: int
    tokens: int
    hidden: int | None = None
    patch: PatchShape | None = None

    def __post_init__(self) -> None:
        _check_size("features", self.features, 1)
        _check_size("tokens", self.tokens, 1, _TOKENS_LIMIT)
        if self.hidden is None:
            return
        _check_size("hidden", self.hidden, 1)
        if self.tokens & (self.tokens - 1):
            raise InputError(
                f"tokens = {self.tokens} is not a power of two; "
                "pad the frame, the head's mean over its tokens is a shift"
            )

    @property
    def tokens_log2(self) -> int:
        """The shift that divides a sum over a frame's tokens by their number."""
        return self.tokens.bit_length() - 1

    @property
    def rows(self) -> int:
        """Rows of features a frame: ``(T - 1) S + P`` with patches, else T."""
        if self.patch is None:
            return self.tokens
        return (self.tokens - 1) * self.patch.stride + self.patch.kernel

    @property
    def embedded(self) -> int:
        """Values that become one token: ``P C`` with patches, else F."""
        return self.features if self.patch is None else self.patch.kernel * self.patch.width


@dataclass(frozen=True, kw_only=True)
class AverageShape:
    """A mixer that keeps an exponential moving average a channel in place of a selective scan.

    ``s = lambda s + (1 - lambda) u`` with ``lambda = sigmoid(W u + b)``, W of full rank. Its
    convolution, if any, looks as far ahead as back, so that it needs whole frames.

    Parameters
    ----------
    gated : the average is multiplied by ``SiLU(z)``; without it there is no z
    """

    gated: bool = True


@dataclass(frozen=True, kw_only=True)
class HeadShape:
    """How a Mamba-2 block divides its E channels (Dao and Gu, arXiv:2405.21060).

    Parameters
    ----------
    size : channels a head, P; all of a head share A and the step size
    groups : groups of heads that share B and C, and whose channels are normalised together, G
    """

    size: int
    groups: int = 1

    def __post_init__(self) -> None:
        _check_size("head size", self.size, 1)
        _check_size("groups", self.groups, 1)


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """Sizes of a network, in the symbols of the Mamba papers.

    A language model reads tokens and gives logits for each; a frame network (``frame`` is not
    None) reads frames of feature vectors and gives one vector of outputs a frame.

    Parameters
    ----------
    vocabulary : number of token values, V; of a frame network the number of outputs
    d_model : width of the residual stream, D
    d_inner : width of the mixer, E
    d_state : state size a channel, N
    d_conv : taps of the causal depthwise convolution, K; of a moving average odd, and 1 is none
    dt_rank : rank of the step-size projection, R; of a moving average E, with heads 0
    n_layer : number of blocks, L
    mlp : hidden width of the gated MLP behind each mixer, H; None for blocks without one
    frame : front and head of a frame network; None for a language model
    average : a moving average mixes in place of the selective scan, in a frame network; N is 1
    heads : division of the channels of Mamba-2 blocks; None for others
    """

    vocabulary: int
    d_model: int
    d_inner: int
    d_state: int
    d_conv: int
    dt_rank: int = 0
    n_layer: int
    mlp: int | None = None
    frame: FrameShape | None = None
    average: AverageShape | None = None
    heads: HeadShape | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name in ("frame", "average", "heads", "dt_rank"):
                continue
            if field.name == "mlp" and self.mlp is None:
                continue
            low = 2 if field.name in ("vocabulary", "d_model", "d_inner", "mlp") else 1
            _check_size(field.name, getattr(self, field.name), low)
        if self.frame is not None and self.mlp is not None:
            raise InputError(
                f"mlp = {self.mlp} in a frame network; only language models have an MLP"
            )
        if self.heads is not None:
            self._check_heads(self.heads)
        else:
            _check_size("dt_rank", self.dt_rank, 1)
        if self.average is None:
            _check_size("d_conv", self.d_conv, 2)
            return
        if self.frame is None:
            raise InputError("a moving average mixes frames only; give the shape its frame")
        if self.d_conv % 2 == 0:
            raise InputError(
                f"d_conv = {self.d_conv} is even, the convolution of a moving average is centred; "
                f"use {self.d_conv + 1}"
            )
        if self.d_state != 1 or self.dt_rank != self.d_inner:
            raise InputError(
                f"d_state = {self.d_state} and dt_rank = {self.dt_rank}, a moving average has one "
                f"state a channel and a projection of full rank: 1 and {self.d_inner}"
            )

    def _check_heads(self, heads: HeadShape) -> None:
        if self.d_inner % heads.size:
            raise InputError(
                f"d_inner = {self.d_inner} is no multiple of the head size {heads.size}; "
                "choose one that divides it"
            )
        if self.step_sizes % heads.groups:
            raise InputError(
                f"groups = {heads.groups} is no divisor of {self.step_sizes} heads; choose one"
            )
        if self.dt_rank or self.frame is not None:
            raise InputError(
                f"a shape with heads has dt_rank = {self.dt_rank} and frame = {self.frame}; "
                "Mamba-2 has no projection of the step size, and frame networks have no heads: "
                "leave both out"
            )

    @property
    def step_sizes(self) -> int:
        """Step sizes a token: one a channel, E, or with heads one a head, H = E / P."""
        return self.d_inner // self.heads.size if self.heads else self.d_inner

    @property
    def groups(self) -> int:
        """Groups of channels that share B and C, G; 1 without heads."""
        return self.heads.groups if self.heads else 1

    @property
    def convolution_channels(self) -> int:
        """Channels of the convolution: x, E, and with heads also B and C, ``E + 2 G N``."""
        return self.d_inner + 2 * self.groups * self.d_state if self.heads else self.d_inner

    @property
    def gate_row(self) -> int:
        """First row of z in in_proj: x, with heads B, C and dt, come before it, z is last."""
        return self.convolution_channels + (self.step_sizes if self.heads else 0)

    @property
    def projected(self) -> int:
        """Rows that u is projected to: dt, B, C, ``R + 2 N``; of a moving average E, of heads 0."""
        if self.heads is not None:
            return 0
        return self.dt_rank + 2 * self.d_state if self.average is None else self.d_inner

    @property
    def gated(self) -> bool:
        """Whether the mixer has a gate."""
        return self.average is None or self.average.gated

    @property
    def convolved(self) -> bool:
        """Whether a convolution stands before the mixer."""
        return self.d_conv > 1

    @property
    def in_projected(self) -> int:
        """Rows of in_proj: those before z, and z if there is a gate."""
        return self.gate_row + self.d_inner * self.gated

    @property
    def head_inputs(self) -> int:
        """Columns of the head: H or T D of a frame network, else D."""
        if self.frame is None:
            return self.d_model
        hidden = self.frame.hidden
        return self.frame.tokens * self.d_model if hidden is None else hidden

    @classmethod
    def of_fields(cls, content: dict[str, Any]) -> NetworkShape:
        """Return the shape whose fields are nested dictionaries, as :func:`asdict` makes them.

        Raises
        ------
        TypeError
            If a field is missing or unknown.
        """
        own = dict(content)
        if (frame := own.get("frame")) is not None:
            patch = frame.get("patch")
            own["frame"] = FrameShape(**frame | {"patch": patch and PatchShape(**patch)})
        if (average := own.get("average")) is not None:
            own["average"] = AverageShape(**average)
        if (heads := own.get("heads")) is not None:
            own["heads"] = HeadShape(**heads)
        return cls(**own)


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
    ``feature_bits`` is the width of a frame network's input features; language models ignore it.
    ``decay_bits`` counts fractional bits: the decay ``exp(delta A)`` lies in 0..2**decay_bits.
    ``rotation_bits`` is the width of the gated values that a Hadamard transform rotates before they
    become out_proj's activations; None if nothing is rotated (Q10).
    ``projection_bits`` is the width of what in_proj, x_proj and out_proj read, if it is another
    than ``activation_bits``; the latter then holds for x, dt, B, C and the inputs of scan and head.
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
    ternary: bool = False

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


def _slim_shape(window: int, kernel: int = 1, stride: int = 1) -> NetworkShape:
    """Return the shape of a positioning network that reads so many frames of 2,100 features."""
    return NetworkShape(
        vocabulary=2,
        d_model=64,
        d_inner=128,
        d_state=1,
        d_conv=1,
        dt_rank=128,
        n_layer=3,
        frame=FrameShape(
            features=2100,
            tokens=(window - kernel) // stride + 1,
            patch=PatchShape(width=64, kernel=kernel, stride=stride),
        ),
        average=AverageShape(),
    )


PRESETS: dict[str, NetworkShape] = {
    "micro": NetworkShape(
        vocabulary=64, d_model=16, d_inner=32, d_state=4, d_conv=4, dt_rank=2, n_layer=1
    ),
    "micro-mamba2": NetworkShape(
        vocabulary=64,
        d_model=16,
        d_inner=32,
        d_state=8,
        d_conv=4,
        n_layer=1,
        heads=HeadShape(size=8, groups=2),
    ),
    "bytelm": NetworkShape(
        vocabulary=256, d_model=128, d_inner=256, d_state=16, d_conv=4, dt_rank=8, n_layer=5
    ),
    "byte-mamba2": NetworkShape(
        vocabulary=256,
        d_model=128,
        d_inner=256,
        d_state=64,
        d_conv=4,
        n_layer=5,
        heads=HeadShape(size=32),
    ),
    "bitbyte": NetworkShape(
        vocabulary=256,
        d_model=128,
        d_inner=256,
        d_state=16,
        d_conv=4,
        dt_rank=8,
        n_layer=3,
        mlp=192,
    ),
    "mars": NetworkShape(
        vocabulary=57,
        d_model=20,
        d_inner=40,
        d_state=8,
        d_conv=4,
        dt_rank=2,
        n_layer=2,
        frame=FrameShape(features=20, tokens=16, hidden=96),
    ),
    "slim": _slim_shape(window=16, kernel=8, stride=4),
    "slim-k1": _slim_shape(window=1),
    "slim-k2": _slim_shape(window=2),
    "mamba-130m": NetworkShape(
        vocabulary=50280, d_model=768, d_inner=1536, d_state=16, d_conv=4, dt_rank=48, n_layer=24
    ),
    "mamba2-130m": NetworkShape(
        vocabulary=50288,
        d_model=768,
        d_inner=1536,
        d_state=128,
        d_conv=4,
        n_layer=24,
        heads=HeadShape(size=64),
    ),
    "mamba-2.8b": NetworkShape(
        vocabulary=50280, d_model=2560, d_inner=5120, d_state=16, d_conv=4, dt_rank=160, n_layer=64
    ),
}


def find_scheme(name: str) -> Scheme:
    """Return the scheme called ``name``; raise InputError listing the known ones."""
    if name not in SCHEMES:
        raise InputError(f"unknown scheme {name!r}; choose one of {', '.join(SCHEMES)}")
    return SCHEMES[name]


def is_frame_preset(name: str) -> bool:
    """Return whether ``name`` is the preset of a frame network; other names may be anything."""
    return name in PRESETS and PRESETS[name].frame is not None


def find_preset(name: str) -> NetworkShape:
    """Return the shape called ``name``; raise InputError listing the known ones."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
