"""Batch normalization by constants is a factor and a shift of each channel."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, GraphView, Layer, Pass, Patch, is_float

from tenonrt_passes_standard.linear import linear


class FuseBatchNormalization(Pass):
    """Into the weights of the layer before it where that is possible, otherwise into a Scale of its channels."""

    kinds = frozenset({"BatchNormalization"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        folded = _factor_and_shift(layer)
        if folded is None:
            return None
        before = linear(view, layer.inputs[0])
        patch = before.fold(layer, *folded) if before is not None and before.axis == 1 else None
        return patch or _scale(layer, *folded)


def _factor_and_shift(layer: Layer) -> tuple[Array, Array] | None:
    """In float64; None unless the parameters are constant and the result finite (a variance may be below -epsilon)."""
    constants = [None if t is None else t.constant for t in layer.inputs[1:5]]
    if len(constants) != 4 or any(values is None for values in constants):
        return None
    scale, bias, mean, variance = (values.astype(np.float64) for values in constants if values is not None)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + layer.attrs.epsilon)
        shift = bias - mean * factor
    return (factor, shift) if np.isfinite(factor).all() and np.isfinite(shift).all() else None


def _scale(layer: Layer, factor: Array, shift: Array) -> Patch | None:
    source = layer.inputs[0]
    if source is None or not is_float(source.type.dtype):
        return None
    patch = Patch("its statistics are constant, so it scales channels")
    operands = [patch.constant(values.astype(source.type.numpy)) for values in (shift, factor)]
    new = patch.add("Scale", [source, *operands], {"mode": "channel", "axis": 1})
    patch.replace(layer.outputs[0], new[0])
    return patch
