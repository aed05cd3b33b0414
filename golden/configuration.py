"""Shapes of networks: what is built."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from golden.errors import InputError

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
