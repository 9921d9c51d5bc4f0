"""Layers of constants become constants, as long as that does not blow up the plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Array, ExecutionError, GraphView, Layer, LayerType, Pass, Patch, TensorType, dtype_name

# Results may outgrow their inputs fourfold up to a size; below a mebibyte nobody minds. Growth that compounds along a
# chain of layers would else fill the memory from nothing.
MAX_GROWTH, GROWN_BYTES, ALWAYS_ALLOWED_BYTES = 4, 1 << 24, 1 << 20

# Folding it would undo the quantization that kernels on integers rely on; what quantizes a constant is folded.
DEQUANTIZE = frozenset({"Dequantize"})
# Windows over images: padding and unrolled windows can take any multiple of what goes in and comes out, and no exporter
# leaves one over constants.
WINDOWED = frozenset({"Convolution", "Deconvolution", "Pooling", "LRN", "Resize"})
KEPT = DEQUANTIZE | WINDOWED

# What bad constants (an index out of range, a division by zero) make of a reference: an error for whoever runs it.
REFUSALS = (ArithmeticError, LookupError, MemoryError, TypeError, ValueError)


class FoldConstants(Pass):
    """Every input constant: the layer's reference is run now. Impure and control layers are left alone."""

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        layer_type = view.layer_type(layer)
        if layer.kind in KEPT or not layer_type.pure or owns_subgraphs(layer_type):
            return None
        if any(t is not None and t.constant is None for t in layer.inputs):
            return None
        if not any(view.consumers(t) or view.is_output(t) for t in layer.outputs):
            return None
        arrays = [None if t is None else t.constant for t in layer.inputs]
        types = [t.type for t in layer.outputs]
        results = _evaluate(layer_type, layer, arrays) if _affordable(arrays, types) else None
        if results is None or any(not _matches(*pair) for pair in zip(results, types, strict=True)):
            return None
        patch = Patch("all of its inputs are constant")
        for tensor, result in zip(layer.outputs, results, strict=True):
            patch.replace(tensor, patch.constant(result if result.flags.c_contiguous else result.copy()))
        return patch


def owns_subgraphs(layer_type: LayerType) -> bool:
    """Whether the core runs layers of this type itself."""
    return type(layer_type).infer_control is not LayerType.infer_control


class _NoRun:
    """The `Run` of a layer that is pure and owns no subgraphs."""

    @property
    def generator(self) -> np.random.Generator:
        raise ExecutionError("a layer that says it is pure asked for random numbers")

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        raise ExecutionError("a layer without subgraphs asked to run one")


def _affordable(arrays: Sequence[Array | None], types: Sequence[TensorType]) -> bool:
    """Decided from the inferred types, before anything is allocated."""
    given = sum({id(array): array.nbytes for array in arrays if array is not None}.values())
    sizes = [t.nbytes for t in types]
    limit = max(ALWAYS_ALLOWED_BYTES, given, min(MAX_GROWTH * given, GROWN_BYTES))
    return all(isinstance(size, int) for size in sizes) and sum(sizes, start=0) <= limit


def _evaluate(layer_type: LayerType, layer: Layer, arrays: Sequence[Array | None]) -> list[Array] | None:
    try:
        with np.errstate(all="ignore"):  # infinities and NaN of constants are values like any other
            return [np.asarray(result) for result in layer_type.reference(layer.attrs, arrays, _NoRun())]
    except REFUSALS:
        return None


def _matches(result: Array, type: TensorType) -> bool:
    return result.shape == type.shape and dtype_name(result.dtype) == type.dtype  # containers are never constants
