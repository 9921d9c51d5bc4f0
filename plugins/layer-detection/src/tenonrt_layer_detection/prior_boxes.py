"""The pass that computes prior boxes once: they hang on the sizes of their inputs, not on what these hold."""

from __future__ import annotations

from math import prod

import numpy as np
from tenonrt.contracts import GraphView, Layer, Pass, Patch, TensorType

from tenonrt_layer_detection.prior_box import PriorBoxLayer

_GROWTH, _MEBIBYTE = 4, 1 << 20


class FoldPriorBoxes(Pass):
    """PriorBox of known sizes becomes a constant of at most 1 MiB, or of four times its inputs."""

    kinds = frozenset({"PriorBox"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        inputs, made = [t.type for t in layer.inputs if t is not None], layer.outputs[0].type
        if not made.static or not all(type.static for type in inputs):
            return None
        if _bytes(made) > max(_MEBIBYTE, _GROWTH * sum(map(_bytes, inputs))):
            return None
        shapes = [np.broadcast_to(np.zeros((), type.numpy), type.concrete({})) for type in inputs]
        (boxes,) = PriorBoxLayer().reference(layer.attrs, shapes, None)  # type: ignore[arg-type]  # runs no subgraph
        patch = Patch("its boxes hang on sizes only, which are known")
        patch.replace(layer.outputs[0], patch.constant(boxes))
        return patch


def _bytes(type: TensorType) -> int:
    return prod(type.concrete({})) * type.numpy.itemsize
