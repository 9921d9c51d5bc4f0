"""Operators on quantized numbers: their products are sums of integers, which float64 holds exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, SourceNode, Tensor

from tenonrt_parser_onnx.mappings.arguments import Inputs, emit, integer, present, required
from tenonrt_parser_onnx.mappings.convolution import spatial_axes, window_attributes


def mat_mul_integer(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The product of integers less their zero points, int32."""
    a = _centered(builder, node, required(inputs, 0, "A"), _rows(builder, node, present(inputs, 2), "a"), "a")
    b = _centered(builder, node, required(inputs, 1, "B"), present(inputs, 3), "b")
    (exact,) = emit(builder, node, "MatrixMultiply", [a, b], part="product")
    return list(emit(builder, node, "Cast", [exact], {"to": "int32"}))


def conv_integer(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The convolution of integers less their zero points, int32."""
    exact = _convolution(builder, node, (inputs[:2], inputs[2:3], inputs[3:4]))
    return list(emit(builder, node, "Cast", [exact], {"to": "int32"}))


def exact_mat_mul(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """QLinearMatMul in float64, whatever the shapes of its scales: a, its scale and zero point, b with its own, then
    scale and zero point of the result."""
    names = ("a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point", "y_scale", "y_zero_point")
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (required(inputs, i, n) for i, n in enumerate(names))
    left = _centered(builder, node, a, _rows(builder, node, a_zero, "a"), "a")
    right = _centered(builder, node, b, b_zero, "b")
    (exact,) = emit(builder, node, "MatrixMultiply", [left, right], part="product")
    a_scale = _rows(builder, node, a_scale, "a_scale") or a_scale
    return _requantized(builder, node, exact, (a_scale, b_scale, y_scale), y_zero)


def _convolution(
    builder: GraphBuilder,
    node: SourceNode,
    operands: tuple[Inputs, Inputs, Inputs],
) -> Tensor:
    """The exact sums of [x, w] less [zero point of x], [of w]."""
    (data, x_zero, w_zero) = operands
    x, weights = required(data, 0, "x"), required(data, 1, "w")
    spatial = spatial_axes(node, weights)
    attrs = window_attributes(node, spatial) | {"groups": integer(node, "group", 1)}
    wide = _centered(builder, node, x, present(x_zero, 0), "x")
    offset = present(w_zero, 0)
    if offset is not None and offset.info.rank:
        offset = _column(builder, node, offset, spatial + 1, "w_zero_point")
    kernel = _centered(builder, node, weights, offset, "w")
    return emit(builder, node, "Convolution", [wide, kernel], attrs, part="sums")[0]


def _centered(builder: GraphBuilder, node: SourceNode, x: Tensor, zero: Tensor | None, part: str) -> Tensor:
    """float64 of an integer tensor less its zero point."""
    (wide,) = emit(builder, node, "Cast", [x], {"to": "float64"}, part=f"{part}/wide")
    if zero is None:
        return wide
    (offset,) = emit(builder, node, "Cast", [zero], {"to": "float64"}, part=f"{part}/zero")
    return emit(builder, node, "Elementwise", [wide, offset], {"operation": "sub"}, part=f"{part}/centered")[0]


def _rows(builder: GraphBuilder, node: SourceNode, values: Tensor | None, part: str) -> Tensor | None:
    """A vector of one value per row of the left operand, as a column."""
    if values is None or values.info.rank != 1 or values.info.shape == (1,):
        return values
    return _column(builder, node, values, 1, f"{part}/rows")


def _column(builder: GraphBuilder, node: SourceNode, values: Tensor, behind: int, part: str) -> Tensor:
    """A vector with axes of length one behind it; anything else as it is."""
    if values.info.rank != 1 or values.info.shape == (1,):
        return values
    axes = tuple(range(1, 1 + behind))
    return emit(builder, node, "Unsqueeze", [values], {"axes": axes}, part=part)[0]


def _requantized(
    builder: GraphBuilder, node: SourceNode, exact: Tensor, scales: Sequence[Tensor], zero: Tensor
) -> list[Tensor]:
    """Sums of integers in units of two scales, in those of a third."""
    real = exact
    for index, scale in enumerate(scales):
        (wide,) = emit(builder, node, "Cast", [scale], {"to": "float64"}, part=f"scale{index}")
        operation = {"operation": "div" if index == 2 else "prod"}
        (real,) = emit(builder, node, "Elementwise", [real, wide], operation, part=f"scaled{index}")
    (steps,) = emit(builder, node, "Cast", [real], {"to": "float32"}, part="steps")
    one: Array = np.ones((), np.float32)
    (zero_point,) = (
        (zero,)
        if not zero.info.rank
        else emit(builder, node, "Reshape", [zero, np.zeros(0, np.int64)], part="zero_point")
    )
    attrs = {"dtype": zero.info.dtype, "axis": 1, "block": 0, "saturate": True}
    return list(emit(builder, node, "Quantize", [steps, one, zero_point], attrs))
