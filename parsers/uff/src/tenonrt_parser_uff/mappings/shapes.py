"""Operations on shapes and axes, all counted with the batch, in the order in which the tensors are stored."""

from __future__ import annotations

from tenonrt.contracts import GraphBuilder, SourceNode, Tensor

from tenonrt_parser_uff.emit import (
    Inputs,
    axis_of,
    check_count,
    chosen,
    concatenate,
    flag,
    given,
    integer,
    numbers,
    pad,
    pairs,
    shape_of,
    shape_operand,
    single,
    stack,
    transpose,
)
from tenonrt_parser_uff.slicing import Masks, strided_slice

_REDUCTIONS = {"sum": "sum", "prod": "prod", "max": "max", "min": "min", "mean": "mean"}


def reduce_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """All axes where none are given; they go unless ``keepdims`` says otherwise, as in TensorFlow."""
    check_count(inputs, 1)
    axes = None if node.attrs.get("axes") is None else numbers(node, "axes")
    attrs = {"operation": chosen(node, "func", _REDUCTIONS), "axes": axes, "keep_dims": flag(node, "keepdims")}
    return [single(builder, "Reduce", [given(inputs, 0, "input")], attrs)]


def reshape_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The shape includes the batch; -1 is what is left and 0 an empty axis."""
    check_count(inputs, 2)
    shape = shape_operand(builder, given(inputs, 1, "shape"), "the shape")
    return [single(builder, "Reshape", [given(inputs, 0, "input"), shape], {"zero_copies": False})]


def flatten(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """All axes but the batch become one, in the order in which they are stored."""
    check_count(inputs, 1)
    return [single(builder, "Flatten", [given(inputs, 0, "input")], {"axis": 1})]


def transpose_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Axis i of the result is axis permutation[i]."""
    check_count(inputs, 1)
    x, permutation = given(inputs, 0, "input"), numbers(node, "permutation")
    if sorted(permutation) == list(range(x.type.rank)):
        return [transpose(builder, x, permutation)]
    return [single(builder, "Transpose", [x], {"permutation": permutation})]  # which says what is wrong with it


def concat(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Along an existing axis."""
    tensors = [given(inputs, i, "input") for i in range(max(len(inputs), 1))]
    return [concatenate(builder, tensors, integer(node, "axis"))]


def stack_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Along a new axis."""
    tensors = [given(inputs, i, "input") for i in range(max(len(inputs), 1))]
    return [stack(builder, tensors, integer(node, "axis"))]


def shape(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """An int32 vector."""
    check_count(inputs, 1)
    return [shape_of(builder, given(inputs, 0, "input"))]


def strided_slice_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Begin, end and strides for the first axes, with masks."""
    check_count(inputs, 4)
    x, begin, end, strides = (
        given(inputs, i, what) for i, what in enumerate(("input", "begin", "end", "strides"))
    )  # fmt: skip
    masks = Masks(*(integer(node, name, 0) for name in ("begin_mask", "end_mask", "shrink_axis_mask")))
    return [strided_slice(builder, x, begin, end, strides, masks)]


def squeeze(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Without the axes of length one that are listed, or all of them."""
    check_count(inputs, 1)
    return [single(builder, "Squeeze", [given(inputs, 0, "input")], {"axes": numbers(node, "axes", ()) or None})]


def expand_dims(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A new axis of length one."""
    check_count(inputs, 1)
    return [single(builder, "Unsqueeze", [given(inputs, 0, "input")], {"axes": (integer(node, "axis"),)})]


def arg_max(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The int64 index of the largest element."""
    return _arg_reduce(builder, node, inputs, "max")


def arg_min(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The int64 index of the smallest element."""
    return _arg_reduce(builder, node, inputs, "min")


def _arg_reduce(builder: GraphBuilder, node: SourceNode, inputs: Inputs, operation: str) -> list[Tensor]:
    check_count(inputs, 1)
    attrs = {"operation": operation, "axis": integer(node, "axis"), "keep_dims": False}
    return [single(builder, "ArgReduce", [given(inputs, 0, "input")], attrs)]


def pad_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Zeros around."""
    check_count(inputs, 2)
    return [pad(builder, given(inputs, 0, "input"), pairs(given(inputs, 1, "paddings"), "the paddings"))]


def gather(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Along the first axis."""
    check_count(inputs, 2)
    return [single(builder, "Gather", [given(inputs, 0, "params"), given(inputs, 1, "indices")], {"axis": 0})]


def gather_v2(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Along any axis."""
    check_count(inputs, 2)
    params = given(inputs, 0, "params")
    axis = axis_of(integer(node, "axis", 0), params.type.rank)
    return [single(builder, "Gather", [params, given(inputs, 1, "indices")], {"axis": axis})]
