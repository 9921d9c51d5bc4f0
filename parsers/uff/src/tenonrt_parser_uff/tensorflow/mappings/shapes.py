"""Operations on shapes, reductions, and the tensors that graphs make out of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_uff.emit import (
    Inputs,
    axis_of,
    cast,
    check_count,
    elementwise,
    flag,
    given,
    integer,
    integers,
    numbers,
    reshape,
    shape_of,
    shape_operand,
    single,
    transpose,
    unary,
)
from tenonrt_parser_uff.tensorflow.mappings.arguments import known, scalar
from tenonrt_parser_uff.tensorflow.mappings.pointwise import element_type

_REDUCTIONS = {"Sum": "sum", "Prod": "prod", "Max": "max", "Min": "min", "Mean": "mean", "EuclideanNorm": "l2"}


def reshape_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """-1 is what is left, 0 an empty axis."""
    check_count(inputs, 2)
    shape = shape_operand(builder, given(inputs, 1, "shape"), "the shape")
    return [single(builder, "Reshape", [given(inputs, 0, "tensor"), shape], {"zero_copies": False})]


def squeeze(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Without the axes of length one that are listed, or all of them."""
    check_count(inputs, 1)
    axes = numbers(node, "squeeze_dims", numbers(node, "axis", ())) or None
    return [single(builder, "Squeeze", [given(inputs, 0, "input")], {"axes": axes})]


def expand_dims(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A new axis of length one; which one is an input."""
    check_count(inputs, 2)
    axis = scalar(given(inputs, 1, "axis"), "the axis")
    return [single(builder, "Unsqueeze", [given(inputs, 0, "input")], {"axes": (axis,)})]


def transpose_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The permutation is an input."""
    check_count(inputs, 2)
    x, permutation = given(inputs, 0, "x"), integers(given(inputs, 1, "perm"), "the permutation")
    if sorted(permutation) != list(range(x.type.rank)):
        raise ParseError(f"the permutation {permutation[:8]} is none of the axes of {x.type}")
    return [transpose(builder, x, permutation)]


def broadcast_to(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Repeated along axes of length one and new ones."""
    check_count(inputs, 2)
    shape = shape_operand(builder, given(inputs, 1, "shape"), "the shape")
    return [single(builder, "Expand", [given(inputs, 0, "input"), shape])]


def fill(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """One value everywhere."""
    check_count(inputs, 2)
    shape, value = shape_operand(builder, given(inputs, 0, "dims"), "the shape"), given(inputs, 1, "value")
    if value.constant is None or value.constant.size != 1 or value.constant.dtype.kind not in "fiub":
        return [single(builder, "Expand", [value, shape])]
    attrs = {"value": value.constant.reshape(-1)[0].item(), "dtype": value.type.dtype}
    return [single(builder, "Fill", [shape], attrs)]


def range_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """start, start + delta, ... before limit."""
    check_count(inputs, 3)
    operands = [given(inputs, i, what) for i, what in enumerate(("start", "limit", "delta"))]
    return [single(builder, "Range", operands)]


def shape(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Shape, and ShapeN of several tensors."""
    dtype = element_type(node, "out_type", "int32")
    return [shape_of(builder, given(inputs, i, "input"), dtype) for i in range(max(len(inputs), 1))]


def size(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """How many elements there are."""
    check_count(inputs, 1)
    count = single(builder, "Size", [given(inputs, 0, "input")])
    return [cast(builder, count, element_type(node, "out_type", "int32"))]


def rank(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """How many axes there are, which is always known."""
    check_count(inputs, 1)
    return [builder.constant(np.array(given(inputs, 0, "input").type.rank, np.int32))]


def reduction(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Sum, Mean, Max and so on, over the axes in the second input."""
    check_count(inputs, 2)
    x, operation = given(inputs, 0, "input"), _REDUCTIONS[node.type]
    return [_reduced(builder, node, x, given(inputs, 1, "axes"), operation)]


def _reduced(builder: GraphBuilder, node: SourceNode, x: Tensor, axes: Tensor, operation: str) -> Tensor:
    attrs: dict[str, Any] = {"operation": operation, "keep_dims": flag(node, "keep_dims", flag(node, "keepdims"))}
    if known(axes):
        listed = tuple(sorted({axis_of(axis, x.type.rank) for axis in integers(axes, "the axes")}))
        return single(builder, "Reduce", [x], {**attrs, "axes": listed}) if listed else x
    vector = reshape(builder, cast(builder, axes, "int64"), (-1,))
    return single(builder, "ReduceAlong", [x, vector], {**attrs, "empty_is_none": True})


def logical_reduction(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """All and Any."""
    check_count(inputs, 2)
    x = cast(builder, given(inputs, 0, "input"), "int32")
    found = _reduced(builder, node, x, given(inputs, 1, "axes"), "min" if node.type == "All" else "max")
    return [cast(builder, found, "bool")]


def arg_reduction(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """ArgMax and ArgMin: the index of the extreme element along an axis, which is an input."""
    check_count(inputs, 1, 2)
    x = given(inputs, 0, "input")
    axis = scalar(given(inputs, 1, "dimension"), "the dimension") if len(inputs) > 1 else 0
    attrs = {"operation": node.type[3:].lower(), "axis": axis_of(axis, x.type.rank), "keep_dims": False}
    return [cast(builder, single(builder, "ArgReduce", [x], attrs), element_type(node, "output_type", "int64"))]


def top_k(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """TopK, with k as an attribute, and TopKV2: values and int32 indices of the largest of each row."""
    check_count(inputs, 1, 2)
    count = given(inputs, 1, "k") if len(inputs) > 1 else builder.constant(np.array(integer(node, "k"), np.int64))
    attrs = {"axis": -1, "largest": True, "sorted": flag(node, "sorted", True)}
    k = reshape(builder, cast(builder, count, "int64"), (1,)) if count.constant is None else None
    wanted = np.array([scalar(count, "k")], np.int64) if k is None else k
    values, indices = builder.add("TopK", [given(inputs, 0, "input"), wanted], attrs)
    return [values, cast(builder, indices, element_type(node, "index_type", "int32"))]


def cumulative(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Cumsum and Cumprod."""
    check_count(inputs, 2)
    kind = {"Cumsum": "CumulativeSum", "Cumprod": "CumulativeProduct"}[node.type]
    axis = np.array(scalar(given(inputs, 1, "axis"), "the axis"), np.int64)
    attrs = {"exclusive": flag(node, "exclusive"), "reverse": flag(node, "reverse")}
    return [single(builder, kind, [given(inputs, 0, "x"), axis], attrs)]


def where(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Where of one input: the indices of elements that are not zero, [count, rank]."""
    check_count(inputs, 1)
    places = single(builder, "NonZero", [given(inputs, 0, "condition")])
    return [transpose(builder, places, (1, 0))]


def loss(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """L2Loss: half the sum of squares."""
    check_count(inputs, 1)
    x = given(inputs, 0, "t")
    total = single(builder, "Reduce", [unary(builder, "square", x)], {"operation": "sum", "keep_dims": False})
    return [elementwise(builder, "prod", total, np.array(0.5, x.type.numpy))]
