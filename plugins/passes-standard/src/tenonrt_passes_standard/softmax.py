"""Softmax that is exported in parts, and its logarithm."""

from __future__ import annotations

import msgspec
from tenonrt.contracts import GraphView, Layer, Pass, Patch, Tensor, is_float

from tenonrt_passes_standard.matching import axes_of, maker, sole


class FuseSoftmax(Pass):
    """exp(x) / sum(exp(x)) along one axis, with or without the maximum subtracted first; log(softmax(x))."""

    kinds = frozenset({"Elementwise", "Unary"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        result = layer.outputs[0]
        if layer.kind == "Unary":
            before = sole(view, layer.inputs[0], "Softmax") if layer.attrs.operation == "log" else None
            if before is None or before.attrs.log:
                return None
            patch = Patch(f"the logarithm of {before.name!r}")
            attrs = msgspec.structs.replace(before.attrs, log=True)
            patch.replace(result, patch.add("Softmax", list(before.inputs), attrs)[0])
            return patch
        if layer.attrs.operation != "div" or not is_float(result.type.dtype):
            return None
        total, powers = sole(view, layer.inputs[1], "Reduce", "sum"), maker(view, layer.inputs[0], "Unary", "exp")
        if total is None or powers is None or total.inputs[0] is not layer.inputs[0] or not total.attrs.keep_dims:
            return None
        axes, source = axes_of(total), powers.inputs[0]
        if len(axes) != 1 or source is None:
            return None
        patch = Patch("with what is before it, it is a softmax")
        origin = _without_maximum(view, source, axes[0])
        patch.replace(result, patch.add("Softmax", [origin], {"axis": axes[0]})[0])
        return patch


def _without_maximum(view: GraphView, tensor: Tensor, axis: int) -> Tensor:
    """x, where the tensor is x - max(x): the layer subtracts it by itself."""
    difference = maker(view, tensor, "Elementwise", "sub")
    largest = None if difference is None else maker(view, difference.inputs[1], "Reduce", "max")
    if difference is None or largest is None or largest.inputs[0] is not difference.inputs[0]:
        return tensor
    origin = difference.inputs[0]
    return origin if origin is not None and axes_of(largest) == (axis,) and largest.attrs.keep_dims else tensor
