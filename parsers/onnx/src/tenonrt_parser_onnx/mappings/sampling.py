"""Operators that look at places: grids, boxes, reversed sequences, sums of products and bits."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_onnx.dtypes import dtype_named
from tenonrt_parser_onnx.mappings.arguments import Inputs, emit, flag, integer, present, required, text

_MODES = {"bilinear": "linear", "bicubic": "cubic"}  # what opset 16 called them


def grid_sample(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Read an image at the positions of a grid."""
    mode = text(node, "mode", "linear", ("linear", "bilinear", "nearest", "cubic", "bicubic"))
    attrs = {
        "mode": _MODES.get(mode, mode),
        "padding": text(node, "padding_mode", "zeros", ("zeros", "border", "reflection")),
        "align_corners": flag(node, "align_corners"),
    }
    return list(emit(builder, node, "GridSample", [required(inputs, 0, "X"), required(inputs, 1, "grid")], attrs))


def non_max_suppression(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The best of the boxes that overlap, per image and class."""
    operands = [required(inputs, 0, "boxes"), required(inputs, 1, "scores"), *(present(inputs, i) for i in (2, 3, 4))]
    return list(emit(builder, node, "NonMaxSuppression", operands, {"centered": flag(node, "center_point_box")}))


def reverse_sequence(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The first elements of each sequence in reverse order."""
    attrs = {"batch_axis": integer(node, "batch_axis", 1), "time_axis": integer(node, "time_axis", 0)}
    operands = [required(inputs, 0, "input"), required(inputs, 1, "sequence_lens")]
    return list(emit(builder, node, "ReverseSequence", operands, attrs))


def einsum(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Sums of products by an equation."""
    operands = [required(inputs, index, "Inputs") for index in range(len(inputs))]
    return list(emit(builder, node, "Einsum", operands, {"equation": text(node, "equation")}))


def bit_cast(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The same bits as another type of the same width."""
    attrs = {"to": dtype_named(integer(node, "to"))}
    return list(emit(builder, node, "Bitcast", [required(inputs, 0, "input")], attrs))


def cum_prod(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Running products along an axis, which is an input."""
    attrs = {"exclusive": flag(node, "exclusive"), "reverse": flag(node, "reverse")}
    return list(
        emit(builder, node, "CumulativeProduct", [required(inputs, 0, "x"), required(inputs, 1, "axis")], attrs)
    )


def eye_like(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Ones on the k-th diagonal of a matrix of the input's shape, zeros elsewhere."""
    x = required(inputs, 0, "input")
    if x.info.rank != 2:
        raise ParseError(f"needs a matrix, not {x.info.type}")
    named = integer(node, "dtype", 0)
    zero, one = np.asarray(0, np.int64), np.asarray(1, np.int64)
    places: list[Tensor] = []
    for axis, part in enumerate(("rows", "columns")):
        attrs = {"start": axis, "end": axis + 1}
        (vector,) = emit(builder, node, "Shape", [x], attrs, part=f"{part}/shape")
        (count,) = emit(builder, node, "Squeeze", [vector], {"axes": (0,)}, part=f"{part}/count")
        places += emit(builder, node, "Range", [zero, count, one], part=part)
    (column,) = emit(builder, node, "Unsqueeze", [places[0]], {"axes": (1,)}, part="column")
    offset = np.asarray(integer(node, "k", 0), np.int64)
    (diagonal,) = emit(builder, node, "Elementwise", [column, offset], {"operation": "sum"}, part="diagonal")
    (ones,) = emit(builder, node, "Elementwise", [places[1], diagonal], {"operation": "equal"}, part="ones")
    return list(emit(builder, node, "Cast", [ones], {"to": dtype_named(named) if named else x.info.dtype}))
