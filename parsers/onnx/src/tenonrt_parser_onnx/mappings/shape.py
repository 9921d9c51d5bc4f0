"""Operators that make tensors out of shapes and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor, dtype_name, is_float

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    array,
    emit,
    integer,
    integers,
    number,
    numbers,
    optional_integer,
    present,
    required,
    shape_constant,
    text,
    texts,
)


def constant(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The value, in whichever of its attributes it is."""
    given = [name for name in node.attrs if name in _CONSTANTS or name == "sparse_value"]
    if len(given) != 1 or given[0] == "sparse_value":
        raise ParseError(f"needs exactly one of {', '.join(_CONSTANTS)}; it has {', '.join(given) or 'none'}")
    return [builder.constant(_CONSTANTS[given[0]](node, given[0]), node.name)]


def _strings(values: tuple[str, ...] | str) -> Array:
    result = np.empty(() if isinstance(values, str) else len(values), object)
    result[...] = values
    return result


_CONSTANTS: dict[str, Any] = {
    "value": array,
    "value_float": lambda node, name: np.asarray(number(node, name), np.float32),
    "value_floats": lambda node, name: np.array(numbers(node, name), np.float32),
    "value_int": lambda node, name: np.asarray(integer(node, name), np.int64),
    "value_ints": lambda node, name: np.array(integers(node, name), np.int64),
    "value_string": lambda node, name: _strings(text(node, name)),
    "value_strings": lambda node, name: _strings(texts(node, name)),
}


def constant_of_shape(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A tensor of one value, 0.0 unless given."""
    value = array(node, "value") if "value" in node.attrs else np.zeros(1, np.float32)
    if value.size != 1:
        raise ParseError(f"attribute 'value' must have one element, not {value.size}")
    dtype = dtype_name(value.dtype)
    if dtype == "string" or dtype.startswith("complex"):
        raise ParseError(f"attribute 'value' is {dtype}; numbers and booleans can fill a tensor")
    element = value.reshape(-1)[0]
    plain = float(element) if is_float(dtype) else bool(element) if dtype == "bool" else int(element)
    return list(emit(builder, node, "Fill", [required(inputs, 0, "input")], {"value": plain, "dtype": dtype}))


def shape(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The dims from start to end (opset 15), int64."""
    attrs = {"start": integer(node, "start", 0), "end": optional_integer(node, "end")}
    return list(emit(builder, node, "Shape", [required(inputs, 0, "data")], attrs))


def size(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The number of elements, int64."""
    return list(emit(builder, node, "Size", [required(inputs, 0, "data")]))


def range_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """start, start + delta, ... below limit."""
    operands = [required(inputs, index, name) for index, name in enumerate(("start", "limit", "delta"))]
    return list(emit(builder, node, "Range", operands))


def non_zero(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Indices of the elements that are not zero, one column each."""
    return list(emit(builder, node, "NonZero", [required(inputs, 0, "X")]))


def one_hot(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A new axis that is values[1] at the index and values[0] elsewhere."""
    operands = [required(inputs, index, name) for index, name in enumerate(("indices", "depth", "values"))]
    return list(emit(builder, node, "OneHot", operands, {"axis": integer(node, "axis", -1)}))


def trilu(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Keep the elements whose column minus row is at least k (upper) or at most k (lower)."""
    x, k = required(inputs, 0, "input"), present(inputs, 1)
    if x.info.rank < 2:
        raise ParseError(f"needs an input of rank 2 or more, not {x.info.type}")
    (rows,) = emit(builder, node, "Unsqueeze", [_count(builder, node, x, -2, "rows")], {"axes": (1,)}, part="rows")
    if k is not None:
        (offset,) = emit(builder, node, "Reshape", [k, shape_constant([1])], part="offset")
        (rows,) = emit(builder, node, "Elementwise", [rows, offset], {"operation": "sum"}, part="diagonal")
    columns = _count(builder, node, x, -1, "columns")
    comparison = {"operation": "greater_equal" if integer(node, "upper", 1) else "less_equal"}
    (kept,) = emit(builder, node, "Elementwise", [columns, rows], comparison, part="kept")
    return list(emit(builder, node, "Select", [kept, x, np.zeros((), x.type.numpy)]))


def _count(builder: GraphBuilder, node: SourceNode, x: Tensor, axis: int, part: str) -> Tensor:
    """0, 1, ... up to the size of an axis."""
    zero, one = np.asarray(0, np.int64), np.asarray(1, np.int64)
    length = x.info.shape[axis]
    limit: Tensor | Array
    if isinstance(length, int):
        limit = np.asarray(length, np.int64)
    else:
        attrs = {"start": axis, "end": axis + 1 or None}
        (vector,) = emit(builder, node, "Shape", [x], attrs, part=f"{part}/shape")
        (limit,) = emit(builder, node, "Squeeze", [vector], {"axes": (0,)}, part=f"{part}/count")
    return emit(builder, node, "Range", [zero, limit, one], part=f"{part}/range")[0]
