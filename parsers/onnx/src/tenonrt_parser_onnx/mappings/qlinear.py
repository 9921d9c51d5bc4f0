"""Operators that take and give quantized tensors: what they compute of real numbers, between Dequantize and Quantize.

That is the form of models with explicit quantization, and kernels on integers find their regions in it. ONNX has
QLinearConv and QLinearMatMul; the others are com.microsoft's (onnxruntime, docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from tenonrt.contracts import Array, GraphBuilder, LayerMapping, ParseError, SourceNode, Tensor, numpy_dtype

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    emit,
    flag,
    integer,
    integers,
    number,
    optional_integers,
    optional_number,
    present,
    required,
)
from tenonrt_parser_onnx.mappings.convolution import spatial_axes, window_attributes
from tenonrt_parser_onnx.mappings.integers import exact_mat_mul
from tenonrt_parser_onnx.mappings.softmax import softmax

Operand = Tensor | Array


def _real(builder: GraphBuilder, node: SourceNode, inputs: Inputs, first: int, name: str, axis: int = 1) -> Tensor:
    """float32 of a quantized input, whose scale and zero point are the next two."""
    stored, scale = required(inputs, first, name), required(inputs, first + 1, f"{name}'s scale")
    return _dequantized(builder, node, stored, (scale, present(inputs, first + 2)), name, axis)


Grid = tuple[Tensor, Tensor | None]  # scale and zero point


def _dequantized(
    builder: GraphBuilder, node: SourceNode, stored: Tensor, grid: Grid, part: str, axis: int = 1
) -> Tensor:
    operands = _parameters(builder, node, *grid, stored.info.dtype, part)
    attrs = {"dtype": "float32", "axis": axis}
    return emit(builder, node, "Dequantize", [stored, *operands], attrs, part=f"{part}/real")[0]


def _parameters(
    builder: GraphBuilder, node: SourceNode, scale: Tensor, zero: Tensor | None, dtype: str, part: str
) -> tuple[Tensor, Operand | None]:
    """Scale and zero point in one shape, as layers want them: models pair scalars with vectors of one."""
    if zero is None or zero.info.shape == scale.info.shape:
        return scale, zero
    if zero.constant is not None and zero.constant.size == 1 and all(isinstance(n, int) for n in scale.info.shape):
        shape = [int(n) for n in scale.info.shape if isinstance(n, int)]
        return scale, np.full(shape, zero.constant.reshape(()), numpy_dtype(dtype))
    if scale.info.shape == (1,) and not zero.info.rank:
        return emit(builder, node, "Squeeze", [scale], {"axes": (0,)}, part=f"{part}/scale")[0], zero
    if zero.info.shape == (1,) and not scale.info.rank:
        return scale, emit(builder, node, "Squeeze", [zero], {"axes": (0,)}, part=f"{part}/zero")[0]
    raise ParseError(f"{part}: the zero point is {zero.info.type}, expected the scale's shape, {scale.info.type}")


def _bias(
    builder: GraphBuilder, node: SourceNode, bias: Tensor | None, scales: tuple[Tensor, Tensor], axis: int = 0
) -> Tensor | None:
    """float32 of a bias that counts in products of two scales."""
    if bias is None:
        return None
    (scale,) = emit(builder, node, "Elementwise", scales, {"operation": "prod"}, part="bias/scale")
    return emit(builder, node, "Dequantize", [bias, scale], {"dtype": "float32", "axis": axis}, part="bias/real")[0]


# contractions ---------------------------------------------------------------------------------------------------------


def qlinear_conv(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """x, w and y, each with scale and zero point (w's may be one for each output), then the bias."""
    x = _real(builder, node, inputs, 0, "x")
    weights = _real(builder, node, inputs, 3, "w", axis=0)
    last = flag(node, "channels_last")
    if last:
        x = _channels_first(builder, node, x)
    attrs = window_attributes(node, spatial_axes(node, weights)) | {"groups": integer(node, "group", 1)}
    scales = required(inputs, 1, "x_scale"), required(inputs, 4, "w_scale")
    bias = _bias(builder, node, present(inputs, 8), scales)
    (real,) = emit(builder, node, "Convolution", [x, weights, bias], attrs, part="sums")
    if last:
        real = _channels_last(builder, node, real)
    return _result(builder, node, real, inputs, 6)


def qlinear_mat_mul(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """a, b and y, each with scale and zero point: a's may be one for each row, b's one for each column.

    Scales of more axes, and a result with several, are computed as they are written.
    """
    scales = [required(inputs, i, name).info for i, name in ((1, "a_scale"), (4, "b_scale"), (6, "y_scale"))]
    if any(s.rank > 1 or s.dtype != "float32" for s in scales) or scales[2].shape not in {(), (1,)}:
        return exact_mat_mul(builder, node, inputs)
    a = _real(builder, node, inputs, 0, "a", axis=max(required(inputs, 0, "a").info.rank - 2, 0))
    b = _real(builder, node, inputs, 3, "b", axis=max(required(inputs, 3, "b").info.rank - 1, 0))
    (real,) = emit(builder, node, "MatrixMultiply", [a, b], part="product")
    return _result(builder, node, real, inputs, 6)


def qgemm(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """alpha * A' B' + C, where C counts in alpha times both scales; real numbers where y has no scale."""
    alpha, transposed = number(node, "alpha", 1.0), flag(node, "transB")
    a_scale, b_scale = required(inputs, 1, "a_scale"), required(inputs, 4, "b_scale")
    if alpha != 1.0:
        operands: list[Tensor | Array] = [b_scale, np.array(alpha, np.float32)]
        (b_scale,) = emit(builder, node, "Elementwise", operands, {"operation": "prod"}, part="b/scale")
    a = _real(builder, node, inputs, 0, "A")
    grid = (b_scale, required(inputs, 5, "b_zero_point"))
    b = _dequantized(builder, node, required(inputs, 3, "B"), grid, "B", axis=0 if transposed else 1)
    rank = max(0, (present(inputs, 6) or a).info.rank - 1)
    added = _bias(builder, node, present(inputs, 6), (a_scale, b_scale), axis=rank)
    real = _product(builder, node, (a, b, added), final=present(inputs, 7) is None)
    return [real] if present(inputs, 7) is None else _result(builder, node, real, inputs, 7, _first_dtype(inputs))


def _first_dtype(inputs: Inputs) -> str:
    """The element type of the first input, which a result without a zero point has too."""
    return required(inputs, 0, "the first").info.dtype


def _product(
    builder: GraphBuilder, node: SourceNode, operands: tuple[Tensor, Tensor, Tensor | None], final: bool
) -> Tensor:
    """A fully connected layer where it is one."""
    a, b, added = operands
    part = "" if final else "product"
    if flag(node, "transB") and not flag(node, "transA") and (added is None or added.info.rank == 1):
        return emit(builder, node, "FullyConnected", [a, b, added], part=part)[0]
    attrs = {"transpose_a": flag(node, "transA"), "transpose_b": flag(node, "transB")}
    (real,) = emit(builder, node, "MatrixMultiply", [a, b], attrs, part=part if added is None else "factors")
    if added is None:
        return real
    return emit(builder, node, "Elementwise", [real, added], {"operation": "sum"}, part=part)[0]


def mat_mul_integer_to_float(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A and B, their scales, their zero points, a real bias; B's scale may be one for each column."""
    first, second = required(inputs, 0, "A"), required(inputs, 1, "B")
    grids = [(required(inputs, 2 + i, name), present(inputs, 4 + i)) for i, name in enumerate(("a_scale", "b_scale"))]
    a = _dequantized(builder, node, first, grids[0], "A", axis=max(first.info.rank - 2, 0))
    b = _dequantized(builder, node, second, grids[1], "B", axis=max(second.info.rank - 1, 0))
    bias = present(inputs, 6)
    (real,) = emit(builder, node, "MatrixMultiply", [a, b], part="" if bias is None else "product")
    if bias is None:
        return [real]
    return list(emit(builder, node, "Elementwise", [real, bias], {"operation": "sum"}))


# one operand, or two that broadcast -----------------------------------------------------------------------------------


def _result(
    builder: GraphBuilder, node: SourceNode, real: Tensor, inputs: Inputs, first: int, dtype: str = "uint8"
) -> list[Tensor]:
    """Quantized per tensor, by the scale and zero point that begin at an input. dtype: where there is no zero point."""
    scale, zero = required(inputs, first, "the result's scale"), present(inputs, first + 1)
    kind = zero.info.dtype if zero is not None else dtype
    operands = _parameters(builder, node, scale, zero, kind, "result")
    return list(emit(builder, node, "Quantize", [real, *operands], {"dtype": kind}))


def _elementwise(operation: str) -> LayerMapping:
    """A, B and the result, each with scale and zero point."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        operands = [_real(builder, node, inputs, 0, "A"), _real(builder, node, inputs, 3, "B")]
        (real,) = emit(builder, node, "Elementwise", operands, {"operation": operation}, part=operation)
        return _result(builder, node, real, inputs, 6, _first_dtype(inputs))

    return mapping


Compute = Callable[[GraphBuilder, SourceNode, Tensor], Tensor]


def _single(compute: Compute) -> LayerMapping:
    """X and Y, each with scale and zero point, and a function of real numbers between them."""

    def mapping(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
        real = compute(builder, node, _real(builder, node, inputs, 0, "X"))
        return _result(builder, node, real, inputs, 3, _first_dtype(inputs))

    return mapping


def _activation(function: str) -> Compute:
    def compute(builder: GraphBuilder, node: SourceNode, x: Tensor) -> Tensor:
        attrs = {"function": function, "alpha": optional_number(node, "alpha")}
        return emit(builder, node, "Activation", [x], attrs, part="function")[0]

    return compute


def _softmax(builder: GraphBuilder, node: SourceNode, x: Tensor) -> Tensor:
    """As the Softmax of the operator set that the attribute names."""
    inner = msgspec.structs.replace(node, name=f"{node.name}/softmax", version=integer(node, "opset"))
    return softmax(builder, inner, [x])[0]


def _mean(builder: GraphBuilder, node: SourceNode, x: Tensor) -> Tensor:
    axes = optional_integers(node, "axes")
    attrs = {"operation": "mean", "axes": axes, "keep_dims": flag(node, "keepdims", True)}
    return emit(builder, node, "Reduce", [x], attrs, part="mean")[0]


def _image(compute: Compute) -> Compute:
    """Channels come last where the node says so."""

    def around(builder: GraphBuilder, node: SourceNode, x: Tensor) -> Tensor:
        if not flag(node, "channels_last"):
            return compute(builder, node, x)
        return _channels_last(builder, node, compute(builder, node, _channels_first(builder, node, x)))

    return around


def _global_average(builder: GraphBuilder, node: SourceNode, x: Tensor) -> Tensor:
    attrs = {"operation": "mean", "axes": tuple(range(2, x.info.rank)), "keep_dims": True}
    return emit(builder, node, "Reduce", [x], attrs, part="mean")[0]


def _average(builder: GraphBuilder, node: SourceNode, x: Tensor) -> Tensor:
    window = integers(node, "kernel_shape")
    attrs: dict[str, Any] = window_attributes(node, len(window)) | {
        "function": "average",
        "window": window,
        "ceil": flag(node, "ceil_mode"),
        "count_includes_padding": flag(node, "count_include_pad"),
    }
    return emit(builder, node, "Pooling", [x], attrs, part="average")[0]


def _channels_first(builder: GraphBuilder, node: SourceNode, x: Tensor) -> Tensor:
    order = (0, x.info.rank - 1, *range(1, x.info.rank - 1))
    return emit(builder, node, "Transpose", [x], {"permutation": order}, part="channels_first")[0]


def _channels_last(builder: GraphBuilder, node: SourceNode, x: Tensor) -> Tensor:
    order = (0, *range(2, x.info.rank), 1)
    return emit(builder, node, "Transpose", [x], {"permutation": order}, part="channels_last")[0]


# several operands -----------------------------------------------------------------------------------------------------


def qlinear_concat(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Scale and zero point of the result, then the tensors, each with its own."""
    count, rest = divmod(len(inputs) - 2, 3)
    if count < 1 or rest:
        raise ParseError(f"has {len(inputs)} inputs; the result's scale and zero point and three for each tensor")
    reals = [_real(builder, node, inputs, 2 + 3 * i, f"tensor {i}") for i in range(count)]
    (real,) = emit(builder, node, "Concatenation", reals, {"axis": integer(node, "axis")}, part="joined")
    return _result(builder, node, real, inputs, 0)


def qlinear_where(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The condition, X, Y and the result, the last three each with scale and zero point."""
    reals: Sequence[Tensor] = [_real(builder, node, inputs, 1, "X"), _real(builder, node, inputs, 4, "Y")]
    (real,) = emit(builder, node, "Select", [required(inputs, 0, "condition"), *reals], part="select")
    return _result(builder, node, real, inputs, 7)


qlinear_add = _elementwise("sum")
qlinear_mul = _elementwise("prod")
qlinear_leaky_relu = _single(_activation("leaky_relu"))
qlinear_sigmoid = _single(_activation("sigmoid"))
qlinear_softmax = _single(_softmax)
qlinear_reduce_mean = _single(_mean)
qlinear_average_pool = _single(_image(_average))
qlinear_global_average_pool = _single(_image(_global_average))
