"""Transposes that only move axes of length one leave the bytes as they are, so they are reshapes, which are views."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import GraphView, Layer, Pass, Patch

from tenonrt_passes_standard.shuffles import permutation


class ReshapeUnitTransposes(Pass):
    """Where at most one size is a symbol, so that a reshape can name the others; sizes of 0 are left alone."""

    kinds = frozenset({"Transpose"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        source, result = layer.inputs[0], layer.outputs[0]
        if source is None or 0 in result.type.shape:
            return None
        shape = source.type.shape
        kept = [axis for axis in permutation(layer) if shape[axis] != 1]
        sizes = [size if isinstance(size, int) else -1 for size in result.type.shape]
        if kept != sorted(kept) or sizes.count(-1) > 1:
            return None
        patch = Patch("it only moves axes of length one, so that its bytes stay where they are")
        target = patch.constant(np.array(sizes, np.int64))
        patch.replace(result, patch.add("Reshape", [source, target], {"zero_copies": False})[0])
        return patch
