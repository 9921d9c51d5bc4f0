"""Scale layers that no weights took along become elementwise layers, which kernels compute together with others."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, GraphView, Layer, Pass, Patch, Tensor


class SplitScales(Pass):
    """(x * scale + shift) ** power with constant parameters as a product, a sum and a power, those that do anything."""

    kinds = frozenset({"Scale"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        source, shift, factor, power = (*layer.inputs, None, None, None)[:4]
        if source is None or any(t is not None and t.constant is None for t in (shift, factor, power)):
            return None
        if source.type.dtype not in ("float32", "float64"):  # narrower ones are rounded once here, and would be thrice
            return None
        steps = [
            (operation, _aligned(parameter, layer, source.type.rank))
            for operation, parameter, neutral in (("prod", factor, 1), ("sum", shift, 0), ("pow", power, 1))
            if parameter is not None and parameter.constant is not None and (parameter.constant != neutral).any()
        ]
        if not steps:
            return None  # an identity, which another pass removes
        patch, value = Patch("its parts are computed together with what is around it"), source
        for operation, values in steps:
            value = patch.add("Elementwise", [value, patch.constant(values)], {"operation": operation})[0]  # type: ignore[assignment]
        patch.replace(layer.outputs[0], value)
        return patch


def _aligned(parameter: Tensor, layer: Layer, rank: int) -> Array:
    """A parameter shaped to broadcast against the input."""
    values = np.asarray(parameter.constant)
    if layer.attrs.mode == "uniform":
        return values.reshape(())
    if layer.attrs.mode == "channel":
        shape = [1] * rank
        shape[layer.attrs.axis % rank] = -1
        return values.reshape(shape)
    return values
