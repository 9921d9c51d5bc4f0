"""Results of constants that passes left as layers, because kernels may want what they are computed from.

The weights of a quantized model are small integers with a scale behind each Dequantize. Kernels that compute with the
integers take that layer into their region; for all others its result is a constant like any other.
"""

from __future__ import annotations

import numpy as np

from tenonrt.builder.sampling import TrialRun
from tenonrt.graph.graph import Graph, Layer

# Larger ones would cost more memory than they are worth.
_MAX_BYTES = 1 << 30


def know_constants(graph: Graph) -> None:
    """Compute what depends on constants alone; what its reference refuses stays a layer that runs."""
    for layer in graph.layers:
        if _depends_on_constants(layer):
            _compute(layer)


def _depends_on_constants(layer: Layer) -> bool:
    if layer.graphs or not layer.layer_type.pure or not any(t is not None for t in layer.inputs):
        return False
    sizes = [t.type.nbytes for t in layer.outputs]
    return (
        layer.kind == "Dequantize"
        and all(t is None or t.constant is not None for t in layer.inputs)
        and all(isinstance(size, int) for size in sizes)
        and sum(sizes, start=0) <= _MAX_BYTES
    )


def _compute(layer: Layer) -> None:
    arrays = [None if t is None else t.constant for t in layer.inputs]
    with np.errstate(all="ignore"):
        results = layer.layer_type.reference(layer.attrs, arrays, TrialRun())
    for tensor, result in zip(layer.outputs, results, strict=True):
        values = np.ascontiguousarray(result).reshape(result.shape)
        values.flags.writeable = False
        tensor.constant = values
