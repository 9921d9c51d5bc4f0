"""A constant factor or shift of each channel, after a linear layer, goes into that layer's weights and bias."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, GraphView, Layer, Pass, Patch, Tensor

from tenonrt_passes_standard.linear import Linear, linear


class FuseAffine(Pass):
    """Scale without power; Elementwise sum, prod, and sub of a constant."""

    kinds = frozenset({"Scale", "Elementwise"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        operands = layer.inputs[: 1 if layer.kind == "Scale" else 2]
        for position, tensor in enumerate(operands):
            before = linear(view, tensor)
            if before is not None and tensor is not None and layer.outputs[0].type == tensor.type:
                folded = _scale(layer, before) if layer.kind == "Scale" else _elementwise(layer, before, position)
                return None if folded is None else before.fold(layer, *folded)
        return None


def _scale(layer: Layer, before: Linear) -> tuple[Array, Array] | None:
    shift, factor, power = (*layer.inputs[1:4], None, None, None)[:3]
    if power is not None and (power.constant is None or (power.constant != 1).any()):
        return None
    by_channel = layer.attrs.mode == "channel" and layer.attrs.axis % before.rank == before.axis
    if not by_channel and layer.attrs.mode != "uniform":
        return None
    vectors = [_operand(t, default, before.channels) for t, default in ((factor, 1.0), (shift, 0.0))]
    return None if vectors[0] is None or vectors[1] is None else (vectors[0], vectors[1])


def _operand(tensor: Tensor | None, default: float, channels: int) -> Array | None:
    """One value for each channel from a Scale's operand: absent, uniform or by channel."""
    if tensor is None:
        return np.full(channels, default)
    if tensor.constant is None or tensor.constant.size not in (1, channels):
        return None
    return np.broadcast_to(tensor.constant.reshape(-1).astype(np.float64), (channels,))


def _elementwise(layer: Layer, before: Linear, position: int) -> tuple[Array, Array] | None:
    other = layer.inputs[1 - position]
    vector = None if other is None or other.constant is None else channels_of(other.constant, before)
    if vector is None:
        return None
    if layer.attrs.operation == "prod":
        return vector, np.zeros(before.channels)
    if layer.attrs.operation == "sum":
        return np.ones(before.channels), vector
    if layer.attrs.operation == "sub" and position == 0:
        return np.ones(before.channels), -vector
    return None


def channels_of(values: Array, before: Linear) -> Array | None:
    """A constant that broadcasts against the result as one value for each channel."""
    if values.ndim > before.rank:
        return None
    shape = (1,) * (before.rank - values.ndim) + values.shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != before.axis):
        return None
    return np.broadcast_to(values.reshape(-1).astype(np.float64), (before.channels,))
