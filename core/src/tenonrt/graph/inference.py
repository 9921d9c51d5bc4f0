"""Types and known values of a layer's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from tenonrt.contracts import LayerType
from tenonrt.dims import UNKNOWN, Dim, UndecidedError, substitute, symbols
from tenonrt.errors import GraphError
from tenonrt.graph.graph import Graph, Layer
from tenonrt.types import MAX_VALUE_ELEMENTS, Array, TensorInfo, check_possible, numpy_dtype

# What the reference of a well-behaved layer raises when a symbolic value reaches something that needs a number.
_NOT_COMPUTABLE = (TypeError, ValueError, ArithmeticError, AttributeError, IndexError, UndecidedError)


class SubgraphTypes:
    """Implements `GraphTypes`: a subgraph without the inputs that stand for captured tensors."""

    def __init__(self, graph: Graph) -> None:
        declared = len(graph.inputs) - len(graph.captures)
        self.inputs = [tensor.info for tensor in graph.inputs[:declared]]
        self.outputs = [tensor.info for tensor in graph.outputs.values()]


class NoRun:
    """The `Run` of a layer evaluated while building: it owns no subgraphs and must draw nothing."""

    @property
    def generator(self) -> np.random.Generator:
        raise GraphError("a layer asked for random numbers while its constants were folded; it must say pure = False")

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        raise GraphError("a layer without subgraphs asked to run one")


def infer(layer: Layer) -> list[TensorInfo]:
    """Output infos of a layer; `GraphError` names it and what its type refused."""
    infos = [tensor.info if tensor is not None else None for tensor in layer.declared_inputs]
    try:
        if layer.graphs:
            outputs = layer.layer_type.infer_control(layer.attrs, infos, [SubgraphTypes(g) for g in layer.graphs])
        else:
            outputs = layer.layer_type.infer(layer.attrs, infos)
        for info in outputs:
            check_possible(info.type)
    except (ValueError, IndexError, TypeError, ArithmeticError) as error:
        given = ", ".join(str(info.type) if info else "absent" for info in infos)
        raise GraphError(f"layer {layer.name!r} ({layer.kind}) with inputs ({given}): {error}") from error
    outputs = [_name_unknowns(info, f"{layer.name}.{i}") for i, info in enumerate(outputs)]
    values = evaluate_values(layer.layer_type, layer.attrs, infos, outputs)
    return outputs if values is None else [info.with_value(value) for info, value in zip(outputs, values, strict=True)]


def evaluate_values(
    layer_type: LayerType, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
) -> list[Array] | None:
    """Shape arithmetic: the outputs as object arrays when every input's value is known, else None."""
    if not layer_type.shape_arithmetic or any(info is not None and info.value is None for info in inputs):
        return None
    if not inputs or any(not info.type.static or _size(info) > MAX_VALUE_ELEMENTS for info in outputs):
        return None
    known = [info for info in inputs if info is not None]
    symbolic = any(isinstance(v, Dim) for info in known for v in _values(info).flat)
    arrays = [None if info is None else _operand(info, symbolic) for info in inputs]
    try:
        results = layer_type.reference(attrs, arrays, NoRun())
    except _NOT_COMPUTABLE:
        return None
    return [np.asarray(result).astype(object) for result in results]


def _operand(info: TensorInfo, symbolic: bool) -> Array:
    values = _values(info)
    return values if symbolic else values.astype(numpy_dtype(info.dtype))


def _values(info: TensorInfo) -> Array:
    assert info.value is not None
    return info.value


def _size(info: TensorInfo) -> int:
    size = info.type.size
    assert isinstance(size, int)
    return size


def _name_unknowns(info: TensorInfo, prefix: str) -> TensorInfo:
    """Give every unnamed symbol of a type a name that no other tensor uses."""
    if info.type.static or UNKNOWN not in info.type.symbol_names():
        return info
    shape = []
    for axis, dimension in enumerate(info.shape):
        unnamed = next((s for s in symbols(dimension) if s.name == UNKNOWN), None)
        if unnamed is None:
            shape.append(dimension)
        else:
            named = unnamed.renamed(f"{prefix}.{axis}")
            shape.append(substitute(dimension, {UNKNOWN: named}))
    return msgspec.structs.replace(info, type=info.type.reshape(shape))
