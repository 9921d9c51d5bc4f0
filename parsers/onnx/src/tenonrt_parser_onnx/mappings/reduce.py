"""Reductions, ArgMax and ArgMin, TopK and CumSum."""

from __future__ import annotations

from typing import Any

import numpy as np
from tenonrt.contracts import GraphBuilder, LayerMapping, SourceNode, Tensor

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    axes_vector,
    constant_integers,
    emit,
    flag,
    integer,
    is_known,
    optional_integers,
    present,
    required,
)


def reduction(operation: str, axes_input_since: int = 18) -> LayerMapping:
    """Axes are an attribute before the opset given, then an input; none means all, unless noop_with_empty_axes."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        given = present(inputs, 1) if node.version >= axes_input_since else None
        if given is not None and not is_known(given):
            return _reduce_along(builder, node, operation, required(inputs, 0, "data"), given)
        axes = _axes(node, inputs, axes_input_since) or None
        if axes is None and flag(node, "noop_with_empty_axes"):
            axes = ()
        attrs = {"operation": operation, "axes": axes, "keep_dims": flag(node, "keepdims", True)}
        return list(emit(builder, node, "Reduce", [required(inputs, 0, "data")], attrs))

    return mapping


def _reduce_along(builder: GraphBuilder, node: SourceNode, operation: str, x: Tensor, axes: Tensor) -> list[Tensor]:
    attrs = {
        "operation": operation,
        "keep_dims": flag(node, "keepdims", True),
        "empty_is_none": flag(node, "noop_with_empty_axes"),
    }
    return list(emit(builder, node, "ReduceAlong", [x, axes_vector(builder, node, axes)], attrs))


def _axes(node: SourceNode, inputs: Inputs, axes_input_since: int) -> tuple[int, ...] | None:
    if node.version < axes_input_since:
        return optional_integers(node, "axes")
    tensor = present(inputs, 1)
    return None if tensor is None else constant_integers(tensor, "axes")


def arg_reduction(operation: str) -> LayerMapping:
    """The index of the extreme element along an axis."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        attrs = {
            "operation": operation,
            "axis": integer(node, "axis", 0),
            "keep_dims": flag(node, "keepdims", True),
            "select_last": flag(node, "select_last_index"),
        }
        return list(emit(builder, node, "ArgReduce", [required(inputs, 0, "data")], attrs))

    return mapping


def top_k(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """k is an attribute before opset 10, then an input of one element."""
    k: Any = np.array([integer(node, "k")], np.int64) if node.version < 10 else required(inputs, 1, "K")
    attrs = {
        "axis": integer(node, "axis", -1),
        "largest": flag(node, "largest", True),
        "sorted": flag(node, "sorted", True),
    }
    return list(emit(builder, node, "TopK", [required(inputs, 0, "X"), k], attrs))


def cum_sum(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Running sums along an axis, which is an input."""
    attrs = {"exclusive": flag(node, "exclusive"), "reverse": flag(node, "reverse")}
    operands = [required(inputs, 0, "x"), required(inputs, 1, "axis")]
    return list(emit(builder, node, "CumulativeSum", operands, attrs))


reduce_sum = reduction("sum", 13)
reduce_prod = reduction("prod")
reduce_max = reduction("max")
reduce_min = reduction("min")
reduce_mean = reduction("mean")
reduce_l1 = reduction("l1")
reduce_l2 = reduction("l2")
reduce_log_sum = reduction("log_sum")
reduce_log_sum_exp = reduction("log_sum_exp")
reduce_sum_square = reduction("sum_square")
arg_max = arg_reduction("max")
arg_min = arg_reduction("min")
