"""A matrix product with a constant matrix is a FullyConnected, which can take a bias along."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import GraphView, Layer, Pass, Patch, is_float


class FuseFullyConnected(Pass):
    """``x [..., K]`` times a constant ``[K, N]``, or the transpose of a constant ``[N, K]``."""

    kinds = frozenset({"MatrixMultiply"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        source, weights = layer.inputs[:2]
        if source is None or weights is None or weights.constant is None or not is_float(source.type.dtype):
            return None
        if layer.attrs.transpose_a or weights.type.rank != 2 or source.type.rank < 2:
            return None
        if source.type.dtype != weights.type.dtype:
            return None
        matrix = weights.constant if layer.attrs.transpose_b else np.ascontiguousarray(weights.constant.T)
        patch = Patch("its right operand is a constant matrix")
        patch.replace(layer.outputs[0], patch.add("FullyConnected", [source, patch.constant(matrix)])[0])
        return patch
