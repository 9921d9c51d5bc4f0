"""Shape arithmetic whose result is known becomes a constant."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, Dim, GraphView, Layer, Pass, Patch, Tensor, is_float


class FoldShapes(Pass):
    """Outputs whose inferred value is made of integers alone: ``Shape`` of a static tensor and what follows from it."""

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        if not view.layer_type(layer).pure:
            return None
        patch = Patch("its value follows from the shapes")
        for tensor in layer.outputs:
            value = _known(tensor)
            if value is not None and (view.consumers(tensor) or view.is_output(tensor)):
                patch.replace(tensor, patch.constant(value))
        return patch if patch.replacements else None


def _known(tensor: Tensor) -> Array | None:
    value = tensor.info.value
    if value is None or is_float(tensor.type.dtype) or value.shape != tensor.type.shape:
        return None
    items = value.reshape(-1).tolist()
    if any(isinstance(v, Dim) or not isinstance(v, int | np.integer | np.bool_) for v in items):
        return None
    limits = np.iinfo(tensor.type.numpy) if tensor.type.numpy.kind in "iu" else None
    if limits is not None and any(not limits.min <= int(v) <= limits.max for v in items):
        return None
    return np.array(items, tensor.type.numpy).reshape(value.shape)
