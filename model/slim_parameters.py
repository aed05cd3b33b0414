"""The float weights of a positioning network as NumPy arrays, and the values that they compute.

The two linear maps at its end become one matrix over all tokens, a mean over the tokens included,
so that the integer network has one head whatever the float one has.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from golden.configuration import AverageShape, FrameShape, NetworkShape, PatchShape
from golden.errors import InputError
from model.float_simulation import rms_norm, silu
from model.rotation import random_rotation
from model.slim import SlimBlock, SlimNetwork
from model.slim_configuration import SlimConfiguration

__all__ = [
    "SlimLayerParameters", "SlimParameters", "SlimValues", "extract_slim_parameters", "slim_shape",
]  # fmt: skip

Reals = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class SlimLayerParameters:
    """One block: weights as in :class:`golden.average.AverageLayer`, in float64.

    Parameters
    ----------
    norm_weight : (d,)
    in_proj : rows of x, and of z if there is a gate, (2e, d) or (e, d)
    taps, taps_bias : (e, K) and (e,), or None
    dt_proj, dt_bias : (e, e) and (e,)
    out_proj : (d, e)
    """

    norm_weight: Reals
    in_proj: Reals
    taps: Reals | None
    taps_bias: Reals | None
    dt_proj: Reals
    dt_bias: Reals
    out_proj: Reals


@dataclass(frozen=True, kw_only=True)
class SlimParameters:
    """A positioning network in float64.

    Parameters
    ----------
    shape : of the integer network
    rows, rows_bias : projection of a frame of features, (c, F) and (c,)
    projection : of P projected rows, one after the other, (d, P c)
    position : bias of the patches and positions, (T, d)
    layers : the blocks
    final_norm_weight : (d,)
    head, head_bias : of all tokens, one after the other, (V, T d) and (V,)
    """

    shape: NetworkShape
    rows: Reals
    rows_bias: Reals
    projection: Reals
    position: Reals
    layers: tuple[SlimLayerParameters, ...]
    final_norm_weight: Reals
    head: Reals
    head_bias: Reals

    def rotated(self, seed: int) -> SlimParameters:
        """Return the same function with a rotated residual stream; see :mod:`model.rotation`."""
        rotation = random_rotation(self.shape.d_model, seed)
        layers = tuple(
            dataclasses.replace(
                own,
                norm_weight=np.ones_like(own.norm_weight),
                in_proj=(own.in_proj * own.norm_weight) @ rotation,
                out_proj=rotation.T @ own.out_proj,
            )
            for own in self.layers
        )
        tokens = self.head.reshape(len(self.head), -1, self.shape.d_model)  # V T d
        head = (tokens * self.final_norm_weight) @ rotation
        return dataclasses.replace(
            self,
            projection=rotation.T @ self.projection,
            position=self.position @ rotation,
            layers=layers,
            final_norm_weight=np.ones_like(self.final_norm_weight),
            head=head.reshape(self.head.shape),
        )

    def patches(self, rows: Reals) -> Reals:
        """Return the patches (b, T, P c) of projected rows (b, K, c)."""
        frame = self.shape.frame
        assert frame is not None  # a positioning network reads frames
        assert frame.patch is not None
        first = np.arange(frame.tokens)[:, None] * frame.patch.stride
        chosen = rows[:, first + np.arange(frame.patch.kernel)]  # b T P c
        return chosen.reshape(*chosen.shape[:2], -1)


@dataclass(frozen=True, kw_only=True)
class SlimValues:
    """What the float network computes of some windows.

    Parameters
    ----------
    rows : projected rows (b, K, c)
    embedded : residual stream before the blocks (b, T, d)
    blocks : by name, of each block: norm, x, z (with a gate), convolution (with one), u, dt_raw,
        state, gate (with one), gated, out, residual (after the block), (b, T, ...)
    norm : final norm (b, T, d)
    outputs : (b, V)
    """

    rows: Reals
    embedded: Reals
    blocks: list[dict[str, Reals]]
    norm: Reals
    outputs: Reals

    @classmethod
    def of(cls, own: SlimParameters, features: Reals) -> SlimValues:
        """Run the network on windows (b, K, F)."""
        rows = features @ own.rows.T.astype(features.dtype) + own.rows_bias  # b K c
        embedded = own.patches(rows) @ own.projection.T + own.position  # b T d
        residual, blocks = embedded, []
        for layer in own.layers:
            values = _block_values(layer, residual, own.shape)
            blocks.append(values)
            residual = values["residual"]
        norm = rms_norm(residual, own.final_norm_weight)  # b T d
        outputs = norm.reshape(len(norm), -1) @ own.head.T + own.head_bias  # b V
        return cls(rows=rows, embedded=embedded, blocks=blocks, norm=norm, outputs=outputs)


def _block_values(own: SlimLayerParameters, residual: Reals, shape: NetworkShape) -> dict[str, Any]:
    """Return the values of one block on its residual stream (b, T, d)."""
    e, values = shape.d_inner, {"norm": rms_norm(residual, own.norm_weight)}
    projected = values["norm"] @ own.in_proj.T  # b T 2e
    raw = values["x"] = projected[..., :e]
    if own.taps is not None and own.taps_bias is not None:
        raw = values["convolution"] = centred(raw, own.taps) + own.taps_bias
    u = values["u"] = silu(raw)
    values["dt_raw"] = u @ own.dt_proj.T + own.dt_bias
    decay = 1.0 / (1.0 + np.exp(-values["dt_raw"]))
    state, average = np.empty_like(u), np.zeros_like(u[:, 0])
    for t in range(u.shape[1]):
        average = state[:, t] = decay[:, t] * average + (1.0 - decay[:, t]) * u[:, t]
    values["state"] = values["gated"] = state
    if shape.gated:
        values["z"] = projected[..., e:]
        values["gate"] = silu(values["z"])
        values["gated"] = state * values["gate"]
    values["out"] = values["gated"] @ own.out_proj.T
    values["residual"] = residual + values["out"]
    return values


def centred(x: Reals, taps: Reals) -> Reals:
    """Return the depthwise convolution of x (b, T, e) with taps (e, K), K odd, zeros around."""
    half = taps.shape[1] // 2
    padded = np.pad(x, ((0, 0), (half, half), (0, 0)))
    windows = [padded[:, k : k + x.shape[1]] for k in range(taps.shape[1])]
    return np.einsum("kbte,ek->bte", np.stack(windows), taps)


def slim_shape(configuration: SlimConfiguration) -> NetworkShape:
    """Return the shape of a configuration's integer network.

    Raises
    ------
    InputError
        If the network has Mamba blocks or takes a maximum over its tokens, or its last frames fill
        no patch.
    """
    c = configuration
    if c.mixer != "slim" or c.head == "max":
        raise InputError(
            f"a network with {c.mixer} blocks and the head {c.head!r} has no integer program; "
            "quantize one with slim blocks and the head 'flat' or 'mean'"
        )
    patch = PatchShape(width=c.projection, kernel=c.patch, stride=c.stride)
    frame = FrameShape(features=c.features, tokens=c.tokens, patch=patch)
    if frame.rows != c.window:
        raise InputError(
            f"patches of {c.patch} frames every {c.stride} fill {frame.rows} of the window's "
            f"{c.window} frames; the integer network reads all of its window"
        )
    return NetworkShape(
        vocabulary=c.outputs,
        d_model=c.d_model,
        d_inner=c.d_inner,
        d_state=1,
        d_conv=max(1, c.d_conv),
        dt_rank=c.d_inner,
        n_layer=c.n_layer,
        frame=frame,
        average=AverageShape(gated=c.gate),
    )


def _array(tensor: Any) -> Reals:
    return np.asarray(tensor.detach().cpu().double().numpy())


def _layer(block: SlimBlock, shape: NetworkShape) -> SlimLayerParameters:
    convolution = block.dw_conv
    return SlimLayerParameters(
        norm_weight=_array(block.norm.weight),
        in_proj=_array(block.in_proj.conv.weight)[: shape.in_projected, :, 0],
        taps=None if convolution is None else _array(convolution.weight)[:, 0],
        taps_bias=None if convolution is None else _array(convolution.bias),
        dt_proj=_array(block.ssm.dt_proj.weight)[:, :, 0],
        dt_bias=_array(block.ssm.dt_proj.bias),
        out_proj=_array(block.out_proj.conv.weight)[:, :, 0],
    )


def _head(network: SlimNetwork) -> tuple[Reals, Reals]:
    """Return the two last linear maps as one of all tokens, (V, T d), and its bias (V,)."""
    backbone, tokens = network.backbone, network.configuration.tokens
    last = _array(network.head.conv.weight)[:, :, 0]  # V c
    if network.configuration.head == "flat":
        layer = backbone.output_layer_flat
        weight = _array(layer.weight).transpose(0, 2, 1)  # c T d
    else:
        layer = backbone.output_layer_pool.conv
        weight = np.repeat(_array(layer.weight).transpose(0, 2, 1), tokens, axis=1) / tokens
    bias = last @ _array(layer.bias) + _array(network.head.conv.bias)
    return last @ weight.reshape(len(weight), -1), bias


def extract_slim_parameters(network: SlimNetwork) -> SlimParameters:
    """Return the weights of a network; :func:`slim_shape` says which are refused."""
    configuration = network.configuration
    shape, backbone = slim_shape(configuration), network.backbone
    patch = _array(backbone.patch_embedding.conv.weight)  # d c P
    position = configuration.position_scale * _array(backbone.position)  # T d
    head, head_bias = _head(network)
    return SlimParameters(
        shape=shape,
        rows=_array(network.proj.conv.weight)[:, :, 0],
        rows_bias=_array(network.proj.conv.bias),
        projection=patch.transpose(0, 2, 1).reshape(len(patch), -1),
        position=position + _array(backbone.patch_embedding.conv.bias),
        layers=tuple(_layer(b, shape) for b in network.blocks if isinstance(b, SlimBlock)),
        final_norm_weight=_array(backbone.norm_f.weight),
        head=head,
        head_bias=head_bias,
    )
