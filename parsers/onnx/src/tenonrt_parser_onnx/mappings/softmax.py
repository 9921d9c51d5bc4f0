"""Softmax, LogSoftmax and Hardmax."""

from __future__ import annotations

from tenonrt.contracts import GraphBuilder, LayerMapping, SourceNode, Tensor

from tenonrt_parser_onnx.mappings.arguments import Inputs, emit, integer, normalized_axis, required


def normalizer(kind: str, log: bool | None = None) -> LayerMapping:
    """Before opset 13 the input was seen as a matrix whose rows are everything from ``axis`` (default 1) on."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        x = required(inputs, 0, "input")
        if node.version >= 13:
            return list(emit(builder, node, kind, [x], {"axis": integer(node, "axis", -1), "log": log}))
        axis = normalized_axis(integer(node, "axis", 1), x.info.rank, end=True)
        if axis == x.info.rank - 1:
            return list(emit(builder, node, kind, [x], {"axis": -1, "log": log}))
        return _flattened(builder, node, x, kind, axis=axis, log=log)

    return mapping


def _flattened(
    builder: GraphBuilder, node: SourceNode, x: Tensor, kind: str, *, axis: int, log: bool | None
) -> list[Tensor]:
    (rows,) = emit(builder, node, "Flatten", [x], {"axis": axis}, part="rows")
    (result,) = emit(builder, node, kind, [rows], {"axis": -1, "log": log}, part="normalized")
    (shape,) = emit(builder, node, "Shape", [x], part="shape")
    return list(emit(builder, node, "Reshape", [result, shape], {"zero_copies": False}))


softmax = normalizer("Softmax", False)
log_softmax = normalizer("Softmax", True)
hardmax = normalizer("Hardmax")
