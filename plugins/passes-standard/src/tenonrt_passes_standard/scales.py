"""A Scale that nothing took along becomes a product, a sum and a power, which kernels compute with their neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Array, GraphView, Layer, NewTensor, Pass, Patch, Tensor

# Operation, which input of Scale it takes, and what changes nothing.
_STEPS = (("prod", 2, 1.0), ("sum", 1, 0.0), ("pow", 3, 1.0))


class ExpandScales(Pass):
    """float32 and float64 by constants: a Scale rounds once, and narrower types would be rounded after every step.

    One that changes nothing is left to `RemoveIdentities`.
    """

    kinds = frozenset({"Scale"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        source = layer.inputs[0]
        steps = None if source is None else _steps(layer, source)
        if source is None or not steps:
            return None
        patch = Patch("a product, a sum and a power go together with the layers around them")
        result: Tensor | NewTensor = source
        for operation, values in steps:
            (result,) = patch.add("Elementwise", [result, patch.constant(values)], {"operation": operation})
        patch.replace(layer.outputs[0], result)
        return patch


def _steps(layer: Layer, source: Tensor) -> list[tuple[str, Array]] | None:
    """Operations with their operands in shapes that broadcast; None where one is not known."""
    if source.type.dtype not in {"float32", "float64"}:
        return None
    found: list[tuple[str, Array]] = []
    for operation, place, neutral in _STEPS:
        tensor = layer.inputs[place] if place < len(layer.inputs) else None
        if tensor is None:
            continue
        if tensor.constant is None:
            return None
        if (tensor.constant != neutral).any():
            found.append((operation, _aligned(tensor.constant, layer, source.type.rank)))
    return found


def _aligned(values: Array, layer: Layer, rank: int) -> Array:
    """With as many axes as the input, so that formats of images suit it; one number stays alone."""
    shape: Sequence[int] = values.shape
    if values.size == 1:
        return values.reshape(1)
    if layer.attrs.mode == "channel":
        shape = (len(values), *[1] * (rank - 1 - layer.attrs.axis % rank))
    return np.ascontiguousarray(values.reshape(*[1] * (rank - len(shape)), *shape))
